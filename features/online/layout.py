"""Features of users as they lie in Redis in Feast's own layout, and back. Pure: nothing is connected to.

A user is one hash (its key: see `features.online.keys`). A feature is a field, named by a hash of `view:feature`, whose
value is Feast's `Value`; `_ts:view` holds the event time of a view. Feast's own way there and back takes several times
as long, since it serves any entity and any type; here the same hash and messages are used.

What is stored may be anything, since others write it too: a view whose row cannot be read counts as never written, and
is named in `UserFeatures.damaged`.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache, lru_cache
from typing import NamedTuple, TypeAlias

import numpy as np
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]  # it ships no types
from pydantic_core import to_json

from features.feast_api import FloatList, Value
from features.online.columns import nanos_of, read_texts, read_times, text_raw, texts_raw, time_of, times_raw, value_of
from foretaste.kernel.generations import slot
from foretaste.kernel.users import BehavedUser, Behaviour, EnrichedUser, ReenrichedUser, UserFeatures, VirtualBehaviour
from foretaste.kernel.values import Attributes, FloatArray

# `feast_api` goes first: it imports Feast without what that does besides
# isort: split
from feast.infra.online_stores.helpers import _mmh3

Raw: TypeAlias = bytes | None
"""A stored value; None where it was never written."""
Column: TypeAlias = tuple[str, str | None]
"""A view and one of its features; None for the view's event time."""

ATTRIBUTES_VIEW, BEHAVIOUR_VIEW = "user_attributes", "user_behaviour"
_FEATURES = {ATTRIBUTES_VIEW: ("attributes",), BEHAVIOUR_VIEW: ("items", "actions", "times", "version")}
_SLOT_FEATURES = ("vectors", "dimension", "generation")
_ROTTEN = (DecodeError, ValueError, RecursionError)
"""What reading a stored value raises when it is not what its view declares."""
_FLOAT = np.dtype("<f4")
_JSON = json.JSONDecoder()
_NO_BEHAVIOUR = Behaviour()
_NOTHING = [None] * 11
"""The values of a user of whom nothing is stored."""


class StoredRow(NamedTuple):
    """What is written of a user in one view."""

    view: str
    key: bytes
    nanos: int
    """Event time, nanoseconds since the epoch."""
    fields: tuple[bytes, ...]
    """Names and values by turns."""


@cache
def columns_of(view: str) -> tuple[Column, ...]:
    """All that is stored of a user in a view, the event time last."""
    return (*((view, feature) for feature in _FEATURES.get(view, _SLOT_FEATURES)), (view, None))


@cache
def read_columns(generation: int) -> tuple[Column, ...]:
    """All that is read of a user, with the slot of `generation`."""
    return (*columns_of(ATTRIBUTES_VIEW), *columns_of(BEHAVIOUR_VIEW), *columns_of(slot(generation)))


@cache
def fields_of(columns: Sequence[Column]) -> tuple[bytes, ...]:
    """The fields of a user's hash that hold these columns."""
    return tuple(stamp_of(view) if feature is None else _field(view, feature) for view, feature in columns)


def attributes_row(key: bytes, user: EnrichedUser) -> StoredRow:
    """`user_attributes`, as of `at_ms`."""
    return StoredRow(ATTRIBUTES_VIEW, key, user.at_ms * 1_000_000, (ATTRIBUTES, attributes_raw(user.attributes)))


def attributes_raw(attributes: Attributes) -> bytes:
    """The attributes as Redis holds them."""
    return text_raw(attributes_json(attributes))


def attributes_json(attributes: Attributes) -> bytes:
    """The attributes as they are stored: a JSON object in UTF-8."""
    return to_json(dict(attributes))


def virtual_row(key: bytes, user: ReenrichedUser) -> StoredRow:
    """A row of the generation's slot, as of `at_ms`."""
    return StoredRow(slot(user.virtual.generation), key, user.at_ms * 1_000_000, virtual_fields(user.virtual))


