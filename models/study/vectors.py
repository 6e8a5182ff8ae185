"""What the figures draw of trained towers: the losses of each step, and real and virtual behaviour of some users."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from models.data.examples import encode_users
from models.data.histories import Histories
from models.evaluation.curves import by_step
from models.rivals.methods import Material
from models.rivals.towers import ABSENT, TowerRanker
from models.runtime.encoding import IndexArray
from models.study.fold import SEED, Fold
from models.towers.behaviour import condense

MOST_USERS = 500
"""Of each group."""

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Vectors:
    """`names` (P,) of the losses and their values at each of T steps, `losses` (T, P), nan where a step had none.

    Of at most `MOST_USERS` old and new users each: `old_real` and `new_real` (U, M·D), behaviour before the split and
    of the new users all of it; `old_virtual` and `new_virtual` (U, M·D); `old_attributes` and `new_attributes` (U, D),
    what the zero-shot tower attends to. (0, 0) where there is no zero-shot tower.
    """

    names: npt.NDArray[np.str_]
    losses: Floats
    old_real: Floats
    old_virtual: Floats
    old_attributes: Floats
    new_real: Floats
    new_virtual: Floats
    new_attributes: Floats

    def arrays(self) -> dict[str, npt.NDArray[np.generic]]:
        return {one.name: getattr(self, one.name) for one in fields(self)}

    @classmethod
    def read(cls, path: Path) -> "Vectors":
        with np.load(path) as kept:
            return cls(**{one.name: kept[one.name] for one in fields(cls)})


def vectors(ranker: TowerRanker, fold: Fold, material: Material) -> Vectors:
    """The vectors of towers trained on `material`, which is of `fold`."""
    names, losses = by_step(ranker.losses)
    made: dict[str, npt.NDArray[Any]] = {"names": np.array(names, dtype=np.str_), "losses": losses}
    rng = np.random.default_rng(SEED)
    old = fold.dataset.user_rows(fold.split.train["user_id"].drop_duplicates())
    new = fold.dataset.user_rows(fold.split.cold_users)
    everything = Histories.of(fold.dataset, fold.encoding)
    end = int(fold.dataset.interactions["time_ms"].iloc[-1]) + 1
    for group, users, until in (("old", old, fold.split.instant_ms), ("new", new, end)):
        chosen = np.sort(rng.permutation(users)[:MOST_USERS])
        items, actions, _ = everything.before(chosen, np.full(len(chosen), until))
        parts = _of_users(ranker, encode_users(fold.dataset, fold.encoding)[chosen], items, actions)
        made |= {f"{group}_{name}": part for name, part in parts.items()}
    return Vectors(**made)


def _of_users(ranker: TowerRanker, attributes: IndexArray, items: IndexArray, actions: IndexArray) -> dict[str, Floats]:
    """`real`, `virtual` and `attributes` of U users with `attributes` (U, N) and behaviour (U, L)."""
    if ranker.trained.config.architecture.zero_shot == ABSENT or not len(attributes):
        return dict.fromkeys(("real", "virtual", "attributes"), np.zeros((0, 0), dtype=np.float32))
    model = ranker.trained.model
    virtual = ranker.virtual(attributes)
    with torch.inference_mode():
        behaviour, valid = model.embeddings.behaviour(ranker.tensor(items), ranker.tensor(actions))
        embedded = model.embeddings.attributes(ranker.tensor(attributes))
        found = {
            "real": condense(behaviour, valid, virtual.shape[1]),
            "virtual": virtual,
            "attributes": _attended(model.zero_shot, embedded),
        }
    return {name: part.flatten(1).cpu().numpy() for name, part in found.items()}


def _attended(zero_shot: nn.Module, attributes: Tensor) -> Tensor:
    """hᵃ of eq. 1 (U, D); the mean where a tower pools its attributes in another way."""
    attend = getattr(zero_shot, "attend_attributes", None)
    return attributes.mean(dim=1) if attend is None else cast("Tensor", attend(attributes))
