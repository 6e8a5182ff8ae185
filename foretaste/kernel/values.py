"""Values as they come from outside, and the texts by which they are matched. Standard library and numpy alone."""

import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TypeAlias, TypeGuard, TypeVar

import numpy as np
import numpy.typing as npt

T = TypeVar("T")

MAX_BEHAVIOUR = 100
"""L: behaviours kept for a user, at most (the paper's setting)."""


ANSWERS = {"answered_no": False, "answered_yes": True}
"""Actions of behaviours that are answers to questions about items, and whether they say yes. An answer is no act."""


PASSED_OVER = "passed_over"
"""Action of a behaviour that says that the item was shown, and that the user chose another one. It is no act."""


MAX_PASSED_OVER = 20
"""Items that are kept of those that a user passed over, at most: the newest."""


NO_ACTS = frozenset({*ANSWERS, PASSED_OVER})
"""Actions of behaviours that are no acts."""


FIRST_ACTS = 20
"""Acts from which on the posterior of first acts (`models.runtime.acts`) adds nothing to what the towers know."""


MISSING_ACTION = "acted"
"""The action where data or an event name none."""


DAY_SECONDS, DAY_MS = 86_400.0, 86_400_000


EARLIEST_MS = 315_532_800_000
"""1980: nothing that a recommender learns from is older. A time before it was read in the wrong unit, or is none."""


DATES = (19000101, 20991231)
"""The first and the last number of eight digits that is a date; in either unit since the epoch it would lie in 1970."""


Partition: TypeAlias = tuple[str, int]
"""A topic of Kafka and a partition of it."""


FloatArray: TypeAlias = npt.NDArray[np.float32]


IndexArray: TypeAlias = npt.NDArray[np.int64]


Scalar: TypeAlias = str | int | float | bool | None


Value: TypeAlias = Scalar | Sequence[Scalar]
"""Of an attribute: one value, or a list of values or a vector, a list or a tuple."""


Attributes: TypeAlias = Mapping[str, Value]


_EXACT = 2**53


_WIDEST = 1024


_LONGEST_BOOLEAN = 5


MOST_ELEMENTS = 4096
"""Values of a list, and floats of a vector, at most."""


def is_several(value: object) -> TypeGuard[Sequence[Scalar]]:
    """Whether a raw value is a list of values, or a vector."""
    return isinstance(value, list | tuple)


def is_missing(value: Value) -> bool:
    """Whether a raw value is none at all; an empty list is a value."""
    return not is_several(value) and canonical(value) is None


def is_vector(value: Value, dimension: int, bound: float) -> bool:
    """Whether it is a vector of so many numbers from -`bound` to `bound`."""
    return is_several(value) and len(value) == dimension and all(abs(number(each)) <= bound for each in value)


def texts_of(value: Value) -> set[str]:
    """The canonical texts of a list's values; a value alone is a list of one, and what is missing has none."""
    values: Sequence[Value] = value if is_several(value) else [value]
    return {text for text in map(canonical, values) if text is not None}


def canonical(value: Value) -> str | None:
    """The text by which a raw value is matched, or None for a missing one.

    25, 25.0, "25" and "25.0" are one value; True, "true", "True" and "TRUE" are another. "", nan and
    whatever is no `Scalar` are missing.
    """
    if isinstance(value, str):
        return _canonical_text(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value) if value.bit_length() <= _WIDEST else hex(value)  # str() refuses thousands of digits
    if isinstance(value, float) and not math.isnan(value):
        return str(int(value)) if abs(value) <= _EXACT and value.is_integer() else repr(float(value))
    return None


def _canonical_text(text: str) -> str | None:
    if not text:
        return None
    if len(text) <= _LONGEST_BOOLEAN and (lower := text.lower()) in {"true", "false"}:
        return lower
    if text.endswith(".0") and text[:-2].removeprefix("-").isdecimal():
        return text[:-2]
    return text


def number(value: Value) -> float:
    """The finite number that a raw value stands for, or nan."""
    try:
        parsed = float(value)  # type: ignore[arg-type]  # None and whatever else is caught here
    except (TypeError, ValueError, OverflowError):
        return math.nan
    return parsed if math.isfinite(parsed) else math.nan


class GrowingColumn(Sequence[T]):
    """A column of a behaviour that can grow at less cost than making its elements anew."""

    @abstractmethod
    def grown(self, value: T, keep: int) -> Sequence[T]:
        """The last `keep` of its elements and one more behind them; this column stays as it is."""


def utc_time(at_ms: int) -> datetime | None:
    """A time in epoch milliseconds; None for one beyond what a date can tell, as where milliseconds were written for
    seconds."""
    try:
        return datetime.fromtimestamp(at_ms / 1000, UTC)
    except (ValueError, OverflowError, OSError):
        return None


def grown(column: Sequence[T], value: T) -> Sequence[T]:
    """A column of a behaviour with one more, the newest `MAX_BEHAVIOUR` of them."""
    if isinstance(column, GrowingColumn):
        return column.grown(value, MAX_BEHAVIOUR)
    return (*column, value)[-MAX_BEHAVIOUR:]
