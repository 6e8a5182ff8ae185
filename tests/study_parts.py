"""Methods that learn nothing, so that the evaluation around them is tested by itself; and what to ask of them."""

from dataclasses import dataclass, field, replace
from functools import cache

import numpy as np
import numpy.typing as npt

from foretaste.kernel.errors import InvalidInput
from models.data.examples import Batch
from models.data.vocabulary import item_counts
from models.rivals.methods import Material
from models.study.fold import Fold
from tests.towers_factory import dataset


@dataclass(frozen=True, eq=False)
class ByTable:
    """Scores an item by a table (items,), and a little by the user and by how much the batch shows."""

    table: npt.NDArray[np.float64]

    def scores(self, batch: Batch) -> npt.NDArray[np.float64]:
        found: npt.NDArray[np.float64] = (
            self.table[batch.candidates] + 0.01 * batch.seen[batch.owner] + 0.001 * batch.users[batch.owner]
        )
        return found


@dataclass(frozen=True)
class Popular:
    """By how often an item was met in training, to some power; `fits` (not a setting) hears of each fit."""

    power: float = 1.0
    noise: float = 0.0
    fits: list[int] = field(default_factory=list, repr=False, compare=False)

    def fit(self, material: Material) -> ByTable:
        self.fits.append(material.seed)
        counts = item_counts(material.dataset, material.encoding, material.split.instant_ms)
        noise = self.noise * np.random.default_rng(material.seed).random(len(counts))
        return ByTable(np.power(counts + 1.0, self.power) + noise)

    def trials(self) -> list["Popular"]:
        return [self, Popular(0.5, 5.0), Popular(-1.0), Popular(2.0, 5.0), Popular(0.1)]


@dataclass(frozen=True)
class Lame:
    """Has too few trials."""

    def fit(self, material: Material) -> ByTable:
        return Popular().fit(material)

    def trials(self) -> list["Lame"]:
        return [self]


@dataclass(frozen=True)
class Refusing(Popular):
    """Fails where it is fitted."""

    def fit(self, material: Material) -> ByTable:
        raise InvalidInput("power", 3, "cannot be 3")


def popular() -> Popular:
    return Popular()


def noisy() -> Popular:
    return Popular(noise=40.0)


def backwards() -> Popular:
    return Popular(-1.0)


POPULAR, NOISY, BACKWARDS, LAME = (f"tests.study_parts:{name}" for name in ("popular", "noisy", "backwards", "Lame"))


@cache
def fold(*, labels: bool = False) -> Fold:
    return Fold.of(dataset(labels=labels)[0])


def with_garbage(of: Fold) -> Fold:
    """The fold of data whose events at or after the instant name other users and other items."""
    frame = of.dataset.interactions.copy()
    late = (frame["time_ms"] >= of.split.instant_ms).to_numpy()
    rng = np.random.default_rng(9)
    for column in ("user_id", "item_id"):
        values = frame[column].to_numpy().copy()
        values[late] = rng.choice(
            of.dataset.users["user_id"] if column == "user_id" else of.dataset.items["item_id"], late.sum()
        )
        frame[column] = values
    return Fold.of(replace(of.dataset, interactions=frame), of.split.instant_ms)