def virtual_fields(virtual: VirtualBehaviour) -> tuple[bytes, ...]:
    """Names and values of the generation's slot by turns."""
    names, values = fields_of(columns_of(slot(virtual.generation))), virtual_values(virtual)
    return (names[0], values[0], names[1], values[1], names[2], values[2])


def virtual_values(virtual: VirtualBehaviour) -> tuple[bytes, bytes, bytes]:
    """Vectors, dimension and generation."""
    vectors = virtual.vectors
    numbers = vectors if vectors.dtype is _FLOAT else vectors.astype(_FLOAT)
    floats = _floats_head(vectors.size) + numbers.tobytes()
    return floats, _integer(vectors.shape[1]), _integer(virtual.generation)


def behaviour_row(key: bytes, user: BehavedUser) -> StoredRow:
    """`user_behaviour`, with the version and as of the event time that follow the read ones."""
    items, actions, times, version = BEHAVIOUR
    fields = (
        *(items, texts_raw(user.behaviour.items)),
        *(actions, texts_raw(user.behaviour.actions)),
        *(times, times_raw(user.behaviour.times)),
        *(version, _integer(user.version)),
    )
    return StoredRow(BEHAVIOUR_VIEW, key, user.at_us * 1000, fields)


def version_read(user: BehavedUser) -> tuple[bytes, bytes]:
    """The version and the event time that the user's row was made from, as this layout stores them."""
    version = _integer(user.read_version) if user.read_version else b""
    return version, time_of(user.read_us * 1000)


def version_stored(version: Raw, time: Raw) -> tuple[int, int]:
    """The version of a behaviour and its event time (microseconds); 0 for each that is absent or cannot be read."""
    return _or_zero(_number, version), _or_zero(nanos_of, time) // 1000


def features_of(user_id: str, generation: int, values: Sequence[Raw]) -> UserFeatures:
    """The features of one user from the values of `read_columns(generation)`; an unset value is absent.

    An embedding without its generation or dimension, or with nothing in it, counts as absent too, and a view whose
    values cannot be read as never written.
    """
    if values == _NOTHING:
        return UserFeatures(user_id)
    attributes, attributes_time, items, actions, times, version, time, vectors, dimension, number, virtual_time = values
    try:
        return UserFeatures(
            user_id,
            _attributes(attributes),
            _behaviour(items, actions, times),
            _number(version),
            _virtual(vectors, dimension, number),
            nanos_of(attributes_time) // 1_000_000,
            nanos_of(virtual_time) // 1_000_000,
            nanos_of(time) // 1000,
        )
    except _ROTTEN:
        return _salvaged(user_id, generation, values)


def unreadable(user_id: str, generation: int) -> UserFeatures:
    """A user of whom nothing can be read."""
    return UserFeatures(user_id, damaged=(ATTRIBUTES_VIEW, BEHAVIOUR_VIEW, slot(generation)))


def texts_of(raw: Raw) -> Sequence[str]:
    """A list of texts; empty where it is not set or cannot be read."""
    try:
        return tuple(read_texts(raw or b""))
    except _ROTTEN:
        return ()


def is_damaged(view: str, values: Sequence[Raw]) -> bool:
    """Whether the values of `columns_of(view)` cannot be read."""
    *features, time = values
    try:
        _READERS.get(view, _virtual)(*features)
        nanos_of(time)
    except _ROTTEN:
        return True
    return False


def _salvaged(user_id: str, generation: int, values: Sequence[Raw]) -> UserFeatures:
    """What can be read of a user some of whose views cannot; a version is kept even so, for the write that mends it."""
    readable: list[Raw] = []
    damaged: list[str] = []
    for view in (ATTRIBUTES_VIEW, BEHAVIOUR_VIEW, slot(generation)):
        held: Sequence[Raw] = values[len(readable) : len(readable) + len(columns_of(view))]
        if is_damaged(view, held):
            damaged.append(view)
            held = [None] * len(held)
        readable += held
    version, behaviour_us = version_stored(values[5], values[6])
    whole = features_of(user_id, generation, readable)
    return replace(whole, behaviour_version=version, behaviour_us=behaviour_us, damaged=tuple(damaged))


