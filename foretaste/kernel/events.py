"""Events on Kafka, and what becomes of one that cannot be processed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from hashlib import blake2b
from typing import Annotated, TypeAlias

from pydantic import (
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    StrictFloat,
    StrictInt,
    WithJsonSchema,
)

from foretaste.kernel.errors import InvalidInput
from foretaste.kernel.event_order import DIGEST_BYTES, Place
from foretaste.kernel.ranking import Cause, Fallback, Source
from foretaste.kernel.values import DATES, EARLIEST_MS, MISSING_ACTION, MOST_ELEMENTS, Attributes, is_several

MAX_ID = 256
"""Characters in a user or item id, at most."""
MAX_FIELD = 120
"""Characters of a field's name in a problem, at most: names come from outside too."""


Id = Annotated[str, Field(min_length=1, max_length=MAX_ID, strict=True)]
EventId: TypeAlias = Id | None
"""The sender's own name of an event: what comes again under it, for the same user, is the same event and carried out
once. Without one each record is an event of its own."""


Text = Annotated[str, Field(min_length=0, strict=True)]
"""Any text that UTF-8 can carry. A constraint, even one that all meet, has pydantic refuse what holds a lone surrogate,
which Python and JSON allow and no store, broker or tower takes."""


WireScalar: TypeAlias = Text | StrictBool | StrictInt | StrictFloat | None


WireValue: TypeAlias = WireScalar | Annotated[Sequence[WireScalar], Field(max_length=MOST_ELEMENTS)]
"""An attribute: one value, or a list of values or a vector."""


_TIME_SCHEMA = {
    "type": ["string", "number"],
    "format": "date-time",
    "minimum": EARLIEST_MS // 1000,
    "description": "With its offset from UTC; a number is seconds since the epoch, from 2e10 on milliseconds. "
    "Not before 1980, and at most a day in the future.",
}


def _no_bare_date(value: object) -> object:
    """20260301 would be taken for seconds, which is a day in August 1970: nobody means that."""
    number = int(value) if isinstance(value, str) and value.isdecimal() and len(value) < MAX_ID else value
    if isinstance(number, int | float) and DATES[0] <= number <= DATES[1]:
        raise ValueError("a date needs its time and zone, as in 2026-03-01T00:00:00Z; as seconds it lies in 1970")
    return value


EventTime = Annotated[AwareDatetime, BeforeValidator(_no_bare_date), WithJsonSchema(_TIME_SCHEMA)]


INT64_MAX = 2**63 - 1


def oversized_integer(field: str, attributes: Attributes) -> InvalidInput | None:
    """What is wrong with the first integer beyond 64 bits, which no tower and no store holds; None without one."""
    for name, value in attributes.items():
        for each in value if is_several(value) else (value,):
            if isinstance(each, int) and abs(each) > INT64_MAX:
                return InvalidInput(f"{field}.{name[:MAX_FIELD]}", each, "must fit in 64 bits")
    return None


class Topic(StrEnum):
    """The Kafka topics, before the prefix that a deployment may add. All are keyed by user id but where one says so."""

    REGISTERED = "user-registered"
    BEHAVED = "user-behaved"
    ENRICHED = "user-enriched"
    RANKED = "user-ranked"
    ERASED = "user-erased"
    PROFILES = "user-profiles"
    """Compacted: the newest registration of each user, as it is stored, and null for one that was erased."""
    ERASURE_RECORDS = "erasure-records"
    """Not keyed: that somebody was erased, when, and how much; not who. Kept for ever."""
    REENRICH = "user-reenrich"
    """Not keyed: each event names a page of users whose virtual behaviour of one generation is to be made."""
    ITEM_REGISTERED = "item-registered"
    """Keyed by item id."""
    DEAD_LETTERS = "dead-letters"
    REPLAYS = "dead-letter-replays"
    """Not keyed: which dead letters were sent again."""


