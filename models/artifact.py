"""A generation as files: `generations/<number>/`, written whole or not at all, every file under its hash.

manifest.json        what follows, in short: sizes, metrics, hashes, where it came from
encoding.json        vocabularies and bins
zero_shot.onnx       the zero-shot tower's serving form
ranking.onnx         the ranking tower's
weights.safetensors  all parameters, for a later training run to start from
popularity.json      each item's share of the training interactions
probes.json          raw requests with the answers of the towers as trained, to be asked again wherever they are served
counts.npz           what was counted of the log, for a later run to add to
profile.json         how attributes and behaviour were distributed, to tell drift by

The last two are there where the training made them, and an artifact of an earlier version has no probes.
"""

import errno
import hashlib
import json
import math
import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from foretaste.contracts import Generation
from foretaste.errors import ForetasteError, Unavailable
from foretaste.ports import Clock
from models import files

Metric = Annotated[float, BeforeValidator(lambda value: math.nan if value is None else value)]
"""JSON has no nan: null stands for it."""


LEFT_BEHIND = 24 * 3600.0
"""Seconds after which an unfinished folder or file has no writer any more."""
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT}
_UNFINISHED = re.compile(r"\.(\d+|config)\.[^.]+")


class DamagedArtifact(ForetasteError):
    """A file of a generation is missing, or is not what its manifest says."""


class AlreadyThere(ForetasteError):
    """Somebody else wrote the same folder meanwhile."""


class Manifest(BaseModel):
    """`manifest.json`."""

    model_config = ConfigDict(frozen=True, extra="ignore", ser_json_inf_nan="null")

    format: Literal[1] = 1
    number: Annotated[int, Field(ge=1)]
    created_at: str
    """ISO 8601, UTC."""
    dataset: str
    dataset_fingerprint: str
    split_ms: int
    """What lies before it was learned from; milliseconds since the epoch."""
    training: dict[str, Any]
    training_fingerprint: str
    warm_after: Annotated[int, Field(ge=1)]
    attributes: dict[str, str]
    context: dict[str, str]
    sizes: dict[str, int]
    """N, C, L, M, D, and the rows of the item and action tables."""
    mean_virtual: list[list[float]]
    metrics: dict[str, Metric]
    base: int | None = None
    """The generation whose weights training started from."""
    parity: float
    """Greatest difference between the towers as trained and as exported."""
    files: dict[str, str]
    """sha256 of every other file."""


def fingerprint(value: Any) -> str:
    """sha256 of a JSON value, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def hash_file(path: Path) -> str:
    """sha256 of a file. Raises `DamagedArtifact` where it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DamagedArtifact(f"{path} cannot be read: {error.strerror}") from error


def next_number(generations: Path) -> int:
    """1 + the highest generation there."""
    if not generations.is_dir():
        return 1
    return 1 + max((int(path.name) for path in generations.iterdir() if path.name.isdecimal()), default=0)


def next_free(highest_recorded: int, in_folder: int, active: int | None) -> int:
    """The lowest number above all that were ever recorded or written, in the slot that the active one does not use.

    Even and odd numbers share a slot each: a refresh never fills the one that serves.
    """
    number = max(highest_recorded, in_folder) + 1
    return number + 1 if active is not None and number % 2 == active % 2 else number


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
        target.parent.mkdir(parents=True, exist_ok=True)
        unfinished = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
        try:
            fill(unfinished)
            for path in unfinished.rglob("*"):
                _flush(path)
            unfinished.chmod(0o755)  # mkdtemp lets nobody else in, and Triton may run as another user
            _flush(unfinished)
            _rename(unfinished, target)
            _flush(target.parent)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)


def write_file(target: Path, text: str) -> None:
    """Make or replace the file `target`: readers see it as it was, or all of the new one.

    1. a temporary file beside it is written, and flushed to the disk; 2. it is renamed. A failure leaves `target` as it
    was, and nothing beside it. Raises `Unavailable` when the disk is full.
    """
    with naming_a_full_disk(target.parent):
        target.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(prefix=f".{target.name.partition('.')[0]}.", dir=target.parent)
        unfinished = Path(name)
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            unfinished.chmod(0o644)  # mkstemp lets nobody else read, and Triton may run as another user
            unfinished.replace(target)
            _flush(target.parent)
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
    """Take the folder `target` away at once, and then delete it: readers see all or nothing. None there is no error."""
    doomed = target.with_name(f".{target.name}.{secrets.token_hex(4)}")  # a name alone: the disk may be full
    with suppress(FileNotFoundError):
        target.rename(doomed)
        _flush(target.parent)
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


def _changed(path: Path) -> float:
    """When it was last written to, in seconds since the epoch; never, as it were, for one that went away meanwhile."""
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return math.inf


def read_manifest(folder: Path) -> Manifest:
    """Raises `DamagedArtifact` for one that is missing or malformed."""
    path = folder / files.MANIFEST
    try:
        return Manifest.model_validate_json(path.read_bytes())
    except OSError as error:
        raise DamagedArtifact(f"{path} cannot be read: {error.strerror}") from error
    except ValidationError as error:
        raise DamagedArtifact(f"{path} is malformed: {error.errors(include_url=False)[0]['msg']}") from error


def verify(folder: Path, hashes: Mapping[str, str]) -> None:
    """Compare the named files of a folder with their sha256. Raises `DamagedArtifact` for one that differs."""
    for name, expected in hashes.items():
        found = hash_file(folder / name)
        if found != expected:
            raise DamagedArtifact(f"{folder / name} has the sha256 {found}, but its manifest says {expected}")


def generation_record(folder: Path) -> tuple[Generation, dict[str, float]]:
    """What readers need to know of the generation in a folder, and each item's share of the training interactions.

    Raises `DamagedArtifact` for a file that is missing or is not what the manifest says.
    """
    manifest = read_manifest(folder)
    verify(folder, manifest.files)
    generation = Generation(
        number=manifest.number,
        warm_after=manifest.warm_after,
        attributes=manifest.attributes,
        context=manifest.context,
        mean_virtual=np.array(manifest.mean_virtual, dtype=np.float32),
        created_at=manifest.created_at,
        metrics=manifest.metrics,
        profile=(folder / files.PROFILE).read_text(encoding="utf-8") if files.PROFILE in manifest.files else "",
    )
    popularity: dict[str, float] = json.loads((folder / files.POPULARITY).read_text(encoding="utf-8"))
    return generation, popularity


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
