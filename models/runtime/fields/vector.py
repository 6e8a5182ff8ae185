"""Attributes that are a dense vector, such as the embedding of a text: bins along its principal components."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from foretaste.kernel.values import IndexArray, Value, is_several
from models.runtime.fields.base import FIELD_UNKNOWN, FieldEncoder, FieldShares, FieldValues
from models.runtime.fields.numeric import numbers_of

COMPONENTS = 8
"""Principal components that are read, at most."""
BINS = 8
"""Of each component, of about equal numbers of rows."""
MOST_ROWS = 20_000
"""From which the components are found, evenly picked."""
MOST_OF_USUAL = 1000.0
"""The largest number of a vector, as a multiple of the median one's: beyond it a vector is unknown, as it would make
the components its own."""
_AT_ONCE = 4096
"""Rows that are encoded at once, for memory."""
_DIGITS = 7
"""Significant ones of what is kept."""

Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True)
class VectorEncoder:
    """A column for each of P components: the bin of the vector's projection on it.

    `directions` (P, D) are of length 1, `edges` those of each component's bins: edges[p][i - 1] <= x < edges[p][i] has
    the index i + 1. A vector of another length than D, or with what is no number from -`bound` to `bound`, is unknown
    in all columns.
    """

    dimension: int
    bound: float
    directions: tuple[tuple[float, ...], ...]
    edges: tuple[tuple[float, ...], ...]
    kind: ClassVar[str] = "vector"
    is_text: ClassVar[bool] = True
    is_several: ClassVar[bool] = True
    grows: ClassVar[bool] = False

    @classmethod
    def fit(cls, values: FieldValues) -> "VectorEncoder":
        """The components of the vectors of the length that most of them have."""
        raw = values.raw()
        lengths = Counter(len(value) for value in raw if is_several(value))
        dimension = lengths.most_common(1)[0][0] if lengths else 0
        known = _vectors(raw[:: len(raw) // MOST_ROWS + 1], dimension, np.inf)
        known = known[~np.isnan(known[:, :1]).any(axis=1)] if dimension else np.zeros((0, 0))
        if not len(known):
            return cls(dimension, 0.0, (), ())
        sizes = np.abs(known).max(axis=1)
        usual = np.median(sizes[sizes > 0]) if sizes.any() else 1.0  # zeros often stand for no vector
        bound = float(_rounded(np.array([MOST_OF_USUAL * usual]))[0])
        known = known[sizes <= bound]
        spread = (known - known.mean(axis=0)) / bound  # squares of what is large would overflow
        variances, components = np.linalg.eigh(spread.T @ spread / len(known))  # rising
        least = max(float(variances[-1]), np.finfo(np.float64).tiny) * np.finfo(np.float64).eps * dimension
        components = components.T[variances > least][::-1][:COMPONENTS]
        largest = np.take_along_axis(components, np.abs(components).argmax(axis=1)[:, None], axis=1)
        directions = _rounded(components * np.sign(largest))
        return cls(dimension, bound, _tuples(directions), _tuples(map(_edges, (known @ directions.T).T)))

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> "VectorEncoder":
        dimension, bound = int(stored["dimension"]), float(stored["bound"])
        return cls(dimension, bound, _tuples(stored["directions"]), _tuples(stored["edges"]))

    @property
    def sizes(self) -> tuple[int, ...]:
        """Of a vector that tells nothing, whether it is there."""
        return tuple(len(edges) + 2 for edges in self.edges) or (2,)

    @property
    def vocabulary(self) -> Sequence[str]:
        return ()

    @property
    def probes(self) -> Sequence[Value]:
        """On each edge."""
        pairs = zip(self.directions, self.edges, strict=True)
        return [tuple(edge * each for each in direction) for direction, edges in pairs for edge in edges]

    @cached_property
    def _directions(self) -> Doubles:
        return np.array(self.directions, dtype=np.float64).reshape(len(self.directions), self.dimension)

    def encode(self, values: Sequence[Value]) -> IndexArray:
        parts = [self._encoded(values[at : at + _AT_ONCE]) for at in range(0, len(values), _AT_ONCE)]
        return np.concatenate([np.zeros((0, len(self.sizes)), dtype=np.int64), *parts])

    def _encoded(self, values: Sequence[Value]) -> IndexArray:
        vectors = _vectors(values, self.dimension, self.bound)
        known = ~np.isnan(vectors).any(axis=1) & (self.dimension > 0)
        found = np.full((len(values), len(self.sizes)), FIELD_UNKNOWN, dtype=np.int64)
        found[known] = 1
        projected = vectors[known] @ self._directions.T
        for column, edges in enumerate(self.edges):
            found[known, column] += np.searchsorted(edges, projected[:, column], side="right")
        return found

    def unknown(self, indices: IndexArray) -> npt.NDArray[np.bool_]:
        found: npt.NDArray[np.bool_] = indices[:, 0] == FIELD_UNKNOWN
        return found

    def indices_of(self, values: Sequence[Value]) -> None:
        return None

    def grown(self, texts: Sequence[str]) -> "VectorEncoder":
        if texts:
            raise ValueError("the components of a vector stay as they are")
        return self

    def begins_with(self, earlier: FieldEncoder) -> bool:
        return earlier == self

    def shares(self, counts: Sequence[IndexArray], most: int) -> FieldShares:
        """Of vectors that are there, and of missing ones: the components cannot be told by whoever has no encoder."""
        weights = float(counts[0][1:].sum()), float(counts[0][FIELD_UNKNOWN])
        return FieldShares(weights, edges=(), vector=(self.dimension, self.bound))

    def to_dict(self) -> dict[str, Any]:
        edges = [list(each) for each in self.edges]
        directions = [list(each) for each in self.directions]
        own = {"dimension": self.dimension, "bound": self.bound, "directions": directions, "edges": edges}
        return {"kind": self.kind, **own}


def _vectors(values: Sequence[Value], dimension: int, bound: float) -> Doubles:
    """(B, D), a row of nan for what is no vector of D numbers from -`bound` to `bound`."""
    found = np.full((len(values), dimension), np.nan)
    for row, value in enumerate(values):
        if is_several(value) and len(value) == dimension:
            numbers = numbers_of(value)
            found[row] = numbers if (np.abs(numbers) <= bound).all() else np.nan
    return found


def _edges(projected: Doubles) -> Doubles:
    edges = np.unique(_rounded(np.quantile(projected, np.arange(1, BINS) / BINS)))
    found: Doubles = edges[edges > projected.min()]
    return found


def _rounded(numbers: Doubles) -> Doubles:
    """As JSON keeps them, so that an encoder that was read puts nothing into another bin."""
    found: Doubles = np.array([float(f"{each:.{_DIGITS}g}") for each in numbers.ravel()]).reshape(numbers.shape)
    return found


def _tuples(rows: Any) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(float(each) for each in row) for row in rows)
