"""Files and folders that are written whole or not at all."""

import errno
import hashlib
import math
import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from foretaste.kernel.errors import DamagedArtifact, ForetasteError, Unavailable
from foretaste.kernel.ports import Clock

LEFT_BEHIND = 24 * 3600.0
"""Seconds after which an unfinished folder or file has no writer any more."""


_NO_ROOM = {errno.ENOSPC, errno.EDQUOT}


_UNFINISHED = re.compile(r"\.(\d+|config)\.[^.]+")


class AlreadyThere(ForetasteError):
    """Somebody else wrote the same folder meanwhile."""


def make_folder(folder: Path) -> None:
    """Make a folder and those above it that are missing; the names of those that are made here are on the disk then.

    Raises `OSError`.
    """
    missing: list[Path] = []
    above = folder
    while not above.is_dir():
        missing.append(above)
        above = above.parent
    for each in reversed(missing):
        each.mkdir(exist_ok=True)  # another process may be at it too
        flush_to_disk(each.parent)


def flush_to_disk(path: Path) -> None:
    """Bring a file, or the names in a folder, to the disk. Raises `OSError`."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def naming_a_full_disk(folder: Path) -> Iterator[None]:
    """A disk without room for what is written inside becomes `Unavailable`, which names `folder`."""
    try:
        yield
    except OSError as error:
        if error.errno not in _NO_ROOM:
            raise
        raise Unavailable("disk", f"no room is left in {folder}: {error.strerror}") from error


def write_whole(target: Path, fill: Callable[[Path], None]) -> None:
    """Make the folder `target` by filling a temporary one beside it and renaming that: readers see all or nothing.

    1. the temporary folder is filled; 2. its files are flushed to the disk; 3. it is renamed. A failure or a crash
    before 3 leaves `target` as it was. Raises `AlreadyThere` where `target` came to exist meanwhile, and `Unavailable`
    when the disk is full. What a crash leaves of the temporary folder is `sweep`'s.
    """
    with naming_a_full_disk(target.parent):
        make_folder(target.parent)
        unfinished = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
        try:
            fill(unfinished)
            for path in unfinished.rglob("*"):
                flush_to_disk(path)
            unfinished.chmod(0o755)  # mkdtemp lets nobody else in, and Triton may run as another user
            flush_to_disk(unfinished)
            _rename(unfinished, target)
            flush_to_disk(target.parent)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)


def write_file(target: Path, text: str) -> None:
    """Make or replace the file `target`: readers see it as it was, or all of the new one.

    1. a temporary file beside it is written, and flushed to the disk; 2. it is renamed. A failure leaves `target` as it
    was, and nothing beside it. Raises `Unavailable` when the disk is full.
    """
    with naming_a_full_disk(target.parent):
        make_folder(target.parent)
        descriptor, name = tempfile.mkstemp(prefix=f".{target.name.partition('.')[0]}.", dir=target.parent)
        unfinished = Path(name)
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            unfinished.chmod(0o644)  # mkstemp lets nobody else read, and Triton may run as another user
            unfinished.replace(target)
            flush_to_disk(target.parent)
        finally:
            unfinished.unlink(missing_ok=True)


def _rename(unfinished: Path, target: Path) -> None:
    try:
        unfinished.rename(target)
    except OSError as error:
        if error.errno not in {errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR}:
            raise
        raise AlreadyThere(f"{target} was written by someone else meanwhile") from error


def remove_whole(target: Path) -> None:
    """Take the folder `target` away at once, then delete it: readers see all or nothing. A missing one is fine."""
    doomed = target.with_name(f".{target.name}.{secrets.token_hex(4)}")  # a name alone: the disk may be full
    with suppress(FileNotFoundError):
        target.rename(doomed)
        flush_to_disk(target.parent)
    shutil.rmtree(doomed, ignore_errors=True)


def sweep(folder: Path, clock: Clock) -> None:
    """Remove what killed writers left beside the numbered folders of `folder`, once it is older than `LEFT_BEHIND`."""
    for path in folder.iterdir() if folder.is_dir() else ():
        if _UNFINISHED.fullmatch(path.name) is None or clock() - _changed(path) <= LEFT_BEHIND:
            continue
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def hash_file(path: Path) -> str:
    """sha256 of a file. Raises `DamagedArtifact` where it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DamagedArtifact(f"{path} cannot be read: {error.strerror}") from error


def verify(folder: Path, hashes: Mapping[str, str]) -> None:
    """Compare the named files of a folder with their sha256. Raises `DamagedArtifact` for one that differs."""
    for name, expected in hashes.items():
        found = hash_file(folder / name)
        if found != expected:
            raise DamagedArtifact(f"{folder / name} has the sha256 {found}, but its manifest says {expected}")


def _changed(path: Path) -> float:
    """The time of the last write, in seconds since the epoch; infinity for a file that went away meanwhile."""
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return math.inf
