"""Columns of the training log as integers: each distinct text is kept once, and lists lie one after the other."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from foretaste.kernel.errors import InvalidInput
from foretaste.kernel.values import Value
from models.data.indices import Indices
from models.runtime.account_age import NEVER_REGISTERED
from models.runtime.encoding import IndexArray

_AT_ONCE = 1 << 22
"""Texts that are looked at together: what is in memory beside the column and its numbers."""


class Vocabulary:
    """Distinct texts, numbered from 0 as they come, over as many columns as are shown to it."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    @property
    def texts(self) -> list[str]:
        """The texts, each at its number."""
        return list(self._numbers)

    def codes(self, column: Any) -> Indices:
        """(R,) the numbers of a chunked Arrow column of texts, plain or dictionary-encoded; -1 where there is none."""
        found = np.empty(len(column), dtype=np.int32)
        start = 0
        for chunk in _pieces(column):
            coded = chunk if pa.types.is_dictionary(chunk.type) else chunk.dictionary_encode()
            numbers = np.array([*map(self._number, coded.dictionary.to_pylist()), -1], dtype=np.int32)
            places = pc.fill_null(coded.indices, pa.scalar(len(numbers) - 1, coded.indices.type))
            np.take(numbers, places.to_numpy(), out=found[start : start + len(chunk)])
            start += len(chunk)
        return found

    def _number(self, text: str | None) -> int:
        return -1 if text is None else self._numbers.setdefault(text, len(self._numbers))


def _pieces(column: Any) -> Iterator[Any]:
    for chunk in column.chunks:
        for start in range(0, len(chunk), _AT_ONCE):
            yield chunk.slice(start, _AT_ONCE)


@dataclass(frozen=True, eq=False, slots=True)
class Lists:
    """G lists of items, each with its action: those of list g are `starts[g]` to `starts[g + 1]` of the R.

    `items` and `actions` (R,) are numbers of a vocabulary, -1 for none.
    """

    starts: IndexArray
    items: Indices
    actions: Indices

    @property
    def sizes(self) -> IndexArray:
        """(G,): items of each list."""
        return np.diff(self.starts)

    def between(self, first: int, end: int) -> "Lists":
        """Lists `first` to `end`, the end left out; nothing is copied but their starts."""
        starts = self.starts[first : end + 1]
        rows = slice(int(starts[0]), int(starts[-1]))
        return Lists(starts - starts[0], self.items[rows], self.actions[rows])

    def take(self, lists: IndexArray, most: int) -> "Lists":
        """These lists (B,), in this order, the last `most` of each."""
        ends = self.starts[lists + 1]
        sizes = np.minimum(ends - self.starts[lists], most)
        starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        rows = np.arange(starts[-1]) + np.repeat(ends - starts[1:], sizes)
        return Lists(starts, self.items[rows], self.actions[rows])


def starts_of(column: Any) -> IndexArray:
    """(G + 1,) where each list of a chunked Arrow column begins among all their values; a missing one is empty."""
    sizes = pc.fill_null(pc.list_value_length(column), 0).to_numpy().astype(np.int64)
    return np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)


def flat(column: Any) -> Any:
    """The values of a chunked Arrow column of lists, one after the other."""
    return pa.chunked_array([chunk.flatten() for chunk in column.chunks], column.type.value_type)


def first_of_each(column: Any) -> npt.NDArray[np.float64]:
    """(G,) the first number of each list of a chunked Arrow column; nan for an empty or a missing one."""
    starts, values = starts_of(column), np.append(flat(column).to_numpy(), np.nan)
    found: npt.NDArray[np.float64] = np.where(np.diff(starts) > 0, values[starts[:-1]], np.nan)
    return found


def times_ms(column: Any) -> IndexArray:
    """(R,) a chunked Arrow column of timestamps as whole milliseconds since the epoch."""
    stamps = pc.cast(column, pa.timestamp("ms", tz=column.type.tz), safe=False)
    return np.asarray(pc.cast(stamps, pa.int64()).to_numpy(), dtype=np.int64)


def times_ms_or_none(column: Any) -> IndexArray:
    """(R,) as `times_ms`; `NEVER_REGISTERED` where there is none."""
    stamps = pc.cast(column, pa.timestamp("ms", tz=column.type.tz), safe=False)
    return np.asarray(pc.fill_null(pc.cast(stamps, pa.int64()), NEVER_REGISTERED).to_numpy(), dtype=np.int64)


def integers(column: Any) -> IndexArray:
    """(R,) a chunked Arrow column of integers; 0 where there is none."""
    return np.asarray(pc.fill_null(column, 0).to_numpy(), dtype=np.int64)


class Fields:
    """S distinct JSON texts of raw values by name, as one column a name.

    Raises `InvalidInput`, naming `what` and the text, for one that is no JSON object.
    """

    def __init__(self, texts: Sequence[str], what: str) -> None:
        self._columns: dict[str, npt.NDArray[np.object_]] = {}
        self._missing = np.full(len(texts) + 1, None, dtype=object)
        for place, text in enumerate(texts):
            for name, value in _values(text, what).items():
                if name not in self._columns:
                    self._columns[name] = self._missing.copy()
                self._columns[name][place] = value

    @property
    def names(self) -> frozenset[str]:
        """Every name that a text has."""
        return frozenset(self._columns)

    def column(self, name: str) -> npt.NDArray[np.object_]:
        """(S + 1,) the values of a field, the last one for the number -1: None where a text does not have it."""
        return self._columns.get(name, self._missing)


def _values(text: str, what: str) -> dict[str, Value]:
    try:
        values = json.loads(text)
    except ValueError as error:
        raise InvalidInput(what, text, "is not JSON") from error
    if not isinstance(values, dict):
        raise InvalidInput(what, text, "must be a JSON object")
    return values
