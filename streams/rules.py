"""The rules of events beyond their types, the same for one that is read from a topic and one that comes over HTTP.

- A time more than a day ahead of the clock, or before 1980, is invalid: it was read in the wrong unit, or is none. Any
  other that lies after Kafka's is taken as Kafka's (`event_time_ms`): it would decide the order of what is stored.
- What was passed over is told by the act on what was chosen: it is no action, and does not hold the chosen item.
- An integer attribute beyond 64 bits is invalid (`oversized_integer` beside the events). So is any other such integer.
"""

from datetime import UTC, datetime

from foretaste.kernel.errors import InvalidInput
from foretaste.kernel.events import Message, UserBehaved, event_name, event_time_ms
from foretaste.kernel.values import DAY_MS, EARLIEST_MS, PASSED_OVER

_UNIT = 1000
"""Milliseconds of a second: what a time in the wrong one of both is wrong by."""


def to_ms(at: datetime) -> int:
    """Epoch milliseconds of an aware time."""
    return round(at.timestamp() * 1000)


def wrong_time(field: str, at: datetime | None, now_ms: int) -> InvalidInput | None:
    """What is wrong with a time, by a clock at `now_ms` (epoch milliseconds); None where nothing is."""
    if at is None:
        return None
    at_ms = to_ms(at)
    if at_ms < EARLIEST_MS:
        meant_ms = at_ms * _UNIT
        hint = ""
        if EARLIEST_MS <= meant_ms <= now_ms + DAY_MS:
            meant = datetime.fromtimestamp(meant_ms / 1000, UTC).isoformat(timespec="seconds")
            hint = f"; as seconds that were taken for milliseconds it is {meant}"
        return InvalidInput(field, at.isoformat(), f"must not be before 1980{hint}")
    if at_ms > now_ms + DAY_MS:
        return InvalidInput(field, at.isoformat(), "must not be more than a day in the future")
    return None


def wrong_act(event: UserBehaved, now_ms: int) -> InvalidInput | None:
    """What is wrong with a behaviour, by a clock at `now_ms` (epoch milliseconds); None where nothing is."""
    if event.action == PASSED_OVER:
        return InvalidInput("action", event.action, "is no act; name the item in `passed_over` of the act on another")
    if event.item_id in event.passed_over:
        return InvalidInput("passed_over", event.item_id, "must not hold `item_id`, which was chosen")
    return wrong_time("at", event.at, now_ms)


def as_logged(event: UserBehaved, message: Message, now_ms: int) -> UserBehaved:
    """The behaviour as the training log keeps it: as of when it happened (`event_time_ms`), where its sender claims a
    later time, and under its identity (`event_name`)."""
    changes: dict[str, object] = {"event_id": event_name(event.event_id, message.origin)}
    claimed_ms = to_ms(event.at)
    at_ms = event_time_ms(claimed_ms, message.origin, now_ms)
    if at_ms != claimed_ms:
        changes["at"] = datetime.fromtimestamp(at_ms / 1000, UTC)
    return event.model_copy(update=changes)
