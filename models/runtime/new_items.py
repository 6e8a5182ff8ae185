"""Items that were registered after a generation had learned: the kind of item that stands for each of them.

A generation holds rows for kinds of items beside those of the items that it learned of: a kind is a combination of
attribute values. An index beyond the items is that of a kind.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice

import numpy as np
import numpy.typing as npt

from foretaste.kernel.values import IndexArray
from models.runtime.fields.base import FIELD_UNKNOWN

_ALIKE, _UNLIKE = 2, 1
"""What a value in common counts for a kind, and what one that the kind has and the item lacks counts against it."""
NEWEST = 64
"""New items of one kind that may be candidates."""
_CHUNK = 1024


class NewItems:
    """The kind of each new item, by its id, and the newest items of each kind.

    One thread may `put` while others read: what they read is replaced and never changed.
    """

    def __init__(self) -> None:
        self._kind: dict[str, int] = {}
        self._features: dict[str, IndexArray] = {}
        self._of_kind: dict[int, tuple[str, ...]] = {}

    def __len__(self) -> int:
        return len(self._kind)

    def __contains__(self, item: object) -> bool:
        return item in self._kind

    def get(self, item: str, unknown: int) -> int:
        """The index of the kind that stands for an item, `unknown` for one that is not new."""
        return self._kind.get(item, unknown)

    def features(self, item: str) -> IndexArray:
        """(F,) the item's own encoded attributes, which may differ from those of its kind."""
        return self._features[item]

    def kinds(self) -> list[int]:
        """Indices of the kinds that stand for some item."""
        return list(self._of_kind)

    def of_kind(self, kind: int) -> tuple[str, ...]:
        """The items of a kind that came last, `NEWEST` at most, the newest first."""
        return self._of_kind.get(kind, ())

    def put(self, items: Sequence[str], kinds: IndexArray, features: IndexArray) -> None:
        """Take in items of these `kinds` (I,), with their `features` (I, F); what was known of one before is gone."""
        for item, kind, own in zip(items, kinds.tolist(), features, strict=True):
            before = self._kind.get(item)
            if before is not None and before != kind:
                self._forget(item, before)
            self._features[item], self._kind[item] = own, kind
            others = (each for each in self.of_kind(kind) if each != item)
            self._of_kind[kind] = (item, *islice(others, NEWEST - 1))

    def remove(self, items: Iterable[str]) -> None:
        """Take items out; one that is not new changes nothing. Its features stay for who is about to read them."""
        for item in items:
            kind = self._kind.pop(item, None)
            if kind is not None:
                self._forget(item, kind)

    def _forget(self, item: str, kind: int) -> None:
        left = tuple(each for each in self.of_kind(kind) if each != item)
        if left:
            self._of_kind[kind] = left
        else:
            self._of_kind.pop(kind, None)


def nearest_kinds(features: IndexArray, kinds: IndexArray) -> IndexArray:
    """(I,) the row of `kinds` (K, F) that has most values in common with each of `features` (I, F).

    Of kinds that have as many, the one with fewer values that the item does not have, and then the first.
    """
    found = [_nearest(features[at : at + _CHUNK], kinds) for at in range(0, len(features), _CHUNK)]
    return np.concatenate([np.zeros(0, dtype=np.int64), *found])


def _nearest(features: IndexArray, kinds: IndexArray) -> npt.NDArray[np.int64]:
    likeness = np.zeros((len(features), len(kinds)), dtype=np.int64)
    for own, theirs in zip(features.T, kinds.T, strict=True):
        known = theirs != FIELD_UNKNOWN
        alike = (own[:, None] == theirs) & known
        likeness += np.where(alike, _ALIKE, np.where(known, -_UNLIKE, 0))
    found: npt.NDArray[np.int64] = likeness.argmax(axis=1)
    return found


def encoded_kinds(stored: Mapping[str, object], width: int) -> IndexArray:
    """(K, F) the kinds in the JSON of an encoding; none in that of an earlier version."""
    rows = stored.get("kinds", [])
    return np.array(rows, dtype=np.int64).reshape(len(rows) if isinstance(rows, list) else 0, width)