@cache
def stamp_of(view: str) -> bytes:
    """The field that holds the event time of a view."""
    return f"_ts:{view}".encode()


def readable_nanos(time: Raw) -> int:
    """Likewise, and 0 for what is no time."""
    return _or_zero(nanos_of, time)


def _field(view: str, feature: str) -> bytes:
    return bytes(_mmh3(f"{view}:{feature}"))


(ATTRIBUTES,) = fields_of(columns_of(ATTRIBUTES_VIEW))[:-1]
BEHAVIOUR = fields_of(columns_of(BEHAVIOUR_VIEW))[:-1]


@lru_cache(4096)
def _integer(number: int) -> bytes:
    return bytes(Value(int64_val=number).SerializeToString())


INTEGER = _integer(1)[:-1]
"""What stands before a whole number."""


@cache
def _floats_head(count: int) -> bytes:
    """What stands before the floats themselves in a list of so many."""
    whole = bytes(Value(float_list_val=FloatList(val=[0.0] * count)).SerializeToString())
    return whole[: len(whole) - 4 * count]


def _floats(raw: bytes) -> FloatArray:
    """A list of floats; of a usual length without Feast's message, which would make an object of each."""
    count = max(0, len(raw) - 4) // 4
    head = _floats_head(count)
    if len(raw) == len(head) + 4 * count and raw.startswith(head):
        return np.frombuffer(raw, _FLOAT, count, len(head)).astype(np.float32)
    return np.array(value_of(raw, "float_list_val").val, dtype=np.float32)


def _virtual(vectors: Raw, dimension: Raw, generation: Raw) -> VirtualBehaviour | None:
    if not (vectors and dimension and generation):
        return None
    flat, columns, number = _floats(vectors), _number(dimension), _number(generation)
    if not (flat.size and columns and number):
        return None
    if not np.isfinite(flat).all():
        raise ValueError("vectors are not finite")
    return VirtualBehaviour(number, flat.reshape(-1, columns))


def _attributes(raw: Raw) -> Attributes | None:
    text = value_of(raw, "string_val") if raw else ""
    if not text:
        return None
    found = _object(text)
    if "\\u" in text:  # an escape can hold half a character, which no tower can be sent
        json.dumps(found, ensure_ascii=False).encode()
    return found


def _object(text: str) -> Attributes:
    """The JSON object that a text is. Raises `ValueError` for anything else."""
    if text[0] == "{":  # as `attributes_row` wrote it
        found, end = _JSON.raw_decode(text)
        if end == len(text):
            return dict(found)
    found = json.loads(text)
    if not isinstance(found, dict):
        raise ValueError("attributes are no JSON object")  # noqa: TRY004  # as of a text that is no JSON
    return found


def _behaviour(items: Raw, actions: Raw, times: Raw) -> Behaviour:
    if not (items or actions or times):
        return _NO_BEHAVIOUR
    columns = read_texts(items or b""), read_texts(actions or b""), read_times(times or b"")
    if not len(columns[0]) == len(columns[1]) == len(columns[2]):
        raise ValueError("the columns of a behaviour have one length")
    return Behaviour(*columns)


def _versioned(items: Raw, actions: Raw, times: Raw, version: Raw) -> tuple[Behaviour, int]:
    return _behaviour(items, actions, times), _number(version)


_READERS: dict[str, Callable[..., object]] = {ATTRIBUTES_VIEW: _attributes, BEHAVIOUR_VIEW: _versioned}
"""What reads the features of a view; of a slot, `_virtual`."""


@lru_cache(4096)
def _number(raw: Raw) -> int:
    return int(value_of(raw, "int64_val")) if raw else 0


def _or_zero(read: Callable[[Raw], int], raw: Raw) -> int:
    try:
        return read(raw)
    except _ROTTEN:
        return 0
