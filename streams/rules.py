"""The rules of events beyond their types, the same for one that is read from a topic and one that comes over HTTP.

- A time more than a day ahead of the clock, or before 1970, is invalid: it would decide the order of what is stored.
- An integer attribute beyond 64 bits is invalid: no tower and no store holds it. So is any other such integer.
"""

from datetime import datetime

from foretaste.kernel.errors import InvalidInput
from foretaste.kernel.values import Attributes
from streams.codec import MAX_FIELD

DAY_MS = 86_400_000
INT64_MAX = 2**63 - 1


def to_ms(at: datetime) -> int:
    """Epoch milliseconds of an aware time."""
    return round(at.timestamp() * 1000)


def wrong_time(field: str, at: datetime | None, now_ms: int) -> InvalidInput | None:
    """What is wrong with a time, by a clock at `now_ms` (epoch milliseconds); None where nothing is."""
    if at is None:
        return None
    at_ms = to_ms(at)
    if at_ms < 0:
        return InvalidInput(field, at.isoformat(), "must not be before 1970")
    if at_ms > now_ms + DAY_MS:
        return InvalidInput(field, at.isoformat(), "must not be more than a day in the future")
    return None


def oversized_integer(field: str, attributes: Attributes) -> InvalidInput | None:
    """The first integer beyond 64 bits; None where there is none."""
    for name, value in attributes.items():
        if isinstance(value, int) and abs(value) > INT64_MAX:
            return InvalidInput(f"{field}.{name[:MAX_FIELD]}", value, "must fit in 64 bits")
    return None
