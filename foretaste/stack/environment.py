"""Triton's own environment: the server's binary from its wheel, numpy below 2, ONNX Runtime and faiss, apart.

`python -m foretaste.stack.environment HOME` makes it ahead of need, with nothing installed but the standard library.
"""

import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from foretaste.kernel.errors import NotOnThisMachine, Unavailable
from foretaste.stack.machine import Machine, available_parts, this_machine
from foretaste.stack.processes import spawn
from foretaste.stack.progress import Report

REQUIREMENTS = Path(__file__).with_name("triton-constraints.txt")
MARKER = "complete"
NAME = "triton-env"
STEP = "Triton's environment (107 MB to download, 400 MB on disk)"
_HIDDEN = ("PYTHONHOME", "PYTHONPATH", "PIP_TARGET", "PIP_PREFIX", "PIP_USER", "PIP_CONSTRAINT", "PIP_REQUIREMENT")
"""Variables that would send the packages elsewhere, or bring others."""


@dataclass(frozen=True)
class TritonEnvironment:
    """A finished environment, at `path`."""

    path: Path

    @property
    def bin(self) -> Path:
        return self.path / "bin"

    @property
    def site_packages(self) -> Path:
        return next((self.path / "lib").glob("python3.*")) / "site-packages"

    @property
    def server(self) -> Path:
        return self.site_packages / "pytriton" / "tritonserver" / "bin" / "tritonserver"

    @property
    def libraries(self) -> Path:
        return self.site_packages / "nvidia_pytriton.libs"

    def install_backend(self, folder: Path) -> None:
        """Copy the Python backend, and the stub of this environment's Python, to `folder`.

        The wheel keeps them apart and the server wants them together.
        """
        source = self.site_packages / "pytriton" / "tritonserver"
        backend = folder / "python"
        version = self.site_packages.parent.name.removeprefix("python")
        shutil.rmtree(backend, ignore_errors=True)
        shutil.copytree(source / "backends" / "python", backend, ignore=shutil.ignore_patterns("__pycache__"))
        stub = shutil.copy(source / "python_backend_stubs" / version / "triton_python_backend_stub", backend)
        Path(stub).chmod(0o755)


def ensure_triton_environment(home: Path, report: Report, machine: Machine | None = None) -> TritonEnvironment:
    """The environment under `home/triton-env`, made when it is missing, cut short or of other versions.

    A link to a finished one will do; a link to anything else is replaced, and what it points to left alone.

    About 20 s and 400 MB, of which 107 MB are downloaded. Two processes do not make it at once: the second waits.
    Raises `NotOnThisMachine` where there is no wheel, `Unavailable` with pip's last lines when pip fails.
    """
    machine = machine or this_machine()
    triton = next(each for each in available_parts(machine) if each.part == "triton")
    if not triton.available or machine.triton_python is None:
        raise NotOnThisMachine(f"triton: {triton.reason}")
    path = home.resolve() / NAME
    fingerprint = sha256(REQUIREMENTS.read_bytes()).hexdigest()
    if not _complete(path, fingerprint):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _lock(path.with_suffix(".lock"), report) as lock:
            if not _complete(path, fingerprint):
                _make(path, machine.triton_python, lock, report)
                (path / MARKER).write_text(fingerprint, encoding="ascii")
    return TritonEnvironment(path)


def _complete(path: Path, fingerprint: str) -> bool:
    """The marker is written last, so a killed install has none; an interpreter may have been removed since."""
    marker = path / MARKER
    return marker.exists() and marker.read_text(encoding="ascii") == fingerprint and (path / "bin" / "python").exists()


def _make(path: Path, python: str, lock: int, report: Report) -> None:
    total = sum("==" in line for line in REQUIREMENTS.read_text(encoding="utf-8").splitlines()) + 2
    report(STEP, 0, total)
    if path.is_symlink():
        path.unlink()  # what it points to is not this home's to remake
    shutil.rmtree(path, ignore_errors=True)
    for _ in _lines([python, "-m", "venv", str(path)], path.parent, lock):
        continue
    done = 1
    report(STEP, done, total)
    install = ["install", "--no-deps", "--only-binary", ":all:", "--disable-pip-version-check", "--no-input"]
    for line in _lines([str(path / "bin" / "python"), "-m", "pip", *install, "-r", str(REQUIREMENTS)], path, lock):
        if line.startswith(("Collecting ", "Processing ")):
            done = min(done + 1, total - 1)
            report(STEP, done, total)
    report(STEP, total, total)


def _lines(command: list[str], cwd: Path, lock: int) -> Iterator[str]:
    """The output of a command by line; it ends with this process. Raises `Unavailable` when it fails."""
    env = {name: value for name, value in os.environ.items() if name not in _HIDDEN}
    child = spawn(command, env=env, cwd=cwd, output=subprocess.PIPE, lock=lock)
    last: list[str] = []
    try:
        for raw in child.output:
            line = raw.decode(errors="replace").strip()
            if line:
                last = [*last[-19:], line]
                yield line
    finally:
        child.stop()
    status = child.wait(timeout=5)
    if status != 0:
        output = "\n".join(last)
        raise Unavailable("triton", f"its environment could not be made: {command[2]} ended with {status}\n{output}")


@contextmanager
def _lock(path: Path, report: Report) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            report(f"{STEP}, made by another process", 0, None)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield descriptor
    finally:
        os.close(descriptor)


def _main(home: str) -> int:
    """The exit status: 0 also where Triton cannot be had, since something else runs instead; 1 when it failed."""

    def tell(step: str, done: int, total: int | None) -> None:
        sys.stdout.write(f"{step}: {done} of {total or '?'}\n")
        sys.stdout.flush()

    try:
        ensure_triton_environment(Path(home), tell)
    except NotOnThisMachine as error:
        sys.stdout.write(f"{error}\n")
    except Unavailable as error:
        first, *output = str(error).splitlines()
        sys.stderr.write(f"{': '.join([first, *output[-1:]])}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1]))
