"""The edge: a Kafka record becomes an event or a dead letter, never an exception.

The rules beyond the types in `foretaste.kernel.events` are those of `streams.rules`, and:

- A key that is not the user's or item's id is invalid, since it decides the partition and that decides the order. A
  sign-up or an erasure may come without a key: time orders those, whoever handles them. A behaviour may not: of equal
  times the order in the partition decides. Nor may an item, whose topic is compacted.
- A ranking has as many scores as items, probabilities too if any, and as many actions and times as behaviours.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress

from foretaste.kernel.errors import InvalidInput
from foretaste.kernel.events import (
    INT64_MAX,
    DeadLetter,
    Message,
    Reason,
    ReenrichUsers,
    UserBehaved,
    UserErased,
    UserRanked,
    UserRegistered,
    oversized_integer,
)
from foretaste.kernel.running.registered_items import ItemRegistered
from streams.codec import EVENTS, EventT, Undecodable
from streams.rules import wrong_act, wrong_time


def decode_registered(message: Message, *, now_ms: int, max_bytes: int) -> UserRegistered | DeadLetter:
    """A `user-registered` record as an event, or as a dead letter whose detail names the field and the value.

    `now_ms` is the clock in epoch milliseconds, `max_bytes` the largest value taken.
    """
    return _checked(
        message,
        UserRegistered,
        max_bytes,
        lambda event: (
            _wrong_key(message, event.user_id, optional=True)
            or _letter(message, wrong_time("registered_at", event.registered_at, now_ms))
            or _letter(message, oversized_integer("attributes", event.attributes))
        ),
    )


def decode_item(message: Message, *, now_ms: int, max_bytes: int) -> ItemRegistered | DeadLetter:
    """An `item-registered` record as an event, or as a dead letter; the arguments are those of `decode_registered`."""
    return _checked(
        message,
        ItemRegistered,
        max_bytes,
        lambda event: (
            _wrong_key(message, event.item_id, optional=False, of="item")
            or _letter(message, wrong_time("registered_at", event.registered_at, now_ms))
            or _letter(message, oversized_integer("attributes", event.attributes))
        ),
    )


def decode_behaved(message: Message, *, now_ms: int, max_bytes: int) -> UserBehaved | DeadLetter:
    """A `user-behaved` record as an event, or as a dead letter; the arguments are those of `decode_registered`."""
    return _checked(
        message,
        UserBehaved,
        max_bytes,
        lambda event: _wrong_key(message, event.user_id, optional=False) or _letter(message, wrong_act(event, now_ms)),
    )


def decode_erased(message: Message, *, now_ms: int, max_bytes: int) -> UserErased | DeadLetter:
    """A `user-erased` record as an event, or as a dead letter; the arguments are those of `decode_registered`."""
    return _checked(
        message,
        UserErased,
        max_bytes,
        lambda event: (
            _wrong_key(message, event.user_id, optional=True)
            or _letter(message, wrong_time("occurred_at", event.occurred_at, now_ms))
        ),
    )


def decode_ranked(message: Message, *, now_ms: int, max_bytes: int) -> UserRanked | DeadLetter:
    """A `user-ranked` record as an event, or as a dead letter; the arguments are those of `decode_registered`."""
    return _checked(
        message,
        UserRanked,
        max_bytes,
        lambda event: (
            _wrong_key(message, event.user_id, optional=False)
            or _letter(message, wrong_time("at", event.at, now_ms))
            or _uneven(message, event)
            or _oversized_number(message, event)
        ),
    )


def decode_page(message: Message) -> ReenrichUsers | DeadLetter:
    """A `user-reenrich` record as a page of users, or as a dead letter; its size is what its sender made it."""
    return _decode(message, ReenrichUsers, None)


def readable(messages: Sequence[Message], kind: type[EventT]) -> list[EventT]:
    """The records that are events of that kind, in their order. Others are passed over: another way keeps them."""
    events = []
    for message in messages:
        with suppress(Undecodable):
            events.append(EVENTS.decode(message.value, kind))
    return events


def _checked(
    message: Message, kind: type[EventT], max_bytes: int, wrong: Callable[[EventT], DeadLetter | None]
) -> EventT | DeadLetter:
    event = _decode(message, kind, max_bytes)
    return event if isinstance(event, DeadLetter) else wrong(event) or event


def _decode(message: Message, kind: type[EventT], max_bytes: int | None) -> EventT | DeadLetter:
    size = len(message.value or b"")
    if max_bytes is not None and size > max_bytes:
        return DeadLetter(message, Reason.TOO_LARGE, f"value: at most {max_bytes} bytes (got {size} bytes)")
    try:
        return EVENTS.decode(message.value, kind)
    except Undecodable as error:
        return DeadLetter(message, error.reason, str(error))


def _wrong_key(message: Message, expected: str, *, optional: bool, of: str = "user") -> DeadLetter | None:
    if message.key is None and optional:
        return None
    if message.key == expected.encode():
        return None
    return _invalid(message, "key", message.key, f"must be the {of} id {expected[:80]!r}")


def _uneven(message: Message, event: UserRanked) -> DeadLetter | None:
    behaved = len(event.behaviour_items)
    for field, values, expected in (
        ("scores", event.scores, len(event.items)),
        ("probabilities", event.probabilities, len(event.items) if event.probabilities else 0),
        ("behaviour_actions", event.behaviour_actions, behaved),
        ("behaviour_times", event.behaviour_times, behaved),
    ):
        if len(values) != expected:
            return _invalid(message, field, len(values), f"must be {expected} values")
    return None


def _oversized_number(message: Message, event: UserRanked) -> DeadLetter | None:
    numbers = {
        "zero_shot_generation": event.zero_shot_generation or 0,
        "ranking_generation": event.ranking_generation or 0,
        "warm_after": event.warm_after or 0,
        "behaviour_times": max(map(abs, event.behaviour_times), default=0),
    }
    for name, number in numbers.items():
        if abs(number) > INT64_MAX:
            return _invalid(message, name, number, "must fit in 64 bits")
    return None


def _invalid(message: Message, field: str, value: object, problem: str) -> DeadLetter:
    return DeadLetter(message, Reason.INVALID, str(InvalidInput(field, value, problem)))


def _letter(message: Message, broken: InvalidInput | None) -> DeadLetter | None:
    return None if broken is None else DeadLetter(message, Reason.INVALID, str(broken))
