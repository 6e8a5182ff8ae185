"""The rules of events beyond their types, the same for one that is read from a topic and one that comes over HTTP.

- A time more than a day ahead of the clock, or before 1970, is invalid. Any other that lies after Kafka's is taken as
  Kafka's (`event_time_ms`): it would decide the order of what is stored.
- An integer attribute beyond 64 bits is invalid (`oversized_integer` beside the events). So is any other such integer.
"""

from datetime import UTC, datetime

from foretaste.kernel.errors import InvalidInput
from foretaste.kernel.events import Origin, UserBehaved, event_time_ms

DAY_MS = 86_400_000


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


def in_time(event: UserBehaved, origin: Origin, now_ms: int) -> UserBehaved:
    """The behaviour as of when it happened (`event_time_ms`), where its sender claims a later time."""
    claimed_ms = to_ms(event.at)
    at_ms = event_time_ms(claimed_ms, origin, now_ms)
    if at_ms == claimed_ms:
        return event
    return event.model_copy(update={"at": datetime.fromtimestamp(at_ms / 1000, UTC)})