class Event(BaseModel):
    """What every event has in common: frozen, and open to fields that nobody here knows."""

    model_config = ConfigDict(frozen=True, extra="ignore", ser_json_inf_nan="null", allow_inf_nan=False)


class UserRegistered(Event):
    """`user-registered`: a user signed up. Attributes are raw values; fields that nobody knows are ignored."""

    user_id: Id
    attributes: Mapping[Text, WireValue]
    registered_at: EventTime | None = None
    """When, by the sender's clock; the Kafka timestamp where absent. See `event_time_ms`."""
    event_id: EventId = None
    """The sender's own name of this sign-up."""


Ids: TypeAlias = Annotated[tuple[Id, ...], Field(max_length=MOST_ELEMENTS)]


def _none_as_empty(value: object) -> object:
    return () if value is None else value  # as some serialisers write an empty list


class UserBehaved(Event):
    """`user-behaved`: a user acted on an item."""

    user_id: Id
    item_id: Id
    at: EventTime
    action: Annotated[str, Field(max_length=MAX_ID)] = MISSING_ACTION
    ranking_id: Id | None = None
    """The ranking that it answers, where the sender knows; without it, any that showed the item shortly before."""
    event_id: EventId = None
    """The sender's own name of this act."""
    passed_over: Annotated[Ids, BeforeValidator(_none_as_empty, json_schema_input_type=Ids | None)] = ()
    """Items that the user was shown and did not choose, those that were looked at last behind the others: in a list,
    say, what stood above `item_id`. The last 20 count."""


class UserErased(Event):
    """`user-erased`: all that is known of a user until then is to be forgotten. A later registration starts anew."""

    user_id: Id
    occurred_at: EventTime | None = None
    """When, by the sender's clock; the Kafka timestamp where absent. See `event_time_ms`."""
    event_id: EventId = None
    """The sender's own name of this erasure; better none that tells who the user is, since its digest is kept."""


class UserEnriched(Event):
    """`user-enriched`: the user's virtual behaviour of this generation can now be read from the online store."""

    user_id: Id
    generation: Annotated[int, Field(ge=1)]
    enriched_at: AwareDatetime


class UserProfile(Event):
    """`user-profiles`: a user's attributes and which registration they are from, as the online store holds them."""

    model_config = ConfigDict(ser_json_bytes="hex", val_json_bytes="hex")

    user_id: Id
    attributes: Mapping[Text, WireValue]
    registered_at: AwareDatetime
    """When it happened, to the millisecond (`event_time_ms`)."""
    place: Place | None = None
    """Where it stands in Kafka; None for one that never stood there, of an import say."""
    registrations: tuple[bytes, ...] = ()
    """Digests of the registrations that were applied last, as `AttributesVersion` has them."""
    first_registered_at: AwareDatetime | None = None
    """When the user registered first, where that was before `registered_at`; else, and in events of earlier versions,
    None."""


class ReenrichUsers(Event):
    """`user-reenrich`: these users need virtual behaviour of this generation, unless they are warm or have it."""

    generation: Annotated[int, Field(ge=1)]
    user_ids: tuple[Id, ...]


