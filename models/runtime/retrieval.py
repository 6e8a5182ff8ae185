"""The index over the items of a generation, as served: behaviour in, candidates out.

This module is copied into Triton's environment beside each generation's artifact, so it holds the standard library,
numpy (1.26 and 2) and, for a large catalogue, faiss alone. An item is a vector and a candidate's score the product with
the vector of the user:

| columns | of an item | of a user |
|---|---|---|
| M D, where the ranking tower has keys | its key | virtual behaviour, zeros once warm; and what first acts tell |
| S | its bias at each number of behaviours seen | 1 at the own number, else 0 |
| 2 A, where it reads ages | what each age adds to that, with behaviour and without any | 1 at the own age |
| D | its embedding, of length 1 | `gain` × the mean over real behaviour, the newest in full, each before it `decay` |
| H, where the tower reads transitions | its target | see `StoredTransitions.query` |
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from foretaste.kernel.values import FloatArray, IndexArray
from models.runtime import layout
from models.runtime.acts import StoredActs
from models.runtime.refusals import BadRequest
from models.runtime.transitions import StoredTransitions

FIRST_ITEM = 2
"""Index of the first item: see `models.runtime.encoding`."""
PADDING = 0
UNKNOWN_AGE = 0
"""See `models.runtime.account_age`."""
KIND, DENY, ALLOW = -3, -2, -1
"""Of a filter's rows, beside the columns of item attributes, 0 and up. `KIND`: that kind stands for new items."""
OF_COLUMN = 1 << 32
"""A filter's value is c times this + index; c counts the columns of its field, from 0: a list has several."""
FEW = 20_000
"""Items that may be candidates, up to which each is compared: no index is asked."""
KEPT = 256
"""Filters on one attribute's value that are held ready, a bit an item each."""
NO_ITEMS: IndexArray = np.zeros(0, dtype=np.int64)
Bits = npt.NDArray[np.uint8]


class Wanted(NamedTuple):
    """How many candidates of each kind, and the seed of the draw."""

    nearest: int
    popular: int
    exploratory: int
    seed: int


@dataclass(frozen=True, eq=False)
class ComparedWhole:
    """All items as vectors (items, H) in memory; every one is compared."""

    values: FloatArray

    def rows(self, items: IndexArray) -> FloatArray:
        return self.values[items]

    def nearest(self, query: FloatArray, allowed: Bits, _few: int, count: int) -> IndexArray:
        """The `count` allowed items with the greatest products, greatest first; fewer where fewer are allowed."""
        return _best(self.values @ query, _items_of(allowed), count, chosen=False)


