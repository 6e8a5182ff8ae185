"""Interactions counted by cells of users with the same attributes: what the effects of attributes are fitted to."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pydantic.dataclasses
import torch
from pydantic import PositiveInt
from scipy import sparse

from foretaste.kernel.configuration import NO_OTHER_FIELDS, UnitShare, raises_invalid_input
from models.data.examples import Examples
from models.effects.cells import EarlierCounts, SparseCounts, UserCells
from models.effects.low_rank import Counts, Design, Doubles
from models.runtime.encoding import FIELD_UNKNOWN, FIRST_KNOWN, IndexArray

Floats = npt.NDArray[np.float32]
_CELLS = 1024
"""Room for so many is kept before all items are counted."""
_LEAST_LEFT = 1e-6
"""Of the popularity that a user has not met, for who met nearly everything."""


@dataclass(frozen=True, eq=False, slots=True)
class InteractionRows:
    """Interactions (R,): the user's row, the item's index, whether it was acted on, and behaviours seen before.

    `attributes` (users, N) has a row for each of `Dataset.users`. `times_ms` and `moments` (R,): when, and the number
    of the moment that a row is of.
    """

    users: IndexArray
    items: IndexArray
    labels: Floats
    seen: IndexArray
    attributes: IndexArray
    times_ms: IndexArray
    moments: IndexArray
    ages: IndexArray
    """(R,): bins of the accounts' ages."""

    @classmethod
    def of(cls, examples: Examples) -> "InteractionRows":
        users, sizes = examples.users.astype(np.int64), examples.sizes
        seen = examples.histories.seen(users, examples.times_ms)
        items, labels = examples.items.astype(np.int64), examples.labels
        times_ms, moments = np.repeat(examples.times_ms, sizes), np.repeat(np.arange(len(sizes)), sizes)
        return cls(
            np.repeat(users, sizes),
            items,
            labels,
            np.repeat(seen, sizes),
            examples.attributes,
            times_ms,
            moments,
            np.repeat(examples.ages, sizes),
        )

    def only(self, kept: npt.NDArray[np.bool_]) -> "InteractionRows":
        """The rows (R,) that are flagged, of the same users."""
        own = (self.users[kept], self.items[kept], self.labels[kept], self.seen[kept])
        return InteractionRows(*own, self.attributes, self.times_ms[kept], self.moments[kept], self.ages[kept])


@raises_invalid_input
@pydantic.dataclasses.dataclass(frozen=True, slots=True, config=NO_OTHER_FIELDS)
class CountingConfig:
    """Which users and items are counted, and how much a user counts."""

    user_weight: UnitShare = 0.75
    """A user of n interactions counts as n to this power: the heaviest users are not everyone."""
    most_counts: PositiveInt = 1 << 23
    """Cells times items at most: of more cells a random part is counted, of more items the most frequent."""
    least_users: PositiveInt = 5
    """With an attribute value; a rarer one is not told from an unknown one."""


class TableSizes(NamedTuple):
    """Rows of the tables that effects are about: of each attribute, N of them, and of the items."""

    attributes: tuple[int, ...]
    items: int
    ages: int = 0
    """A, bins of known account ages; 0 where no age is read."""
    item_features: IndexArray | None = None
    """(items, F): the encoded attributes of all items; None where they are not read."""

    @property
    def offsets(self) -> IndexArray:
        """(N,): where each field begins among all ΣA values, field after field."""
        ends: IndexArray = np.cumsum([0, *self.attributes])
        return ends[:-1]

    def places(self, attributes: IndexArray) -> IndexArray:
        """Indices (B, N), each within its own field, to places among all ΣA values."""
        found: IndexArray = attributes + self.offsets
        return found

    def values(self, places: IndexArray) -> IndexArray:
        """(G, 2): the field and the index within it of values at `places` (G,)."""
        field = np.searchsorted(self.offsets, places, side="right") - 1
        return np.stack([field, places - self.offsets[field]], axis=1)


class ExpectedNegatives(NamedTuple):
    """How many negatives are sampled for an interaction, and whether only what its user met at that moment is none
    (`NegativeSampler.by_moment`)."""

    number: int
    by_moment: bool = False


