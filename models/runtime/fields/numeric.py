"""Numeric attributes: bins of about equal numbers of rows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from foretaste.kernel.values import IndexArray, Value, number
from models.runtime.fields.base import FIELD_UNKNOWN, FieldEncoder, FieldShares, FieldValues

BINS = 16
"""Bins of a field, at most."""


@dataclass(frozen=True)
class NumericEncoder:
    """Puts a number into one of `len(edges) + 1` bins: edges[i - 1] <= x < edges[i] has the index i + 1."""

    edges: tuple[float, ...]
    kind: ClassVar[str] = "numeric"
    is_text: ClassVar[bool] = False
    is_several: ClassVar[bool] = False
    grows: ClassVar[bool] = False

    @classmethod
    def fit(cls, values: FieldValues) -> "NumericEncoder":
        """Bins of about equal numbers of rows; fewer where many rows share a value."""
        numbers = values.numbers()
        if not len(numbers):
            return cls(())
        edges = np.unique(np.quantile(numbers, np.arange(1, BINS) / BINS))
        return cls(tuple(float(edge) for edge in edges[edges > numbers.min()]))

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> "NumericEncoder":
        return cls(tuple(stored["edges"]))

    @property
    def sizes(self) -> tuple[int, ...]:
        return (len(self.edges) + 2,)

    @property
    def vocabulary(self) -> Sequence[str]:
        return ()

    @property
    def probes(self) -> Sequence[Value]:
        return self.edges

    @cached_property
    def _edges(self) -> npt.NDArray[np.float64]:
        return np.array(self.edges, dtype=np.float64)

    def encode(self, values: Sequence[Value]) -> IndexArray:
        numbers = numbers_of(values)
        bins = np.searchsorted(self._edges, numbers, side="right") + 1
        return np.where(np.isnan(numbers), FIELD_UNKNOWN, bins).astype(np.int64).reshape(-1, 1)

    def unknown(self, indices: IndexArray) -> npt.NDArray[np.bool_]:
        found: npt.NDArray[np.bool_] = indices[:, 0] == FIELD_UNKNOWN
        return found

    def indices_of(self, values: Sequence[Value]) -> None:
        return None

    def grown(self, texts: Sequence[str]) -> "NumericEncoder":
        if texts:
            raise ValueError("the bins of a numeric field stay as they are")
        return self

    def begins_with(self, earlier: FieldEncoder) -> bool:
        return earlier == self

    def shares(self, counts: Sequence[IndexArray], most: int) -> FieldShares:
        return FieldShares((*counts[0][1:].tolist(), float(counts[0][FIELD_UNKNOWN])), edges=self.edges)

    def to_dict(self) -> dict[str, Any]:
        return {"kind": self.kind, "edges": list(self.edges)}


def numbers_of(values: Sequence[Value]) -> npt.NDArray[np.float64]:
    """The finite numbers that the values stand for, else nan; at once where all are numbers."""
    if {type(value) for value in values} <= {int, float}:
        try:
            numbers = np.array(values, dtype=np.float64)
        except OverflowError:  # an integer beyond all floats
            pass
        else:
            numbers[~np.isfinite(numbers)] = np.nan
            return numbers
    return np.array([number(value) for value in values], dtype=np.float64)