class InvertedLists:
    """All items in an inverted file of faiss: the lists nearest to the query are compared, more where few may be."""

    def __init__(self, stored: Bits, probes: int) -> None:
        self._faiss: Any = import_module("faiss")  # here, since a small catalogue needs none
        self._faiss.omp_set_num_threads(1)
        self._index: Any = self._faiss.deserialize_index(stored)
        self._index.make_direct_map()
        self._probes = probes

    def rows(self, items: IndexArray) -> FloatArray:
        return np.asarray(self._index.reconstruct_batch(np.ascontiguousarray(items)), dtype=np.float32)

    def nearest(self, query: FloatArray, allowed: Bits, some: int, count: int) -> IndexArray:
        """As `ComparedWhole.nearest`, but for the share that recall tells; `some` is how many are allowed."""
        if some <= FEW:
            items = _items_of(allowed)
            return _best(self.rows(items) @ query, items, count, chosen=True)
        lists = self._index.nlist
        probes = min(lists, -(-self._probes * self._index.ntotal // some))
        found = self._asked(query, allowed, count, probes)
        return found if len(found) == count or probes == lists else self._asked(query, allowed, count, lists)

    def _asked(self, query: FloatArray, allowed: Bits, count: int, probes: int) -> IndexArray:
        chosen = self._faiss.IDSelectorBitmap(allowed)
        parameters = self._faiss.SearchParametersIVF(sel=chosen, nprobe=probes)
        _, (found,) = self._index.search(query[None], count, params=parameters)
        return np.asarray(found[found >= 0], dtype=np.int64)


class ServedRetrieval:
    """The index of the generation in a folder."""

    def __init__(self, folder: Path) -> None:
        with np.load(folder / layout.RETRIEVAL) as stored:
            form = stored["form"].tolist()
            self._effects, self._warm_after = int(form[0]), int(form[1])
            self._decay, self._gain = float(form[2]), float(form[3])
            self._seen_bins: IndexArray = stored["seen_bins"]
            self._age_stages: IndexArray | None = stored.get("age_stages")
            self._transitions = StoredTransitions.of(stored)
            self._acts = StoredActs.of(stored)
            self._features: npt.NDArray[np.int32] = stored["features"]
            self._popular: npt.NDArray[np.int32] = stored["popular"]
            self._first_kind = len(stored["features"]) - (int(stored["kinds"]) if "kinds" in stored else 0)
            self._items: ComparedWhole | InvertedLists = (
                InvertedLists(stored["index"], int(form[4])) if "index" in stored else ComparedWhole(stored["vectors"])
            )
        self._all = _bits(np.arange(FIRST_ITEM, self._first_kind), len(self._features))
        self._of_value: OrderedDict[tuple[int, int], Bits] = OrderedDict()

    def check(self, behaviour: IndexArray, virtual: FloatArray, wanted: IndexArray, filters: IndexArray) -> None:
        """Raises `BadRequest`, naming the tensor, for a shape or a value that no request has."""
        items, users = len(self._features), len(behaviour)
        if behaviour.ndim != 2:  # noqa: PLR2004  # (U, L)
            raise BadRequest(f"behaviour: expected (users, behaviours), got {behaviour.shape}")
        acted, ages, passed_over = self._columns(behaviour)
        if not (_within(acted, 0, items) and _within(passed_over, 0, items)):
            raise BadRequest(f"behaviour: expected (users, behaviours), each below {items}, got {behaviour.shape}")
        if self._age_stages is not None and not _within(ages, 0, self._age_stages.shape[1]):
            raise BadRequest(f"behaviour: expected ages below {self._age_stages.shape[1]} behind {self._most} items")
        if virtual.shape[:1] != (users,) or (self._effects and virtual[0].size != self._effects):
            raise BadRequest(f"virtual_behaviour: expected {self._effects} numbers a user, got {virtual.shape}")
        if wanted.shape != (users, len(Wanted._fields)) or not _within(wanted, 0, 1 << 63):
            raise BadRequest(f"wanted: expected four numbers a user, none negative, got {wanted.shape}")
        if filters.ndim != 2 or filters.shape[1] != 3:  # noqa: PLR2004  # (P, 3)
            raise BadRequest(f"filters: expected three numbers each, got {filters.shape}")
        owner, kind, value = filters.T
        columns = np.stack([kind, kind + value // OF_COLUMN])
        if not _within(owner, -1, users) or not _within(columns, KIND, self._features.shape[1]) or (value < 0).any():
            raise BadRequest("filters: one is of a user or of an attribute that is not there")

    def run(self, behaviour: IndexArray, virtual: FloatArray, wanted: IndexArray, filters: IndexArray) -> IndexArray:
        """Candidates (U, C) of U users, each row filled up with `PADDING`.

        `behaviour` (U, L) are items, oldest first, then `PADDING`; behind them the bin of the account's age, where that
        is read, and P items that were passed over, neither of which a caller of an earlier version needs to send;
        `virtual` (U, M, D); `wanted` (U, 4) is `Wanted`;
        `filters` (P, 3) are the user's row (-1: nobody's), the first column of an item attribute or `KIND`, `DENY` or
        `ALLOW`, and a value (see `OF_COLUMN`), a kind or an item. A kind of item is a candidate by behaviour alone.
        """
        found = [
            self._find(behaviour[user], virtual[user], Wanted(*wanted[user].tolist()), filters[filters[:, 0] == user])
            for user in range(len(behaviour))
        ]
        candidates = np.full((len(found), max(map(len, found), default=0)), PADDING, dtype=np.int64)
        for row, own in zip(candidates, found, strict=True):
            row[: len(own)] = own
        return candidates

    def _find(self, behaviour: IndexArray, virtual: FloatArray, wanted: Wanted, filters: IndexArray) -> IndexArray:
        allowed, some = self._allowed(filters)
        items, ages, passed_over = self._columns(behaviour)
        age = int(ages[0]) if len(ages) else UNKNOWN_AGE
        query = self.query(items[items != PADDING], virtual, age, passed_over)
        count = min(wanted.nearest, some)
        found = self._items.nearest(query, allowed, some, count) if count else np.zeros(0, dtype=np.int64)
        _take(allowed, found)
        kinds = np.unique(filters[filters[:, 1] == KIND, 2])
        some -= int(_has(allowed, kinds[kinds < len(self._features)]).sum())
        _take(allowed, kinds)
        popular = self._most_popular(allowed, min(wanted.popular, some - len(found)))
        _take(allowed, popular)
        left = some - len(found) - len(popular)
        drawn = self._drawn(allowed, min(wanted.exploratory, left), left, wanted.seed)
        return np.concatenate([found, popular, drawn])

    def _columns(self, behaviour: IndexArray) -> tuple[IndexArray, IndexArray, IndexArray]:
        """Items acted on (…, L), the age (…, 1) and items passed over (…, P); none of what is not read or not sent."""
        ends = [self._most, self._most + (self._age_stages is not None)]
        acted, ages, passed_over = np.split(behaviour, ends, axis=-1)
        return acted, ages, passed_over

    def query(
        self, items: IndexArray, virtual: FloatArray, age: int = UNKNOWN_AGE, passed_over: IndexArray = NO_ITEMS
    ) -> FloatArray:
        """The vector (H,) of a user who acted on these items, oldest first, and passed others over; `virtual` (M, D);
        `age` is a bin."""
        seen, bins = len(items), int(self._seen_bins[-1]) + 1
        of_age = self._of_age(min(seen, self._most), age)
        biases = bins + len(of_age)
        of_virtual = virtual.ravel()[: self._effects] * np.float32(seen < self._warm_after)
        vectors = self._items.rows(items)
        if self._acts is not None:
            others = self._items.rows(passed_over[passed_over >= FIRST_ITEM])
            of_virtual[self._acts.columns] += self._acts.taste(vectors[items >= FIRST_ITEM], others)
        of_seen = (np.arange(bins) == self._seen_bins[min(seen, len(self._seen_bins) - 1)]).astype(np.float32)
        first, end, following = self._effects + biases, self._width, np.zeros(0, dtype=np.float32)
        if self._transitions is not None:  # what lies behind the targets is padding
            end = self._transitions.begins
            following = np.zeros(self._width - end, dtype=np.float32)
            following[: self._transitions.sources.shape[1]] = self._transitions.query(items)
        if not seen:
            taste = np.zeros(end - first, dtype=np.float32)
        else:
            weights = self._decay ** np.arange(seen - 1, -1, -1, dtype=np.float32)
            taste = self._gain * (weights / weights.sum()) @ vectors[:, first:end]
        return np.concatenate([of_virtual, of_seen, of_age, taste, following]).astype(np.float32)

    def _of_age(self, seen: int, age: int) -> FloatArray:
        """(2 A,) with so many behaviours seen; zeros for an unknown age."""
        if self._age_stages is None:
            return np.zeros(0, dtype=np.float32)
        stages = np.arange(1, int(self._age_stages.max()) + 1)  # the first is that of an unknown age
        return np.asarray(stages == self._age_stages[seen, age], dtype=np.float32)

    @property
    def _most(self) -> int:
        """L."""
        return len(self._seen_bins) - 1

    @property
    def _width(self) -> int:
        return int(self._items.rows(np.array([FIRST_ITEM - 1])).shape[1])

    def _allowed(self, filters: IndexArray) -> tuple[Bits, int]:
        """The items that may be candidates, a bit each, in a copy; and how many they are."""
        allowed, about = self._all.copy(), filters[:, 1]
        for column in np.unique(about[about >= 0]).tolist():
            values = filters[about == column, 2].tolist()
            allowed &= np.bitwise_or.reduce([self._with_value(column, value) for value in values])
        if (about == KIND).any():  # behind the attributes: a new item may have others than its kind
            allowed |= _bits(filters[about == KIND, 2], len(self._features))
        if (about == ALLOW).any():
            allowed &= _bits(filters[about == ALLOW, 2], len(self._features))
        denied = np.unique(filters[about == DENY, 2])
        _take(allowed, denied)
        if (about != DENY).any():
            return allowed, int(_ONES[allowed].sum())
        known = self._first_kind - FIRST_ITEM
        return allowed, known - int(((denied >= FIRST_ITEM) & (denied < self._first_kind)).sum())

    def _with_value(self, first: int, value: int) -> Bits:
        """The items that have this value of the attribute with this first column; none for 0, which is no value."""
        column, index = key = first + value // OF_COLUMN, value % OF_COLUMN
        if key not in self._of_value:
            with_value = self._features[:, column] == index if index else np.zeros(len(self._features), dtype=np.bool_)
            self._of_value[key] = np.packbits(with_value, bitorder="little")
            if len(self._of_value) > KEPT:
                self._of_value.popitem(last=False)
        return self._of_value[key]

    def _most_popular(self, allowed: Bits, count: int) -> IndexArray:
        """The first `count` allowed ones in the order of popularity."""
        stretch = max(4 * count, 1)
        while True:
            first = self._popular[:stretch].astype(np.int64)
            found = first[_has(allowed, first)][:count]
            if len(found) == count or stretch >= len(self._popular):
                return found
            stretch *= 8

    def _drawn(self, allowed: Bits, count: int, left: int, seed: int) -> IndexArray:
        """`count` different ones of the `left` allowed ones, at random."""
        if not count:
            return np.zeros(0, dtype=np.int64)
        rng = np.random.default_rng(seed)
        if left <= FEW:
            return rng.permutation(_items_of(allowed))[:count]
        found = np.zeros(0, dtype=np.int64)
        while len(found) < count:  # of many, each round finds about its share of them
            drawn = rng.integers(FIRST_ITEM, self._first_kind, 2 * count * self._first_kind // left)
            drawn = np.concatenate([found, drawn[_has(allowed, drawn)]])
            found = drawn[np.sort(np.unique(drawn, return_index=True)[1])]
        return found[:count]


_ONES = np.array([each.bit_count() for each in range(256)], dtype=np.int64)


def _bits(items: IndexArray, size: int) -> Bits:
    """A bit for each of `size` items, set for these; what lies beyond is passed over."""
    flags = np.zeros(size, dtype=np.bool_)
    flags[items[(items >= FIRST_ITEM) & (items < size)]] = True
    return np.packbits(flags, bitorder="little")


def _take(bits: Bits, items: IndexArray) -> None:
    """Clear the bits of these items, in place."""
    within = items[items < 8 * len(bits)]
    np.bitwise_and.at(bits, within >> 3, ~(1 << (within & 7)).astype(np.uint8))


def _has(bits: Bits, items: IndexArray) -> npt.NDArray[np.bool_]:
    return np.asarray((bits[items >> 3] >> (items & 7).astype(np.uint8)) & 1, dtype=np.bool_)


def _items_of(bits: Bits) -> IndexArray:
    return np.flatnonzero(np.unpackbits(bits, bitorder="little"))


def _best(scores: FloatArray, items: IndexArray, count: int, *, chosen: bool) -> IndexArray:
    """The `count` items with the greatest scores; `scores` are those of all items, or where `chosen`, of these."""
    own = scores if chosen else scores[items]
    first = np.argpartition(-own, count - 1)[:count] if count < len(own) else np.arange(len(own))
    return items[first[np.argsort(-own[first], kind="stable")]]


def _within(values: Sequence[int] | IndexArray, low: int, high: int) -> bool:
    array = np.asarray(values)
    return not array.size or bool(array.min() >= low and array.max() < high)