@dataclass(frozen=True, slots=True)
class Origin:
    """Where an event was read: its topic, partition and offset, and its Kafka timestamp in milliseconds."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int

    @property
    def place(self) -> Place:
        return Place(f"{self.topic}-{self.partition}", self.offset, self.timestamp_ms)


def event_time_ms(claimed_ms: int | None, origin: Origin, now_ms: int) -> int:
    """When an event happened, epoch milliseconds: the time that its sender claims, but not after Kafka had it.

    A sender's clock that runs ahead would otherwise put its events before all that really follow. The bound is the
    record's Kafka timestamp, so that a record that is read again has the same time again; where that lies ahead of the
    reader's clock too, or there is none, the bound is the clock at `now_ms`.
    """
    received_ms = origin.timestamp_ms if 0 < origin.timestamp_ms <= now_ms else now_ms
    return received_ms if claimed_ms is None else min(claimed_ms, received_ms)


@dataclass(frozen=True, slots=True)
class Message:
    """A Kafka record as it was read, not yet decoded."""

    key: bytes | None
    value: bytes | None
    origin: Origin
    """Of one that was a dead letter and was replayed: where it was read first."""
    attempts: int = 0
    """How often it was replayed."""


def event_digest(event_id: str | None, message: Message) -> bytes:
    """Bytes by which an event is told from others of its user: of its `event_id`, else of its place in Kafka.

    The timestamp and the value are part of the place, since a topic that is deleted and made anew counts its offsets
    from 0 again.
    """
    digest = blake2b(digest_size=DIGEST_BYTES)
    if event_id is not None:
        digest.update(b"id " + event_id.encode())
    else:
        origin = message.origin  # written as Python shows a `Place`, which making and showing one costs twice as much
        partition = f"{origin.topic}-{origin.partition}"
        place = f"place Place(partition={partition!r}, offset={origin.offset}, timestamp_ms={origin.timestamp_ms}) "
        digest.update(place.encode() + (message.value or b""))
    return digest.digest()


def claimed_digest(item_id: str, action: str, claimed_ms: int) -> bytes:
    """Likewise for an act without `event_id`: one that is sent again is another record, as of another time where its
    sender's clock runs ahead of Kafka's, but claims the same."""
    return blake2b(f"claimed {item_id!r} {action!r} {claimed_ms}".encode(), digest_size=DIGEST_BYTES).digest()


def event_name(event_id: str | None, origin: Origin) -> str:
    """An event as the training log tells it from others of its user: its `event_id`, else its place in Kafka.

    The timestamp is part of the place, as in `event_digest`.
    """
    if event_id is not None:
        return event_id
    return f"{origin.topic}/{origin.partition}@{origin.offset} {origin.timestamp_ms}"


class Reason(StrEnum):
    """Why an event became a dead letter."""

    TOO_LARGE = "too_large"
    MALFORMED = "malformed"
    INVALID = "invalid"
    UNKNOWN_ITEM = "unknown_item"
    NON_FINITE = "non_finite"
    FOREIGN = "foreign"
    """Nothing that was ever an event here: somebody else put it on the topic of dead letters."""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """An event that cannot be processed, kept whole with its reason; `detail` names the field and the value."""

    message: Message
    reason: Reason
    detail: str


_CAUSES = frozenset(Cause)


def _known_cause(value: object) -> object:
    """A cause that a later version added is none: an older reader of the log loses no ranking by it."""
    return value if isinstance(value, str) and value in _CAUSES else None


class UserRanked(Event):
    """`user-ranked`: a ranking as it was served, with the features that the towers read: what training learns from.

    `items` are those that were shown, best first; `scores` are theirs. `attributes` is None where none were known.
    """

    ranking_id: Id
    user_id: Id
    at: AwareDatetime
    items: tuple[Id, ...]
    scores: tuple[float, ...]
    context: Mapping[Text, WireScalar] = Field(default_factory=dict)
    attributes: Mapping[Text, WireValue] | None = None
    behaviour_items: tuple[str, ...] = ()
    behaviour_actions: tuple[str, ...] = ()
    behaviour_times: tuple[int, ...] = ()
    """Milliseconds since the epoch, as in `Behaviour`."""
    served_by: Source
    fallback: Fallback | None = None
    cause: Annotated[Cause | None, BeforeValidator(_known_cause)] = None
    """Why it fell back or was repaired; None in events of earlier versions, and for a cause of a later one."""
    reason: str | None = None
    """The same for a person to read."""
    zero_shot_generation: int | None = None
    ranking_generation: int | None = None
    warm_after: int | None = None
    """Of the generation that served; None where there was none."""
    registered_at: AwareDatetime | None = None
    """When the user had registered first, to the millisecond; None where that was not known, and in events of earlier
    versions."""
    probabilities: tuple[Annotated[float, Field(ge=0, le=1)], ...] = ()
    """Of each item that it stands at its position, given those above it, where their order was drawn; else empty."""
