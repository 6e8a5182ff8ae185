"""Times as they come in files, to milliseconds since the epoch, and back to texts for people."""

from datetime import UTC, datetime, timedelta
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd

from foretaste.kernel.values import DATES, EARLIEST_MS

TimeUnit: TypeAlias = Literal["s", "ms"]

LATEST_MS = 4_102_444_800_000
"""2100: a time after it was read in the wrong unit, or is none, as one before `EARLIEST_MS`."""
_MILLISECONDS: dict[TimeUnit, float] = {"s": 1000.0, "ms": 1.0}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DATE_DIGITS = 8


def date_of_digits(text: str) -> datetime | None:
    """The midnight in UTC of a date written as `20260301`; None for any other text."""
    if len(text) != _DATE_DIGITS or not text.isascii() or not text.isdigit() or not within(int(text), DATES):
        return None
    try:
        return datetime.strptime(text, "%Y%m%d").replace(tzinfo=UTC)
    except ValueError:
        return None


def within(number: int, bounds: tuple[int, int]) -> bool:
    return bounds[0] <= number <= bounds[1]


def numbers_ms(numbers: "pd.Series[float]", unit: TimeUnit) -> "pd.Series[float]":
    """(R,) numbers in `unit` since the epoch to milliseconds; what reads as a date (20260301) is that date's midnight.

    In either unit such a number would lie in 1970, when nothing was recommended to anybody.
    """
    moments = numbers * _MILLISECONDS[unit]
    dates = (numbers >= DATES[0]) & (numbers <= DATES[1]) & (numbers == np.floor(numbers))
    if dates.any():
        days = pd.to_datetime(numbers[dates].astype("int64").astype(str), format="%Y%m%d", utc=True, errors="coerce")
        found = epoch_ms(days)
        moments[dates] = found.where(found.notna(), moments[dates])
    return moments


def texts_ms(texts: "pd.Series[Any]") -> "pd.Series[float]":
    """ISO 8601 texts to milliseconds since the epoch, nan for what is none; without a zone they are UTC."""
    return epoch_ms(pd.to_datetime(texts, utc=True, format="ISO8601", errors="coerce"))


def epoch_ms(stamps: "pd.Series[Any]") -> "pd.Series[float]":
    return (stamps - pd.Timestamp(0, tz="UTC")) / pd.Timedelta(milliseconds=1)


def absurd(moments: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """(R,) which milliseconds since the epoch lie before 1980 or after 2099."""
    outside: npt.NDArray[np.bool_] = (moments < EARLIEST_MS) | (moments >= LATEST_MS)
    return outside


def absurd_problem(moment_ms: float, unit: TimeUnit | None) -> str:
    """What to say of such a time; `unit` is None for one that had none to be wrong in."""
    found = f"is {utc_text(moment_ms)}: a time must lie from 1980 to 2099"
    if unit is None:
        return found
    other: TimeUnit = "ms" if unit == "s" else "s"
    meant = moment_ms / _MILLISECONDS[unit] * _MILLISECONDS[other]
    hint = "" if absurd(np.array([meant]))[0] else f" With {other!r} it is {utc_text(meant)}"
    return f"{found}; is time_unit {unit!r} right?{hint}"


def utc_text(moment_ms: float) -> str:
    """`2026-03-01T00:00:00Z`, to the second."""
    try:
        at = _EPOCH + timedelta(milliseconds=moment_ms)
    except OverflowError:
        return "after the year 9999" if moment_ms > 0 else "before the year 1"
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")