@dataclass(frozen=True, eq=False)
class Counting:
    """Which users, cells and items are counted, and what each user did, weighted; a user counts as n to a power.

    `covered`: about which share of all interactions, earlier ones among them, is counted. `users` are rows of
    `Dataset.users`, `items` (I,) are indices with their `frequency` (I,). `cells`: of equal attributes; `member` (users
    of the dataset,) of them, -1 for who is not counted. `value_places` (G,): where each counted attribute value lies
    among all ΣA, field after field. `of_design` (cells,): cells that differ in values that are not counted are one in
    the `design`. `user_counts`: of the users of the dataset, and `past` of the cells, both over the items.
    """

    covered: float
    users: IndexArray
    items: IndexArray
    frequency: Doubles
    cells: UserCells
    member: IndexArray
    value_places: IndexArray
    of_design: IndexArray
    design: Design
    user_counts: SparseCounts
    past: SparseCounts | None

    @classmethod
    def of(
        cls,
        rows: InteractionRows,
        tables: TableSizes,
        negatives: ExpectedNegatives | None,
        limits: CountingConfig,
        rng: np.random.Generator,
        past: EarlierCounts | None = None,
        *,
        all_counts: bool = False,
    ) -> "Counting":
        """Count all rows with a known item, and all of the `past`, within the limits; with `all_counts` whatever it is.

        `negatives` None: the rows have labels of their own.
        """
        known = rows.items >= FIRST_KNOWN
        users, own = np.unique(rows.users[known]), np.zeros(len(rows.attributes), dtype=np.int64)
        before = past or EarlierCounts.none(rows.attributes.shape[1])
        cells, own[users], others = _cells(rows.attributes[users], before.cells)
        frequency = np.bincount(rows.items[known], minlength=tables.items).astype(np.float64)
        frequency[before.items] += before.frequency
        kept, items = _within(cells, frequency, None if all_counts else limits.most_counts, rng)
        covered = float(frequency[items].sum() / max(frequency.sum(), 1.0))
        covered *= float(cells.users[kept].sum() / max(cells.users.sum(), 1.0))
        place, column = _places(kept, len(cells.users)), _places(items, tables.items)
        users = users[place[own[users]] >= 0]
        member = np.full(len(rows.attributes), -1)
        member[users] = place[own[users]]
        cells = cells.only(kept)
        design, of_design, value_places = _designed(cells, tables.attributes, limits.least_users)
        user_counts = _user_counts(rows, member >= 0, column, len(items), negatives, limits.user_weight)
        moved = None if past is None else past.counts.over(column[past.items], len(items)).by(place[others], len(kept))
        return cls(
            covered, users, items, frequency[items], cells, member, value_places, of_design, design, user_counts, moved
        )

    @property
    def cell(self) -> IndexArray:
        """(users of the dataset,): the cell of each in the design; -1 for who is not counted."""
        return np.append(self.of_design, -1)[self.member]

    def dealt(self, rng: np.random.Generator) -> "Counting":
        """The counting with the users dealt to the cells at random, as many to each: attributes that tell nothing."""
        member = self.member.copy()
        member[self.users] = rng.permutation(member[self.users])
        return replace(self, member=member)

    def counts(self, users: IndexArray) -> Counts:
        """The counts of some of the users, (C, I) for the C cells of the design."""
        return self.user_counts.counts(users, self.cell, len(self.design.values))

    def counts_before(self) -> Counts | None:
        """The counts of the past, (C, I) likewise; None where there is no past."""
        if self.past is None:
            return None
        return self.past.counts(np.arange(len(self.of_design)), self.of_design, len(self.design.values))

    def together(self) -> EarlierCounts:
        """All that was counted, for a later window to add to."""
        own = self.user_counts.by(self.member, len(self.of_design))
        return EarlierCounts(self.cells, self.items, self.frequency, own if self.past is None else self.past + own)


def folds_of(users: IndexArray, examples: Examples, folds: int, rng: np.random.Generator) -> IndexArray:
    """(users of the dataset,) from 1, the fold of each of `users`, all rows of one person in the same; 0 of others."""
    persons = users if examples.persons is None else examples.persons[users]
    distinct, place = np.unique(persons, return_inverse=True)
    fold = np.zeros(len(examples.attributes), dtype=np.int64)
    fold[users] = 1 + (rng.permutation(len(distinct)) % folds)[place]
    return fold


def _cells(attributes: IndexArray, before: UserCells) -> tuple[UserCells, IndexArray, IndexArray]:
    """All cells, and which one each user with these `attributes` (U, N) and each cell from `before` is."""
    values, member = np.unique(attributes, axis=0, return_inverse=True)
    own = UserCells(values, np.bincount(member.ravel(), minlength=len(values)).astype(np.float64))
    if not len(before.values):
        return own, member.ravel(), np.zeros(0, dtype=np.int64)
    cells, of_own, of_before = own.joined(before)
    return cells, of_own[member.ravel()], of_before


