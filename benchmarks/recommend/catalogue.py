"""A generation whose catalogue is as large as one likes, with the structure of a real one.

The towers are trained on real data. Each item of the larger catalogue is a noisy copy of one of the real items, which
are the centres of its clusters; a cluster is as large as its item is popular. White noise would be no test of an index:
all items would be about equally far from everybody.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from models.data.dataset import Dataset
from models.data.sources.public import open_dataset
from models.data.split import split_by_time
from models.generations.export import export
from models.runtime.encoding import FIRST_KNOWN
from models.towers.architecture import Architecture, build_towers
from models.towers.embeddings import Sizes
from models.training.config import TrainingConfig
from models.training.cotrain import cotrain
from models.training.trained import Trained

NOISE = 0.5
"""Of each number of an item, in standard deviations of that number over the real items."""
NUMBERS = Architecture(dimension=32, virtual_vectors=1)
"""32 numbers an item and a user."""
_ITEM_AXES = {
    "embeddings.items.weight": 0,
    "ranking.keys": 0,
    "ranking.biases": 1,
    "ranking.age_biases": 1,
    "ranking.transitions.sources": 0,
    "ranking.transitions.targets": 0,
}
"""Tables with a row or a column an item, and which axis that is."""


def export_catalogue(data: Path, name: str, items: int, generations: Path, number: int) -> tuple[Trained, Dataset]:
    """Write a generation of so many items under `generations`; its towers and the data that they were trained on."""
    dataset = open_dataset(name, data)
    config = TrainingConfig(architecture=NUMBERS, device="cpu").with_epochs(1)
    trained = cotrain(dataset, split_by_time(dataset), config, lambda _: None)
    larger = enlarged(trained, items, np.random.default_rng(0))
    export(larger, dataset, {}, generations, lowest=number)
    return larger, dataset


def enlarged(trained: Trained, items: int, rng: np.random.Generator) -> Trained:
    """The same towers for a catalogue of so many items."""
    encoding = trained.encoding
    shares = trained.popularity[FIRST_KNOWN:] + 1e-6
    centre = FIRST_KNOWN + rng.choice(len(encoding.items), items, p=shares / shares.sum())
    rows = np.concatenate([np.arange(FIRST_KNOWN), centre])
    larger = replace(
        encoding, items=tuple(f"item-{at}" for at in range(items)), item_features=encoding.item_features[rows]
    )
    model = build_towers(Sizes.of(larger), torch.from_numpy(larger.item_features), trained.config.architecture)
    state: dict[str, Any] = dict(trained.model.state_dict())
    for name, axis in _ITEM_AXES.items():
        state[name] = _copied(state[name], rows, rng, axis)
    state["embeddings.item_features"] = torch.from_numpy(larger.item_features)
    model.load_state_dict(state)
    popularity = trained.popularity[rows] * rng.random(len(rows))
    popularity[:FIRST_KNOWN] = 0
    shares = popularity / popularity.sum()
    return replace(trained, model=model.eval(), encoding=larger, popularity=shares, counts=None, asked=None)


def _copied(table: Tensor, rows: Any, rng: np.random.Generator, axis: int) -> Tensor:
    """Rows of a table, each with noise of its own but for those of padding and unknown."""
    values = np.moveaxis(table.detach().numpy(), axis, 0)
    found = values[rows]
    spread = values[FIRST_KNOWN:].std(axis=0)
    found[FIRST_KNOWN:] += NOISE * spread * rng.standard_normal(found[FIRST_KNOWN:].shape, dtype=np.float32)
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(found, 0, axis)))
