"""A generation's files back to what its training left, for a later run to start from and for the gate to compare."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from pydantic import TypeAdapter, ValidationError
from safetensors.torch import load_file

from foretaste.kernel.configuration import invalid_input
from foretaste.kernel.errors import DamagedArtifact
from foretaste.kernel.files import verify
from models.effects.state import SavedCounts
from models.generations.manifest import Manifest, read_manifest
from models.runtime import layout
from models.runtime.answers import AskedItems
from models.runtime.encoding import FIRST_KNOWN, Encoding
from models.towers.architecture import TowerPair, build_towers
from models.towers.embeddings import Sizes
from models.training.config import TrainingConfig
from models.training.trained import Trained

_READ = (layout.ENCODING, layout.WEIGHTS, layout.POPULARITY)


def restore(folder: Path) -> Trained:
    """The trained towers of the generation in a folder, bit for bit, without the losses of their training.

    Raises `DamagedArtifact` for a file that is missing or is not what the manifest says, and `InvalidInput` for a
    training configuration that cannot be, such as a tower of one's own that cannot be imported here.
    """
    manifest = read_manifest(folder)
    missing = [name for name in _READ if name not in manifest.files]
    if missing:
        raise DamagedArtifact(f"{folder / layout.MANIFEST} names no {missing[0]}")
    others = [name for name in (layout.COUNTS, layout.QUESTIONS) if name in manifest.files]
    verify(folder, {name: manifest.files[name] for name in (*_READ, *others)})
    served = Encoding.from_json((folder / layout.ENCODING).read_text(encoding="utf-8"))
    encoding = served.as_training_has_it()
    config = training_config_of(manifest.training)
    return Trained(
        model=_towers(folder, encoding, config),
        encoding=encoding,
        config=config,
        mean_virtual=np.array(manifest.mean_virtual, dtype=np.float32),
        popularity=_popularity(folder, encoding),
        split_ms=manifest.split_ms,
        counts=_counts(folder, manifest),
        asked=AskedItems.read(folder / layout.QUESTIONS, served.questions) if layout.QUESTIONS in others else None,
    )


def training_config_of(training: Mapping[str, Any]) -> TrainingConfig:
    """The configuration of which `TrainingConfig.to_dict` gave `training`, perhaps in another version.

    A field that this version does not have is passed over; one that it did not have yet is as it is by default. Raises
    `InvalidInput` naming the field and the value.
    """
    try:
        return TypeAdapter(TrainingConfig).validate_python(dict(training), extra="ignore")
    except ValidationError as error:
        raise invalid_input(error, "training") from error


def _towers(folder: Path, encoding: Encoding, config: TrainingConfig) -> TowerPair:
    """In eval mode, on the CPU; torch's own generator stays as it is."""
    path = folder / layout.WEIGHTS
    with torch.random.fork_rng(devices=[]):
        model = build_towers(Sizes.of(encoding), torch.from_numpy(encoding.item_features), config.architecture)
    try:
        model.load_state_dict(load_file(path))
    except RuntimeError as error:
        raise DamagedArtifact(f"{path} does not hold the weights of these towers: {error}") from error
    return model.eval()


def _popularity(folder: Path, encoding: Encoding) -> npt.NDArray[np.float64]:
    """(item_count,)."""
    path = folder / layout.POPULARITY
    shares: dict[str, float] = json.loads(path.read_text(encoding="utf-8"))
    if shares.keys() != set(encoding.items):
        raise DamagedArtifact(f"{path} is of other items than {layout.ENCODING}")
    return np.array([0.0] * FIRST_KNOWN + [shares[item] for item in encoding.items])


def _counts(folder: Path, manifest: Manifest) -> SavedCounts | None:
    return SavedCounts.load(folder / layout.COUNTS) if layout.COUNTS in manifest.files else None