def _within(
    cells: UserCells, frequency: Doubles, most_counts: int | None, rng: np.random.Generator
) -> tuple[IndexArray, IndexArray]:
    """Which cells and items are counted, sorted: all that came, or as many cells and items as are let in."""
    count = len(cells.users)
    if most_counts is None:
        return np.arange(count), np.flatnonzero(frequency)
    items = _most_frequent(frequency, max(most_counts // max(min(count, _CELLS), 1), 1))
    most = max(most_counts // max(len(items), 1), 1)
    kept = np.arange(count) if count <= most else np.sort(rng.choice(count, most, replace=False))
    return kept, items


def _places(kept: IndexArray, count: int) -> IndexArray:
    """(count,): where each number lies in `kept`, -1 where it does not."""
    places = np.full(count, -1)
    places[kept] = np.arange(len(kept))
    return places


def _user_counts(
    rows: InteractionRows,
    counted: npt.NDArray[np.bool_],
    column: IndexArray,
    items: int,
    negatives: ExpectedNegatives | None,
    power: float,
) -> SparseCounts:
    """What each user in `counted` (users,) did with the items that have a `column`."""
    kept = (column[rows.items] >= 0) & counted[rows.users]
    user, item, label = rows.users[kept], column[rows.items[kept]], rows.labels[kept].astype(np.float64)
    shape = (len(rows.attributes), items)
    number = np.bincount(user, minlength=shape[0])
    weight = _weights(number, power)
    acted = sparse.csr_matrix((label * weight[user], (user, item)), shape)
    if negatives is None:
        passed = sparse.csr_matrix(((1 - label) * weight[user], (user, item)), shape)
        return SparseCounts(acted, passed, np.zeros((0, shape[0])), np.zeros((0, shape[1])))
    popularity = np.bincount(item, weights=label, minlength=shape[1]) / max(label.sum(), 1.0)
    if negatives.by_moment:
        met = _met_at_moments(rows.moments[kept], user, item, shape)
        drawn = negatives.number * number * weight  # what is met at one moment is little of all popularity
        passed = sparse.csr_matrix(-(sparse.diags(negatives.number * weight) @ met @ sparse.diags(popularity)))
        return SparseCounts(acted, passed, drawn[None], popularity[None])
    met = sparse.csr_matrix((np.ones(len(user)), (user, item)), shape)
    met.data[:] = 1.0  # once, however often
    drawn = negatives.number * number * weight / np.maximum(1 - met @ popularity, _LEAST_LEFT)
    passed = sparse.csr_matrix(-(sparse.diags(drawn) @ met @ sparse.diags(popularity)))
    return SparseCounts(acted, passed, drawn[None], popularity[None])


def _met_at_moments(
    moments: IndexArray, user: IndexArray, item: IndexArray, shape: tuple[int, int]
) -> sparse.csr_matrix:
    """For each user and item how many interactions of the user, each of a moment (R,), leave the item out."""
    _, firsts = np.unique(moments * shape[1] + item, return_index=True)
    sizes = np.bincount(moments)[moments[firsts]].astype(np.float64)
    return sparse.csr_matrix((sizes, (user[firsts], item[firsts])), shape)


def _weights(number: IndexArray, power: float) -> Doubles:
    """Of one interaction of each user, (users,): n of them count as n to the power, and all together as before."""
    weight = np.maximum(number, 1.0) ** (power - 1.0)
    scaled: Doubles = weight * (number.sum() / max((weight * number).sum(), 1.0))
    return scaled


def _most_frequent(frequency: Doubles, most: int) -> IndexArray:
    """The `most` items that came most often, of those that came, sorted; of equals the first by index."""
    came = np.flatnonzero(frequency)
    chosen: IndexArray = np.sort(came[np.argsort(-frequency[came], kind="stable")[:most]])
    return chosen


def _designed(cells: UserCells, sizes: Sequence[int], least_users: int) -> tuple[Design, IndexArray, IndexArray]:
    """The design, the cell in it of each of `cells`, and the places of the values counted.

    A value of too few users is counted as none, and so is an unknown one, and one that everybody has: b says the same.
    """
    everybody = cells.users.sum()
    offsets = np.cumsum([0, *sizes])[:-1]
    places, count = [], 0
    local = np.full(cells.values.shape, -1)
    for field, offset in enumerate(offsets):
        numbers = np.bincount(cells.values[:, field], cells.users, minlength=sizes[field])
        numbers[FIELD_UNKNOWN] = 0
        counted = np.flatnonzero((numbers >= least_users) & (numbers < everybody))
        index = np.full(sizes[field], -1)
        index[counted] = count + np.arange(len(counted))
        local[:, field] = index[cells.values[:, field]]
        count += len(counted)
        places.append(offset + counted)
    local[local < 0] = count
    values, place = np.unique(local, axis=0, return_inverse=True)
    return Design(torch.from_numpy(values), count), place.ravel(), np.concatenate(places).astype(np.int64)
