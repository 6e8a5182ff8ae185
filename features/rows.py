"""Features of users as Feast's rows, and back. Pure: nothing is connected to.

Feast's own way in is a data frame, which costs a single row five times what it takes to write it; the values are built
here instead, as the frame would be turned into. A row is (entity key, value by feature, event timestamp, None).
"""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias

import numpy as np

from features.feast_api import EntityKey, FloatList, Int64List, StringList, Value
from foretaste.contracts import (
    Attributes,
    BehavedUser,
    Behaviour,
    EnrichedUser,
    ReenrichedUser,
    UserFeatures,
    VirtualBehaviour,
)

Row: TypeAlias = tuple[EntityKey, dict[str, Value], datetime, datetime | None]
Columns: TypeAlias = Mapping[str, Sequence[Any]]
"""Feature by full name (`view__feature`) -> B values, and under `view` the B event timestamps of a view."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def attributes_row(user: EnrichedUser) -> Row:
    """`user_attributes`, as of `at_ms`."""
    text = json.dumps(dict(user.attributes), ensure_ascii=False, separators=(",", ":"))
    return _key(user.user_id), {"attributes": Value(string_val=text)}, _at_ms(user.at_ms), None


def virtual_row(user: ReenrichedUser) -> Row:
    """A row of the generation's slot, as of `at_ms`."""
    virtual = user.virtual
    _, dimension = virtual.vectors.shape
    values: dict[str, Value] = {
        "vectors": Value(float_list_val=FloatList(val=virtual.vectors.ravel().tolist())),
        "dimension": Value(int64_val=dimension),
        "generation": Value(int64_val=virtual.generation),
    }
    return _key(user.user_id), values, _at_ms(user.at_ms), None


def behaviour_row(user: BehavedUser) -> Row:
    """`user_behaviour`, as of its version in microseconds."""
    values: dict[str, Value] = {
        "items": Value(string_list_val=StringList(val=user.behaviour.items)),
        "actions": Value(string_list_val=StringList(val=user.behaviour.actions)),
        "times": Value(int64_list_val=Int64List(val=user.behaviour.times)),
        "version": Value(int64_val=user.version),
    }
    return _key(user.user_id), values, _EPOCH + timedelta(microseconds=user.version), None


def columns_of(response: Any) -> Columns:
    """The columns of Feast's answer (its protobuf form, with full feature names)."""
    columns: dict[str, Sequence[Any]] = {}
    for name, result in zip(response.metadata.feature_names.val, response.results, strict=True):
        columns[name] = result.values
        columns[name.partition("__")[0]] = result.event_timestamps
    return columns


def features_of(user_id: str, row: int, columns: Columns, slot: str) -> UserFeatures:
    """The features of one user; `virtual` from `slot`. Feast says "present" of what is not: an unset value is absent.

    An embedding without its generation or dimension, or with nothing in it, counts as absent too.
    """
    attributes = columns["user_attributes__attributes"][row]
    virtual = _virtual(
        columns[f"{slot}__vectors"][row], columns[f"{slot}__dimension"][row], columns[f"{slot}__generation"][row]
    )
    return UserFeatures(
        user_id=user_id,
        attributes=_attributes(attributes.string_val),
        behaviour=Behaviour(
            items=tuple(columns["user_behaviour__items"][row].string_list_val.val),
            actions=tuple(columns["user_behaviour__actions"][row].string_list_val.val),
            times=tuple(columns["user_behaviour__times"][row].int64_list_val.val),
        ),
        behaviour_version=columns["user_behaviour__version"][row].int64_val,
        virtual=virtual,
        attributes_ms=_ms(columns["user_attributes"][row]),
        virtual_ms=_ms(columns[slot][row]),
    )


def _virtual(vectors: Any, dimension: Any, generation: Any) -> VirtualBehaviour | None:
    flat = np.array(vectors.float_list_val.val, dtype=np.float32)
    if not (flat.size and dimension.int64_val and generation.int64_val):
        return None
    return VirtualBehaviour(generation.int64_val, flat.reshape(-1, dimension.int64_val))


def _attributes(text: str) -> Attributes | None:
    return json.loads(text) if text else None


def _key(user_id: str) -> EntityKey:
    return EntityKey(join_keys=["user_id"], entity_values=[Value(string_val=user_id)])


def _at_ms(at_ms: int) -> datetime:
    return _EPOCH + timedelta(milliseconds=at_ms)


def _ms(timestamp: Any) -> int:
    return int(timestamp.seconds * 1000 + timestamp.nanos // 1_000_000)
