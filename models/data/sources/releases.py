"""A public data set that is fetched where it is wanted, checked, converted once and cached as a dataset folder.

Nothing of it is part of Foretaste. What was fetched is checked file by file, and what it becomes by a digest of the
tables, so that several forms of the same facts give the same folder.
"""

import hashlib
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeAlias

import pandas as pd
import yaml

from foretaste.kernel.errors import InvalidInput, Unavailable
from foretaste.kernel.files import AlreadyThere, remove_whole, write_whole
from foretaste.kernel.ports import Report
from models.data.description_file import DESCRIPTION
from models.data.schema import DatasetDescription
from models.data.sources.downloads import unpack

FILES = (DESCRIPTION, "users.parquet", "items.parquet", "interactions.parquet")

Origin: TypeAlias = Callable[[Path, Report], Path]
"""Brings an archive into a folder; raises `Unavailable` where it cannot."""


@dataclass(frozen=True, eq=False)
class ReleaseTables:
    """`users`, `items` and `interactions` as the release's description names their columns."""

    users: pd.DataFrame
    items: pd.DataFrame
    interactions: pd.DataFrame


@dataclass(frozen=True)
class Form:
    """One way in which a release is laid out: its folder in an archive, each file's sha256, and how they are read."""

    folder: str
    sha256: Mapping[str, str]
    parse: Callable[[Path], ReleaseTables]


@dataclass(frozen=True)
class Release:
    """A release: what it is, where it comes from in order, the forms it comes in, and its tables' `table_digest`."""

    description: DatasetDescription
    origins: Sequence[Origin]
    forms: Sequence[Form]
    digest: str


def fetch_release(release: Release, cache: Path, *, source: Path | None, progress: Report) -> Path:
    """The dataset folder of a release under `cache`, fetched and converted if it is not there yet.

    A folder in the cache is whole or not there: it is renamed into place. `source` is what the user has: an archive
    that an origin would bring, or the folder that it unpacks to; without it, the origins are tried one after another.
    Raises `InvalidInput` for a file that is not what it should be, naming both digests; and `Unavailable` when nothing
    could be reached.
    """
    folder = cache / release.description.name
    if _is_whole(folder):
        progress(f"{folder.name} is in the cache", 1, 1)
        return folder
    remove_whole(folder)  # a part of it, if anything
    progress(release.description.licence or release.description.name, 0, None)
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=cache) as temporary:
        work = Path(temporary)
        read = _from_archive if source is None else partial(_read, source)
        tables = read(release, work, progress)
        progress(f"convert {folder.name}", 0, None)
        _check("its converted tables", table_digest(tables), release.digest)
    with suppress(AlreadyThere):  # another process may have been faster
        write_whole(folder, lambda unfinished: _write(tables, release.description, unfinished))
    progress(f"convert {folder.name}", 1, 1)
    return folder


def _is_whole(folder: Path) -> bool:
    return all((folder / file).is_file() for file in FILES)


def table_digest(tables: ReleaseTables) -> str:
    """sha256 over the values of the tables, whatever file format or library version holds them."""
    digest = hashlib.sha256()
    for frame in (tables.users, tables.items, tables.interactions):
        for name in frame.columns:
            values = frame[name].astype(str).tolist()
            digest.update("\n".join([str(name), str(len(values)), *values, ""]).encode())
    return digest.hexdigest()


def _from_archive(release: Release, work: Path, progress: Report) -> ReleaseTables:
    """From the first origin that gives what it should; what the others said is told, and raised if all fail."""
    failures: list[str] = []
    for position, origin in enumerate(release.origins):
        place = work / f"origin-{position}"
        place.mkdir()
        try:
            return _read(origin(place, progress), release, place, progress)
        except (Unavailable, InvalidInput) as error:
            failures.append(str(error))
            progress(f"{error}; trying the next source", 0, None)
    raise Unavailable(release.description.name, f"{'; '.join(failures)}. Give a copy that you have with --source")


def _read(source: Path, release: Release, work: Path, progress: Report) -> ReleaseTables:
    """From an archive or an unpacked folder, every file's digest checked first."""
    if not source.exists():
        raise InvalidInput("source", str(source), "is not there")
    progress(f"check {source.name}", 0, None)
    members = [f"{form.folder}/{name}" for form in release.forms for name in form.sha256]
    top = source if source.is_dir() else unpack(source, members, work / "unpacked")
    for form in release.forms:
        for folder in (top / form.folder, top):
            if any((folder / name).is_file() for name in form.sha256):
                return _parse(form, folder, source)
    raise InvalidInput("source", str(source), f"holds none of {', '.join(members)}")


def _parse(form: Form, folder: Path, source: Path) -> ReleaseTables:
    for name, expected in form.sha256.items():
        if not (folder / name).is_file():
            raise InvalidInput("source", str(source), f"lacks {form.folder}/{name}")
        with (folder / name).open("rb") as file:
            _check(f"{source.name}: {name}", hashlib.file_digest(file, "sha256").hexdigest(), expected)
    return form.parse(folder)


def _check(what: str, found: str, expected: str) -> None:
    if found != expected:
        raise InvalidInput(what, found, f"must have the sha256 {expected}; it was cut short or changed")


def _write(tables: ReleaseTables, description: DatasetDescription, folder: Path) -> None:
    tables.users.to_parquet(folder / "users.parquet", index=False)
    tables.items.to_parquet(folder / "items.parquet", index=False)
    tables.interactions.to_parquet(folder / "interactions.parquet", index=False)
    text = yaml.safe_dump(description.model_dump(mode="json", exclude_none=True), sort_keys=False, allow_unicode=True)
    (folder / DESCRIPTION).write_text(text, encoding="utf-8")
