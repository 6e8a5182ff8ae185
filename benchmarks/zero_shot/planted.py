"""Users and items whose tastes are known: what attributes tell of which items is planted, and can be looked for."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from models.data.dataset import Dataset
from models.data.schema import DatasetDescription

Doubles = npt.NDArray[np.float64]
Numbers = npt.NDArray[np.int64]

VALUES = (2, 8, 20, 50, 100, 1000)
"""Of each attribute of a user."""
DIRECTIONS = 8
KINDS = 2000
"""Values of the one attribute of an item."""
OF_KIND = 0.5
"""Of an item's key, what its kind tells; the rest is its own."""
SHOWN = 16
"""Items drawn by popularity of which a user chooses one by taste."""
STRENGTH = 2.0
"""Standard deviation of taste · key."""
ZIPF = 0.8
"""Popularity of an item falls as its place to this power."""
_CHUNK = 50_000
_SECOND_MS = 1000


@dataclass(frozen=True, eq=False)
class Planted:
    """Tastes of attribute values, one table a field (V, D), of pairs of the first two, and the items' keys (I, D).

    `together`: the share of a taste that pairs of values make, which no sum of single values tells.
    """

    tastes: tuple[Doubles, ...]
    pairs: Doubles
    keys: Doubles
    kinds: Numbers
    popularity: Doubles
    together: float

    @classmethod
    def drawn(cls, items: int, together: float, rng: np.random.Generator) -> "Planted":
        """Tastes and keys of so many items."""
        tastes = tuple(rng.standard_normal((count, DIRECTIONS)) for count in VALUES)
        pairs = rng.standard_normal((VALUES[1] * VALUES[2], DIRECTIONS))
        kinds = rng.integers(KINDS, size=items)
        shared, own = rng.standard_normal((KINDS, DIRECTIONS)), rng.standard_normal((items, DIRECTIONS))
        keys = OF_KIND**0.5 * shared[kinds] + (1 - OF_KIND) ** 0.5 * own
        popularity = (1.0 + rng.permutation(items)) ** -ZIPF
        return cls(tastes, pairs, keys * STRENGTH / DIRECTIONS**0.5, kinds, popularity / popularity.sum(), together)

    def users(self, count: int, rng: np.random.Generator) -> Numbers:
        """(B, N) values of so many users."""
        return np.stack([rng.integers(values, size=count) for values in VALUES], axis=1)

    def taste(self, values: Numbers) -> Doubles:
        """(B, D), each number of variance 1."""
        alone = sum(table[column] for table, column in zip(self.tastes, values.T, strict=True)) / len(VALUES) ** 0.5
        pairs = self.pairs[values[:, 1] * VALUES[2] + values[:, 2]]
        found: Doubles = (1 - self.together) ** 0.5 * alone + self.together**0.5 * pairs
        return found

    def acts(self, values: Numbers, count: int, rng: np.random.Generator) -> Numbers:
        """(B, count): items that users with these values choose, each among `SHOWN` by softmax of taste · key."""
        ends, chosen = np.cumsum(self.popularity), np.zeros((len(values), count), dtype=np.int64)
        for start in range(0, len(values), _CHUNK):
            tastes = self.taste(values[start : start + _CHUNK])
            for act in range(count):
                points = rng.random((len(tastes), SHOWN)) * ends[-1]
                shown = np.minimum(np.searchsorted(ends, points), len(ends) - 1)
                worth = np.einsum("bd,bsd->bs", tastes, self.keys[shown]) + rng.gumbel(size=shown.shape)
                chosen[start : start + _CHUNK, act] = shown[np.arange(len(shown)), worth.argmax(axis=1)]
        return chosen


def dataset_of(planted: Planted, values: Numbers, acts: Numbers, rng: np.random.Generator) -> Dataset:
    """The acts (B, A) of users with these values (B, N) as data without labels, each at a moment of its own."""
    users, each = acts.shape
    owner, times = np.repeat(np.arange(users), each), rng.permutation(acts.size)
    order = np.argsort(times)
    names = [f"a{number}" for number in range(values.shape[1])]
    user_ids, item_ids = (
        [f"{kind}{at}" for at in range(count)] for kind, count in (("u", users), ("i", len(planted.keys)))
    )
    description = DatasetDescription.model_validate(
        {
            "name": "planted",
            "users": {"id": "user_id", "attributes": dict.fromkeys(names, "categorical")},
            "items": {"id": "item_id", "attributes": {"kind": "categorical"}},
            "interactions": {"user": "user_id", "item": "item_id", "time": "time_ms"},
        }
    )
    interactions = pd.DataFrame(
        {
            "user_id": _categories(owner[order], user_ids),
            "item_id": _categories(acts.ravel()[order], item_ids),
            "action": _categories(np.zeros(acts.size, dtype=np.int8), ["acted"]),
            "time_ms": (1 + np.arange(acts.size)) * _SECOND_MS,
            "label": np.ones(acts.size, dtype=np.int8),
        }
    )
    of_users = {
        name: _categories(column, [str(at) for at in range(count)])
        for name, column, count in zip(names, values.T, VALUES, strict=True)
    }
    kinds = _categories(planted.kinds, [str(at) for at in range(KINDS)])
    return Dataset(
        description,
        pd.DataFrame({"user_id": user_ids, **of_users}),
        pd.DataFrame({"item_id": item_ids, "kind": kinds}),
        interactions,
        fingerprint="planted",
    )


def _categories(codes: npt.NDArray[Any], names: Sequence[str]) -> Any:
    """As `read_dataset` has ids: a number a row."""
    return pd.Categorical.from_codes(codes, categories=list(names))  # type: ignore[call-overload]  # of any integers
