"""Where the files of a table lie: a folder of the local disk, or an object store, by the table's address."""

import os
from contextlib import suppress
from pathlib import Path
from typing import Protocol

import obstore
import pyarrow as pa
from obstore.store import ObjectStore, from_url

from foretaste.kernel.files import flush_to_disk, make_folder
from foretaste.kernel.ports import Clock

COMMITS = "_delta_log"
"""The folder of a table's commits."""
LEFT_BEHIND = 3600.0
"""Seconds after which a commit that is still being written was left by a writer that died."""


class TableFiles(Protocol):
    """The files of one table, by their paths in it. `OSError` and `obstore.exceptions.BaseError`: they are away."""

    readers: int
    """Files that are worth reading at once."""

    def put(self, path: str, data: pa.Buffer) -> None:
        """Write a file that nobody knows of yet; durable on return."""
        ...

    def open(self, path: str) -> pa.NativeFile:
        """Raises `FileNotFoundError` where there is none."""
        ...

    def settle(self, version: int) -> None:
        """Make the commits from `version` on durable, and checkpoints made meanwhile."""
        ...

    def sweep(self, now: Clock) -> None:
        """Remove what killed writers left of commits that never were."""
        ...


class LocalFiles:
    """A folder. delta-rs leaves what it writes to the page cache, so commits are made durable here."""

    readers = 1

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def put(self, path: str, data: pa.Buffer) -> None:
        target = self._folder / path
        make_folder(target.parent)
        try:
            with target.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        except OSError:
            target.unlink(missing_ok=True)
            raise
        flush_to_disk(target.parent)
        flush_to_disk(self._folder)

    def open(self, path: str) -> pa.NativeFile:
        return pa.OSFile(str(self._folder / path), "r")

    def settle(self, version: int) -> None:
        commits = self._folder / COMMITS
        while (commit := commits / f"{version:020}.json").exists():
            flush_to_disk(commit)
            _sync_if_there(commits / f"{version:020}.checkpoint.parquet")
            version += 1
        _sync_if_there(commits / "_last_checkpoint")
        flush_to_disk(commits)
        flush_to_disk(self._folder)  # which delta-rs made the folder of commits in

    def sweep(self, now: Clock) -> None:
        for path in (self._folder / COMMITS).glob("*#*"):  # how delta-rs calls a commit until it is linked to its name
            with suppress(FileNotFoundError):  # its writer was done meanwhile
                if now() - path.stat().st_mtime > LEFT_BEHIND:
                    path.unlink()


class RemoteFiles:
    """An object store (S3, GCS, Azure), which answers a write once it is durable."""

    readers = 16

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    def put(self, path: str, data: pa.Buffer) -> None:
        obstore.put(self._store, path, data.to_pybytes())

    def open(self, path: str) -> pa.NativeFile:
        return pa.BufferReader(pa.py_buffer(obstore.get(self._store, path).bytes()))

    def settle(self, version: int) -> None:
        """Nothing to do."""

    def sweep(self, now: Clock) -> None:
        """Nothing to do: an upload that was broken off is no object."""


def is_remote(address: str) -> bool:
    """Whether an address names an object store and not a folder."""
    return "://" in address


def table_address(address: str, path: str) -> str:
    """The address of a table at `path` (relative) under an address."""
    return f"{address.rstrip('/')}/{path}"


def table_files(address: str) -> TableFiles:
    """The files of the table at `address`; credentials are those of the environment, as delta-rs reads them."""
    return RemoteFiles(from_url(address)) if is_remote(address) else LocalFiles(Path(address))


def _sync_if_there(path: Path) -> None:
    if path.exists():
        flush_to_disk(path)
