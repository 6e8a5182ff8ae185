"""Interactions counted by cells of users with the same attributes: what the effects of attributes are fitted to."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from scipy import sparse

from foretaste.errors import InvalidInput
from models import checks
from models.encoding import FIELD_UNKNOWN, FIRST_KNOWN, IndexArray
from models.examples import Examples
from models.low_rank import Counts, Design, Doubles

Floats = npt.NDArray[np.float32]
_CELLS = 1024
"""Room for so many is kept before all items are counted."""
_LEAST_LEFT = 1e-6
"""Of the popularity that a user has not met, for who met nearly everything."""


@dataclass(frozen=True, eq=False, slots=True)
class Rows:
    """Interactions (R,): the user's row, the item's index, whether it was acted on, and behaviours seen before.

    `attributes` (users, N) has a row for each of `Dataset.users`.
    """

    users: IndexArray
    items: IndexArray
    labels: Floats
    seen: IndexArray
    attributes: IndexArray

    @classmethod
    def of(cls, examples: Examples) -> "Rows":
        users, sizes = examples.users.astype(np.int64), examples.sizes
        seen = examples.histories.seen(users, examples.times_ms)
        items, labels = examples.items.astype(np.int64), examples.labels
        return cls(np.repeat(users, sizes), items, labels, np.repeat(seen, sizes), examples.attributes)


@dataclass(frozen=True, slots=True)
class CountingConfig:
    """Who and what is counted, and how much."""

    user_weight: float = 0.75
    """A user of n interactions counts as n to this power: the heaviest users are not everyone."""
    most_counts: int = 1 << 23
    """Cells times items at most: of more cells a random part is counted, of more items the most frequent."""
    least_users: int = 5
    """With an attribute value; a rarer one is not told from an unknown one."""

    def __post_init__(self) -> None:
        """Raises `InvalidInput` naming the field."""
        checks.at_least(self, {"most_counts": 1, "least_users": 1})
        if not 0 <= self.user_weight <= 1:
            raise InvalidInput("user_weight", self.user_weight, "must lie between 0 and 1")


class Tables(NamedTuple):
    """Rows of the tables that effects are about: of each attribute, N of them, and of the items."""

    attributes: tuple[int, ...]
    items: int

    def places(self, attributes: IndexArray) -> IndexArray:
        """Indices (B, N), each within its own field, to places among all ΣA values, field after field."""
        found: IndexArray = attributes + np.cumsum([0, *self.attributes])[:-1]
        return found


@dataclass(frozen=True, eq=False)
class Counting:
    """Which users and items are counted, and what each user did, weighted; a user counts as n to a power.

    `users` are rows of `Dataset.users`, `items` (I,) are indices. `value_places` (G,): where each counted attribute
    value lies among all ΣA, field after field. `cell` (users of the dataset,): -1 for who is not counted. `acted` and
    `passed` are (users of the dataset, I). Where negatives are sampled, `drawn` (users of the dataset,) is how many are
    expected of a user over the I items if none were met, shared out by `popularity` (I,), and `passed` is what must be
    taken off for those that the user met.
    """

    users: IndexArray
    items: IndexArray
    value_places: IndexArray
    cell: IndexArray
    design: Design
    acted: sparse.csr_matrix
    passed: sparse.csr_matrix
    drawn: Doubles
    popularity: Doubles

    @classmethod
    def of(
        cls,
        rows: Rows,
        tables: Tables,
        negatives: int | None,
        limits: CountingConfig,
        rng: np.random.Generator,
    ) -> "Counting":
        """Of all rows with a known item, within the limits; `negatives` None: the rows have labels of their own."""
        users, items = _within(rows, limits.most_counts, rng)
        design, cell, places = _designed(rows.attributes, users, tables.attributes, limits.least_users)
        column = np.full(tables.items, -1)
        column[items] = np.arange(len(items))
        counted = np.zeros(len(rows.attributes), dtype=np.bool_)
        counted[users] = True
        kept = (column[rows.items] >= 0) & counted[rows.users]
        user, item, label = rows.users[kept], column[rows.items[kept]], rows.labels[kept].astype(np.float64)
        shape = (len(rows.attributes), len(items))
        number = np.bincount(user, minlength=shape[0])
        weight = _weights(number, limits.user_weight)
        acted = sparse.csr_matrix((label * weight[user], (user, item)), shape)
        popularity = np.bincount(item, weights=label, minlength=shape[1]) / max(label.sum(), 1.0)
        if negatives is None:
            drawn = np.zeros(shape[0])
            passed = sparse.csr_matrix(((1 - label) * weight[user], (user, item)), shape)
        else:
            met = sparse.csr_matrix((np.ones(len(user)), (user, item)), shape)
            met.data[:] = 1.0  # once, however often
            drawn = negatives * number * weight / np.maximum(1 - met @ popularity, _LEAST_LEFT)
            passed = sparse.csr_matrix(-(sparse.diags(drawn) @ met @ sparse.diags(popularity)))
        return cls(users, items, places, cell, design, acted, passed, drawn, popularity)

    def dealt(self, rng: np.random.Generator) -> "Counting":
        """With the users dealt to the cells at random, as many to each: attributes that tell nothing."""
        cell = self.cell.copy()
        cell[self.users] = rng.permutation(cell[self.users])
        return replace(self, cell=cell)

    def counts(self, users: IndexArray) -> Counts:
        """Of some of the users, (C, I)."""
        ones = np.ones(len(users))
        member = sparse.csr_matrix((ones, (self.cell[users], users)), (len(self.design.values), len(self.cell)))
        acted = (member @ self.acted).toarray()
        passed = np.outer(member @ self.drawn, self.popularity) + (member @ self.passed).toarray()
        return Counts(torch.from_numpy(acted).float(), torch.from_numpy(np.maximum(passed, 0.0)).float())


def _within(rows: Rows, most_counts: int, rng: np.random.Generator) -> tuple[IndexArray, IndexArray]:
    """The users and the items counted, sorted: all with a known item, or as many cells and items as are let in."""
    known = rows.items >= FIRST_KNOWN
    users = np.unique(rows.users[known])
    cells, cell = np.unique(rows.attributes[users], axis=0, return_inverse=True)
    items = _most_frequent(rows.items[known], max(most_counts // max(min(len(cells), _CELLS), 1), 1))
    most = max(most_counts // max(len(items), 1), 1)
    if len(cells) > most:
        users = users[np.isin(cell.ravel(), rng.choice(len(cells), most, replace=False))]
    return users, items


def _weights(number: IndexArray, power: float) -> Doubles:
    """Of one interaction of each user, (users,): n of them count as n to the power, and all together as before."""
    weight = np.maximum(number, 1.0) ** (power - 1.0)
    scaled: Doubles = weight * (number.sum() / max((weight * number).sum(), 1.0))
    return scaled


def _most_frequent(items: IndexArray, most: int) -> IndexArray:
    """The `most` distinct items with the most rows, sorted; of equals the first by index."""
    distinct, counts = np.unique(items, return_counts=True)
    chosen: IndexArray = np.sort(distinct[np.argsort(-counts, kind="stable")[:most]])
    return chosen


def _designed(
    attributes: IndexArray, users: IndexArray, sizes: Sequence[int], least_users: int
) -> tuple[Design, IndexArray, IndexArray]:
    """The design of the cells of `users`, the cell of each user of the dataset, and the places of the values counted.

    A value of too few users is counted as none, and so is an unknown one, and one that everybody has: b says the same.
    """
    own = attributes[users]
    offsets = np.cumsum([0, *sizes])[:-1]
    places, count = [], 0
    local = np.full(own.shape, -1)
    for field, offset in enumerate(offsets):
        values, numbers = np.unique(own[:, field], return_counts=True)
        told = values[(numbers >= least_users) & (values != FIELD_UNKNOWN) & (numbers < len(users))]
        index = np.full(sizes[field], -1)
        index[told] = count + np.arange(len(told))
        local[:, field] = index[own[:, field]]
        count += len(told)
        places.append(offset + told)
    local[local < 0] = count
    cells, member = np.unique(local, axis=0, return_inverse=True)
    cell = np.full(len(attributes), -1)
    cell[users] = member.ravel()
    return Design(torch.from_numpy(cells), count), cell, np.concatenate(places).astype(np.int64)
