"""A real disk of a few kilobytes, where this machine lets us mount one."""

import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import pytest


@contextmanager
def tiny_disk(folder: Path, kilobytes: int) -> Iterator[Path]:
    """A file system with so much room, mounted on `folder`."""
    options = f"size={kilobytes}k"
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    subprocess.run(command, check=True, capture_output=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True, capture_output=True)  # noqa: S607


@cache
def mounts() -> bool:
    """Whether this machine lets us mount one."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            with tiny_disk(Path(folder), 64):
                return True
        except (OSError, subprocess.CalledProcessError):
            return False


needs_a_disk = pytest.mark.skipif(not mounts(), reason="mounts are refused here; the same is injected elsewhere")
