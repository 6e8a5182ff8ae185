"""Features of users as they lie in Redis in Feast's own layout, and back. Pure: nothing is connected to.

A user is one hash. Its key is Feast's entity key and the project; a feature is a field, named by a hash of
`view:feature`, whose value is Feast's `Value`; `_ts:view` holds the time of a view. Feast's own way there and back
takes several times as long, since it serves any entity and any type; here the same hash, messages and key are used, and
of the key what all users share is kept.
"""

import json
import re
import struct
from collections.abc import Sequence
from functools import cache, lru_cache
from typing import NamedTuple, TypeAlias

import numpy as np
from google.protobuf.timestamp_pb2 import Timestamp  # type: ignore[import-untyped]  # it ships no types

from features.feast_api import EntityKey, FloatList, Int64List, StringList, Value
from foretaste.kernel.generations import slot
from foretaste.kernel.users import BehavedUser, Behaviour, EnrichedUser, ReenrichedUser, UserFeatures, VirtualBehaviour
from foretaste.kernel.values import Attributes, FloatArray, StoredAttributes

# `feast_api` goes first: it imports Feast without what that does besides
# isort: split
from feast.infra.online_stores.helpers import _mmh3, _redis_key

Raw: TypeAlias = bytes | None
"""A field's value; None where it was never written."""

_LENGTH = struct.Struct("<I")
_NANOS = 1_000_000_000
_FLOAT = np.dtype("<f4")
_JSON = json.JSONDecoder()
_NO_BEHAVIOUR = Behaviour()


class Keys:
    """The keys of a project's users."""

    def __init__(self, project: str) -> None:
        nobody = EntityKey(join_keys=["user_id"], entity_values=[Value(string_val="")])
        self._project = project.encode()
        self._head = _redis_key(project, nobody).removesuffix(self._project)[: -_LENGTH.size]

    def of(self, user_id: str) -> bytes:
        """What Feast's `_redis_key` says of this user."""
        value = user_id.encode()
        return b"".join((self._head, _LENGTH.pack(len(value)), value, self._project))

    def user_of(self, key: bytes) -> str | None:
        """Whose key it is; None for any other key, one of another project among them."""
        start = len(self._head) + _LENGTH.size
        if len(key) < start or not key.startswith(self._head):
            return None
        end = start + _LENGTH.unpack_from(key, len(self._head))[0]
        return key[start:end].decode() if key[end:] == self._project and end <= len(key) else None

    @property
    def pattern(self) -> bytes:
        """A glob that all of them match, and few others."""
        return b"*".join(re.sub(rb"([*?\[\]\\^])", rb"\\\1", part) for part in (self._head, self._project))


class Row(NamedTuple):
    """What is written of a user in one view."""

    key: bytes
    nanos: int
    """The time of the view, since the epoch."""
    fields: tuple[bytes, ...]
    """Names and values by turns."""


def attributes_row(key: bytes, user: EnrichedUser) -> Row:
    """`user_attributes`, as of `at_ms`."""
    text = json.dumps(dict(user.attributes), ensure_ascii=False, separators=(",", ":"))
    value = Value(string_val=text).SerializeToString()
    return Row(key, user.at_ms * 1_000_000, (ATTRIBUTES, value))


def virtual_row(key: bytes, user: ReenrichedUser) -> Row:
    """A row of the generation's slot, as of `at_ms`."""
    vectors, generation = user.virtual.vectors, user.virtual.generation
    names = _slot_fields(slot(generation))
    numbers = vectors if vectors.dtype is _FLOAT else vectors.astype(_FLOAT)
    floats = _floats_head(vectors.size) + numbers.tobytes()
    which = (names.dimension, _integer(vectors.shape[1]), names.generation, _integer(generation))
    return Row(key, user.at_ms * 1_000_000, (names.vectors, floats, *which))


