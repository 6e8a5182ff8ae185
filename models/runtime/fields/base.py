"""What a kind of attribute is."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from foretaste.kernel.values import IndexArray, Value

FIELD_UNKNOWN = 0
"""The index of a value that is missing, unparsable or was never seen in training; known values count from 1."""


class FieldValues(Protocol):
    """The raw values of one field, from which its encoder is fitted; each view is made when it is asked for."""

    def counts(self) -> Mapping[str, int]:
        """How many rows have each canonical text; missing values are left out."""
        ...

    def numbers(self) -> npt.NDArray[np.float64]:
        """(R,) the rows that hold a finite number."""
        ...

    def raw(self) -> Sequence[Value]:
        """(R,) the rows as they came."""
        ...


class FieldShares(NamedTuple):
    """How often each value of a field was met: of known `values`, or of bins between `edges`.

    `weights` are those of the values in their order, then of all other values together; or those of the
    len(edges) + 1 bins. The last weight is that of missing values.
    """

    weights: tuple[float, ...]
    values: tuple[str, ...] | None = None
    edges: tuple[float, ...] | None = None
    of_lists: bool = False
    """A user has any number of the values."""
    vector: tuple[int, float] | None = None
    """Of vectors: how long they are, and the most that a number of one may be; `edges` are none then."""


class FieldEncoder(Protocol):
    """One field: its raw values to an index in each of C columns, 0 … `sizes[c]` - 1, where 0 is `FIELD_UNKNOWN`.

    Never fails on any `Value`.
    """

    kind: ClassVar[str]
    """The field's kind in `dataset.yaml`."""
    is_text: ClassVar[bool]
    """Whether the values of a CSV file are kept as written ("02139")."""
    is_several: ClassVar[bool]
    """Whether a raw value is a list or a tuple; in a CSV file it is a JSON array."""

    grows: ClassVar[bool]
    """Whether a warm start takes in values that are new; else the field stays as it was fitted first."""

    @classmethod
    def fit(cls, values: FieldValues) -> "FieldEncoder":
        """The encoder that these values make; none of them make one that knows nothing."""
        ...

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> "FieldEncoder":
        """What `to_dict` gave."""
        ...

    @property
    def sizes(self) -> tuple[int, ...]:
        """Rows of the embedding table of each column, at least one column."""
        ...

    @property
    def vocabulary(self) -> Sequence[str]:
        """The canonical texts that it knows, in the order of their indices; a field without names has none."""
        ...

    @property
    def probes(self) -> Sequence[Value]:
        """Raw values that are known, one or more an index: what the towers are tried out with."""
        ...

    def encode(self, values: Sequence[Value]) -> IndexArray:
        """(B,) raw values to (B, C) indices."""
        ...

    def unknown(self, indices: IndexArray) -> npt.NDArray[np.bool_]:
        """Which of (B, C) indices are those of a value that was never seen in training, or of a missing one."""
        ...

    def indices_of(self, values: Sequence[Value]) -> Mapping[int, frozenset[int]] | None:
        """For each column, the indices that stand for one of these values; a row has one where any of its columns does.

        Values that are not known have none. None: the field cannot be filtered by value.
        """
        ...

    def grown(self, texts: Sequence[str]) -> "FieldEncoder":
        """The encoder with those canonical texts appended that it does not know yet; no index moves.

        Raises `ValueError` where it cannot grow.
        """
        ...

    def begins_with(self, earlier: "FieldEncoder") -> bool:
        """Whether every index of the `earlier` encoder means the same here."""
        ...

    def shares(self, counts: Sequence[IndexArray], most: int) -> FieldShares:
        """What `counts` are counts of, those by index of each column; of named values, the `most` frequent are told."""
        ...

    def to_dict(self) -> dict[str, Any]:
        """What JSON keeps of it, with its `kind`."""
        ...


def shares_of_values(values: Sequence[str], weights: npt.NDArray[np.float64], missing: float, most: int) -> FieldShares:
    """The `most` frequent of the values with these weights (V,), and all others together."""
    kept = np.argsort(-weights, kind="stable")[:most]
    other = max(float(weights.sum() - weights[kept].sum()), 0.0)
    return FieldShares((*weights[kept].tolist(), other, missing), values=tuple(values[place] for place in kept))
