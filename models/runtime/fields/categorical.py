"""Categorical attributes: a vocabulary of canonical texts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from foretaste.kernel.values import IndexArray, Value, canonical
from models.runtime.fields.base import (
    FIELD_UNKNOWN,
    FieldEncoder,
    FieldShares,
    FieldValues,
    shares_of_values,
)


@dataclass(frozen=True)
class CategoricalEncoder:
    """Looks a value up by its canonical text; `values[i]` has the index i + 1."""

    values: tuple[str, ...]
    kind: ClassVar[str] = "categorical"
    is_text: ClassVar[bool] = True
    is_several: ClassVar[bool] = False
    grows: ClassVar[bool] = True

    @classmethod
    def fit(cls, values: FieldValues) -> "CategoricalEncoder":
        """The most frequent value first, ties by text."""
        counts = values.counts()
        return cls(tuple(sorted(counts, key=lambda text: (-counts[text], text))))

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> "CategoricalEncoder":
        return cls(tuple(stored["values"]))

    @property
    def sizes(self) -> tuple[int, ...]:
        return (len(self.values) + 1,)

    @property
    def vocabulary(self) -> Sequence[str]:
        return self.values

    @property
    def probes(self) -> Sequence[Value]:
        return self.values

    @cached_property
    def _index(self) -> dict[str | None, int]:
        """By canonical text, and not by the value: what an earlier version held apart ("TRUE", "true") is one now."""
        index: dict[str | None, int] = {}
        for position, value in enumerate(self.values, start=1):
            index.setdefault(canonical(value), position)
        return index

    def encode(self, values: Sequence[Value]) -> IndexArray:
        find = self._index.get  # a text that is known as it is stands for itself; 0 and False stand for others
        found = [
            (find(value) if isinstance(value, str) else None) or find(canonical(value), FIELD_UNKNOWN)
            for value in values
        ]
        return np.array(found, dtype=np.int64).reshape(-1, 1)

    def unknown(self, indices: IndexArray) -> npt.NDArray[np.bool_]:
        found: npt.NDArray[np.bool_] = indices[:, 0] == FIELD_UNKNOWN
        return found

    def indices_of(self, values: Sequence[Value]) -> Mapping[int, frozenset[int]]:
        return {0: frozenset(self.encode(values)[:, 0].tolist()) - {FIELD_UNKNOWN}}

    def grown(self, texts: Sequence[str]) -> "CategoricalEncoder":
        fresh = [text for text in texts if canonical(text) not in self._index]
        return CategoricalEncoder(tuple(dict.fromkeys([*self.values, *fresh])))  # a dict keeps its first order

    def begins_with(self, earlier: FieldEncoder) -> bool:
        return earlier.kind == self.kind and self.values[: len(earlier.vocabulary)] == tuple(earlier.vocabulary)

    def shares(self, counts: Sequence[IndexArray], most: int) -> FieldShares:
        known, missing = counts[0][1:].astype(np.float64), float(counts[0][FIELD_UNKNOWN])
        return shares_of_values(self.values, known, missing, most)

    def to_dict(self) -> dict[str, Any]:
        return {"kind": self.kind, "values": list(self.values)}