def behaviour_row(key: bytes, user: BehavedUser) -> Row:
    """`user_behaviour`, as of its version in microseconds."""
    values = (
        Value(string_list_val=StringList(val=user.behaviour.items)),
        Value(string_list_val=StringList(val=user.behaviour.actions)),
        Value(int64_list_val=Int64List(val=user.behaviour.times)),
        Value(int64_val=user.version),
    )
    fields = [part for name, value in zip(BEHAVIOUR, values, strict=True) for part in (name, value.SerializeToString())]
    return Row(key, user.version * 1000, tuple(fields))


def read_fields(generation: int) -> tuple[bytes, ...]:
    """The fields that `features_of` takes the values of, with the slot of `generation`."""
    return (ATTRIBUTES, stamp_of("user_attributes"), *BEHAVIOUR, *_slot_fields(slot(generation)))


def features_of(user_id: str, values: Sequence[Raw]) -> UserFeatures:
    """The features of one user from the values of `read_fields`; an unset value is absent.

    An embedding without its generation or dimension, or with nothing in it, counts as absent too.
    """
    attributes, attributes_time, items, actions, times, version, vectors, dimension, generation, virtual_time = values
    return UserFeatures(
        user_id,
        _attributes(attributes),
        _behaviour(items, actions, times) if items else _NO_BEHAVIOUR,
        _number(version),
        _virtual(vectors, dimension, generation),
        nanos_of(attributes_time) // 1_000_000,
        nanos_of(virtual_time) // 1_000_000,
    )


@cache
def stamp_of(view: str) -> bytes:
    """The field that holds the time of a view."""
    return f"_ts:{view}".encode()


def time_of(nanos: int) -> bytes:
    """A time as Feast stores it: the parts of a message one after the other are the message."""
    seconds, rest = divmod(nanos, _NANOS)
    return _seconds(seconds) + _rest(rest)


def nanos_of(time: Raw) -> int:
    """Back again; 0 for none."""
    if not time:
        return 0
    parsed = Timestamp.FromString(time)
    return int(parsed.seconds * _NANOS + parsed.nanos)


@lru_cache(4096)
def _seconds(seconds: int) -> bytes:
    return bytes(Timestamp(seconds=seconds).SerializeToString())


@lru_cache(4096)
def _rest(nanos: int) -> bytes:
    return bytes(Timestamp(nanos=nanos).SerializeToString())


class _SlotFields(NamedTuple):
    vectors: bytes
    dimension: bytes
    generation: bytes
    stamp: bytes


@cache
def _slot_fields(view: str) -> _SlotFields:
    return _SlotFields(_field(view, "vectors"), _field(view, "dimension"), _field(view, "generation"), stamp_of(view))


def _field(view: str, feature: str) -> bytes:
    return bytes(_mmh3(f"{view}:{feature}"))


ATTRIBUTES = _field("user_attributes", "attributes")
BEHAVIOUR = tuple(_field("user_behaviour", name) for name in ("items", "actions", "times", "version"))


@cache
def _integer(number: int) -> bytes:
    return bytes(Value(int64_val=number).SerializeToString())


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
    return np.array(Value.FromString(raw).float_list_val.val, dtype=np.float32)


def _virtual(vectors: Raw, dimension: Raw, generation: Raw) -> VirtualBehaviour | None:
    if not (vectors and dimension and generation):
        return None
    flat, columns, number = _floats(vectors), _number(dimension), _number(generation)
    if not (flat.size and columns and number):
        return None
    return VirtualBehaviour(number, flat.reshape(-1, columns))


def _attributes(raw: Raw) -> Attributes | None:
    text = Value.FromString(raw).string_val if raw else ""
    if not text:
        return None
    if text[0] == "{":  # as `attributes_row` wrote it
        found, end = _JSON.raw_decode(text)
        if end == len(text):
            return StoredAttributes(found, text)
    return StoredAttributes(json.loads(text), text)


def _behaviour(items: bytes, actions: Raw, times: Raw) -> Behaviour:
    return Behaviour(
        tuple(Value.FromString(items).string_list_val.val),
        tuple(Value.FromString(actions or b"").string_list_val.val),
        tuple(Value.FromString(times or b"").int64_list_val.val),
    )


@lru_cache(4096)
def _number(raw: Raw) -> int:
    return int(Value.FromString(raw).int64_val) if raw else 0
