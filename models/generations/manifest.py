"""A generation as files: `generations/<number>/`, written whole or not at all, every file under its hash.

manifest.json        what follows, in short: sizes, metrics, hashes, where it came from
encoding.json        vocabularies and bins
zero_shot.onnx       the zero-shot tower's serving form
ranking.onnx         the ranking tower's
weights.safetensors  all parameters, for a later training run to start from
popularity.json      each item's share of the training interactions
probes.json          raw requests with the answers of the served towers in torch, to be asked again elsewhere
questions.npz        what acts and answers tell of taste, where new users are asked
retrieval.npz        the index over its items
counts.npz           what was counted of the log, for a later run to add to
counted.npz          who is in the counts, by digest; first_counts.npz: what the first training counted
profile.json         how attributes and behaviour were distributed, to tell drift by
map.json             real and virtual behaviour of some users on one plane

Counts, who is in them, and profile are there where the training made them; an artifact of an earlier version has no
probes, no map, and no index, which is made when it is published.
"""

import hashlib
import json
import math
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from foretaste.kernel.errors import DamagedArtifact
from foretaste.kernel.files import verify
from foretaste.kernel.generations import Generation, slot
from models.runtime import layout

Metric = Annotated[float, BeforeValidator(lambda value: math.nan if value is None else value)]
"""JSON has no nan: null stands for it."""


class Manifest(BaseModel):
    """`manifest.json`: what a generation is, where it came from, and the hash of each of its files."""

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
    """Greatest difference between the served towers in torch and as exported."""
    files: dict[str, str]
    """sha256 of every other file."""


def hash_json(value: Any) -> str:
    """sha256 of a JSON value, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


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
    return number + 1 if active is not None and slot(number) == slot(active) else number


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a folder. Raises `DamagedArtifact` for one that is missing or malformed."""
    path = folder / layout.MANIFEST
    try:
        return Manifest.model_validate_json(path.read_bytes())
    except OSError as error:
        raise DamagedArtifact(f"{path} cannot be read: {error.strerror}") from error
    except ValidationError as error:
        raise DamagedArtifact(f"{path} is malformed: {error.errors(include_url=False)[0]['msg']}") from error


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
        profile=(folder / layout.PROFILE).read_text(encoding="utf-8") if layout.PROFILE in manifest.files else "",
    )
    popularity: dict[str, float] = json.loads((folder / layout.POPULARITY).read_text(encoding="utf-8"))
    return generation, popularity
