"""Attributes that are a list of values, such as interests: a column for each of the most frequent ones."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from foretaste.kernel.values import IndexArray, Value, is_missing, texts_of
from models.runtime.fields.base import FIELD_UNKNOWN, FieldEncoder, FieldShares, FieldValues, shares_of_values

MOST_VALUES = 32
"""That have a column of their own: the most frequent."""
LENGTHS = (1, 2, 4, 8)
"""Bins of the number of distinct values: none, 1, 2 or 3, 4 to 7, 8 or more."""
ABSENT, PRESENT = 1, 2
"""Of a column of a value, where the user has a list."""


@dataclass(frozen=True)
class ListEncoder:
    """The number of distinct values in the first column, and in the column i + 1 whether `values[i]` is among them.

    The values are a set: their order and how often each comes say nothing. A value alone is a list of one. Without a
    list, all columns are unknown.
    """

    values: tuple[str, ...]
    kind: ClassVar[str] = "list"
    is_text: ClassVar[bool] = True
    is_several: ClassVar[bool] = True
    grows: ClassVar[bool] = False

    @classmethod
    def fit(cls, values: FieldValues) -> "ListEncoder":
        """The most frequent values first, ties by text."""
        counts = Counter(text for value in values.raw() for text in texts_of(value))
        return cls(tuple(sorted(counts, key=lambda text: (-counts[text], text))[:MOST_VALUES]))

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> "ListEncoder":
        return cls(tuple(stored["values"]))

    @property
    def sizes(self) -> tuple[int, ...]:
        return (len(LENGTHS) + 2, *(PRESENT + 1,) * len(self.values))

    @property
    def vocabulary(self) -> Sequence[str]:
        """None: a column more would be another tower, so a warm start keeps the values that it has."""
        return ()

    @property
    def probes(self) -> Sequence[Value]:
        return ((), *((value,) for value in self.values), self.values) if self.values else ()

    def encode(self, values: Sequence[Value]) -> IndexArray:
        found = np.full((len(values), 1 + len(self.values)), FIELD_UNKNOWN, dtype=np.int64)
        for row, value in enumerate(values):
            if not is_missing(value):
                texts = texts_of(value)
                found[row, 0] = 1 + np.searchsorted(LENGTHS, len(texts), side="right")
                found[row, 1:] = [PRESENT if known in texts else ABSENT for known in self.values]
        return found

    def unknown(self, indices: IndexArray) -> npt.NDArray[np.bool_]:
        """Lists that hold something, of which nothing is known."""
        found: npt.NDArray[np.bool_] = (indices[:, 0] > 1) & ~(indices[:, 1:] == PRESENT).any(axis=1)
        return found

    def indices_of(self, values: Sequence[Value]) -> Mapping[int, frozenset[int]]:
        """Of a value that has no column, none."""
        wanted = {text for value in values for text in texts_of(value)}
        return {place: frozenset([PRESENT]) for place, known in enumerate(self.values, start=1) if known in wanted}

    def grown(self, texts: Sequence[str]) -> "ListEncoder":
        if texts:
            raise ValueError("the values of a list that have columns stay as they are")
        return self

    def begins_with(self, earlier: FieldEncoder) -> bool:
        return earlier == self

    def shares(self, counts: Sequence[IndexArray], most: int) -> FieldShares:
        """Of the `most` frequent values by how many lists have each; others are left out."""
        weights = np.array([column[PRESENT] for column in counts[1:]], dtype=np.float64)
        found = shares_of_values(self.values, weights, float(counts[0][FIELD_UNKNOWN]), most)
        *known, _, missing = found.weights
        return found._replace(weights=(*known, 0.0, missing), of_lists=True)

    def to_dict(self) -> dict[str, Any]:
        return {"kind": self.kind, "values": list(self.values)}
