"""Our rows beside what Feast itself says of them: the same keys, names and messages."""

import json
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from google.protobuf.timestamp_pb2 import Timestamp  # type: ignore[import-untyped]  # ships no types
from hypothesis import given
from hypothesis import strategies as st

from features.feast_api import EntityKey, FloatList, Int64List, StringList, Value
from features.online.columns import nanos_of, time_of
from features.online.keys import Keys
from features.online.layout import (
    attributes_row,
    behaviour_row,
    features_of,
    fields_of,
    is_damaged,
    read_columns,
    slot,
    stamp_of,
    virtual_row,
)
from foretaste.kernel.users import BehavedUser, Behaviour, EnrichedUser, ReenrichedUser, UserFeatures, VirtualBehaviour

# isort: split
from feast.infra.key_encoding_utils import deserialize_entity_key
from feast.infra.online_stores.helpers import _mmh3, _redis_key

AT = 1_767_225_600_123
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
PROJECTS = st.sampled_from(["foretaste", "a", "ba", "*[x]?", ""])


@given(TEXTS, PROJECTS)
def test_a_key_is_feasts_own_and_tells_its_user(user_id: str, project: str) -> None:
    feasts = _redis_key(project, EntityKey(join_keys=["user_id"], entity_values=[Value(string_val=user_id)]))
    key = Keys(project).of(user_id)
    assert key == feasts
    assert Keys(project).user_of(key) == user_id
    entity = deserialize_entity_key(key.removesuffix(project.encode()))
    assert entity.entity_values[0].string_val == user_id


@given(TEXTS, PROJECTS, PROJECTS)
def test_a_key_of_another_project_is_nobodys(user_id: str, project: str, other: str) -> None:
    if project != other:
        assert Keys(project).user_of(Keys(other).of(user_id)) is None


@given(st.binary(max_size=60))
def test_any_other_key_is_nobodys(key: bytes) -> None:
    assert Keys("foretaste").user_of(key) is None


@pytest.mark.parametrize("cut", range(1, 30))
def test_a_key_cut_short_is_nobodys(cut: int) -> None:
    assert Keys("foretaste").user_of(Keys("foretaste").of("ada")[:-cut]) is None


@given(st.integers(0, 4_000_000_000_000_000_000))
def test_a_time_is_feasts_own(nanos: int) -> None:
    micros = nanos // 1000
    feasts = Timestamp()
    feasts.FromDatetime(datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=micros))
    assert time_of(micros * 1000) == feasts.SerializeToString()
    assert nanos_of(time_of(nanos)) == nanos


def test_no_time_is_zero() -> None:
    assert (nanos_of(None), nanos_of(b""), time_of(0)) == (0, 0, b"")


@pytest.mark.parametrize("dtype", [np.float32, np.float64, ">f4"])
@pytest.mark.parametrize("shape", [(1, 1), (4, 32), (100, 32), (64, 256), (3, 2)])
def test_vectors_are_feasts_own_list_of_any_length(shape: tuple[int, int], dtype: str) -> None:
    vectors = np.random.default_rng(0).normal(size=shape).astype(dtype)
    row = virtual_row(b"key", ReenrichedUser("u1", VirtualBehaviour(7, vectors), AT))
    feasts = {
        "vectors": Value(float_list_val=FloatList(val=vectors.ravel().tolist())),
        "dimension": Value(int64_val=shape[1]),
        "generation": Value(int64_val=7),
    }
    assert row.nanos == AT * 1_000_000
    assert pairs(row.fields) == {
        _mmh3(f"virtual_behaviour_odd:{name}"): each.SerializeToString() for name, each in feasts.items()
    }
    held = read_back(7, {**pairs(row.fields), stamp_of("virtual_behaviour_odd"): time_of(row.nanos)})
    assert held.virtual is not None
    assert held.virtual.vectors.dtype == np.float32
    assert held.virtual.vectors.flags.writeable
    np.testing.assert_array_equal(held.virtual.vectors, vectors.astype(np.float32))
    assert (held.virtual.generation, held.virtual_ms) == (7, AT)


def test_vectors_that_lie_apart_are_written_in_order() -> None:
    vectors = np.arange(12, dtype=np.float32).reshape(4, 3).T
    row = virtual_row(b"key", ReenrichedUser("u1", VirtualBehaviour(2, vectors), AT))
    held = read_back(2, pairs(row.fields))
    assert held.virtual is not None
    np.testing.assert_array_equal(held.virtual.vectors, vectors)


def test_floats_in_another_encoding_are_read() -> None:
    """protobuf lets a writer leave a list unpacked: each float behind a tag of its own."""
    unpacked = b"".join(b"\x0d" + np.float32(each).tobytes() for each in (1.0, 2.0))
    tag = Value(float_list_val=FloatList()).SerializeToString()[:-1]
    raw = tag + bytes([len(unpacked)]) + unpacked
    row = virtual_row(b"key", ReenrichedUser("u1", VirtualBehaviour(2, np.ones((1, 2), np.float32)), AT))
    held = read_back(2, {**pairs(row.fields), _mmh3("virtual_behaviour_even:vectors"): raw})
    assert held.virtual is not None
    np.testing.assert_array_equal(held.virtual.vectors, [[1.0, 2.0]])


def test_attributes_and_behaviour_are_feasts_own() -> None:
    row = attributes_row(b"key", EnrichedUser("u1", {"city": "Zürich", "age": 25}, None, AT))
    text = '{"city":"Zürich","age":25}'
    assert pairs(row.fields) == {_mmh3("user_attributes:attributes"): Value(string_val=text).SerializeToString()}
    behaviour = behaviour_row(b"key", BehavedUser("u1", Behaviour(["a", "é"], ["x", "y"], [1, AT]), 8, AT))
    feasts = {
        "items": Value(string_list_val=StringList(val=["a", "é"])),
        "actions": Value(string_list_val=StringList(val=["x", "y"])),
        "times": Value(int64_list_val=Int64List(val=[1, AT])),
        "version": Value(int64_val=9),
    }
    assert behaviour.nanos == AT * 1_000_000, "of the newest behaviour"
    assert pairs(behaviour.fields) == {
        _mmh3(f"user_behaviour:{name}"): each.SerializeToString() for name, each in feasts.items()
    }
    assert read_back(1, pairs(behaviour.fields)).behaviour == Behaviour(("a", "é"), ("x", "y"), (1, AT))


@pytest.mark.parametrize("text", ['{"a": 1}', ' {"a": 1}', '{"a": 1}\n', '{ "a" : 1 }'])
def test_attributes_are_read_however_a_team_spaced_them(text: str) -> None:
    raw = Value(string_val=text).SerializeToString()
    held = read_back(1, {_mmh3("user_attributes:attributes"): raw})
    assert held.attributes == {"a": 1}
    assert json.dumps(held.attributes) == '{"a": 1}'


@pytest.mark.parametrize("raw", [None, b"", Value().SerializeToString()])
def test_a_value_that_is_not_set_is_absent(raw: bytes | None) -> None:
    assert features_of("u1", 1, [raw] * len(read_columns(1))) == UserFeatures("u1")


def test_an_empty_text_of_attributes_is_absent() -> None:
    raw = Value(string_val="").SerializeToString()
    assert read_back(1, {_mmh3("user_attributes:attributes"): raw}) == UserFeatures("u1")


ROTTEN_TEXTS = {
    "no JSON": "country=NO",
    "a list": "[1,2]",
    "a text": '"NO"',
    "null": "null",
    "single quotes": "{'country': 'NO'}",
    "half a character": '{"country": "N\\ud83d"}',
    "half a character as a name": '{"\\ud83d": 1}',
    "too deep": '{"a":' * 100_000,
    "a number of 5000 digits": '{"a": %s}' % ("9" * 5000),
    "more behind it": '{"a": 1} {"b": 2}',
}


@pytest.mark.parametrize("text", ROTTEN_TEXTS.values(), ids=ROTTEN_TEXTS)
def test_attributes_that_are_no_json_object_count_as_never_written_and_all_else_is_read(text: str) -> None:
    stored = whole()
    stored[_mmh3("user_attributes:attributes")] = Value(string_val=text).SerializeToString()
    held, good = read_back(1, stored), read_back(1, whole())
    assert (held.attributes, held.attributes_ms, held.damaged) == (None, 0, ("user_attributes",))
    assert (held.behaviour, held.behaviour_version, held.virtual_ms) == (good.behaviour, 3, AT)
    assert held.virtual is not None


def test_an_escaped_character_that_is_whole_is_read() -> None:
    raw = Value(string_val='{"a": "\\ud83d\\ude00"}').SerializeToString()
    assert read_back(1, {_mmh3("user_attributes:attributes"): raw}).attributes == {"a": "😀"}


ROTTEN_BEHAVIOUR = {
    "unequal lists": {"actions": Value(string_list_val=StringList(val=["x"]))},
    "items alone": {"actions": Value(), "times": Value()},
    "no items": {"items": Value()},
    "times of another kind": {"times": Value(string_list_val=StringList(val=["1", "2"]))},
    "items of another kind": {"items": Value(string_val="a")},
}


@pytest.mark.parametrize("rotten", ROTTEN_BEHAVIOUR.values(), ids=ROTTEN_BEHAVIOUR)
def test_a_behaviour_of_unequal_columns_counts_as_none_and_keeps_its_version(rotten: dict[str, Value]) -> None:
    stored = whole()
    stored.update({_mmh3(f"user_behaviour:{name}"): value.SerializeToString() for name, value in rotten.items()})
    held = read_back(1, stored)
    assert (len(held.behaviour), held.behaviour_version, held.behaviour_us) == (0, 3, AT * 1000)
    assert held.damaged == ("user_behaviour",)
    assert held.attributes == {"a": 1}


@pytest.mark.parametrize(
    ("count", "dimension"), [(7, 3), (6, -3), (6, 1 << 62), (6, 4)], ids=["odd", "negative", "huge", "too wide"]
)
def test_vectors_of_a_length_that_their_dimension_does_not_fit_count_as_none(count: int, dimension: int) -> None:
    stored = whole()
    stored[_mmh3("virtual_behaviour_odd:vectors")] = floats(count)
    stored[_mmh3("virtual_behaviour_odd:dimension")] = Value(int64_val=dimension).SerializeToString()
    held = read_back(1, stored)
    assert (held.virtual, held.virtual_ms, held.damaged) == (None, 0, ("virtual_behaviour_odd",))
    assert held.attributes == {"a": 1}


@given(st.binary(min_size=1, max_size=40), st.integers(0, len(read_columns(1)) - 1))
def test_any_bytes_in_any_field_hurt_at_most_their_own_view(rubbish: bytes, place: int) -> None:
    columns = read_columns(1)
    good = read_back(1, whole())
    held = read_back(1, {**whole(), fields_of(columns)[place]: rubbish})
    assert set(held.damaged) <= {columns[place][0]}
    for view, part in (("user_attributes", "attributes"), ("user_behaviour", "behaviour")):
        if view != columns[place][0]:
            assert getattr(held, part) == getattr(good, part)


@given(st.lists(st.one_of(st.none(), st.binary(max_size=20)), min_size=11, max_size=11))
def test_rubbish_everywhere_is_read_as_somebody(values: list[bytes | None]) -> None:
    assert features_of("u1", 1, values).user_id == "u1"


def whole() -> dict[bytes, bytes]:
    """A user with all three views in good order."""
    virtual = VirtualBehaviour(1, np.ones((2, 3), np.float32))
    rows = (
        attributes_row(b"key", EnrichedUser("u1", {"a": 1}, None, AT)),
        behaviour_row(b"key", BehavedUser("u1", Behaviour(["a", "b"], ["x", "y"], [1, AT]), 2)),
        virtual_row(b"key", ReenrichedUser("u1", virtual, AT)),
    )
    stored: dict[bytes, bytes] = {}
    for view, row in zip(("user_attributes", "user_behaviour", "virtual_behaviour_odd"), rows, strict=True):
        stored |= {**pairs(row.fields), stamp_of(view): time_of(row.nanos)}
    return stored


def floats(count: int) -> bytes:
    return bytes(Value(float_list_val=FloatList(val=[0.1] * count)).SerializeToString())


def pairs(fields: tuple[bytes, ...]) -> dict[bytes, bytes]:
    return dict(zip(fields[::2], fields[1::2], strict=True))


def read_back(generation: int, stored: dict[bytes, bytes]) -> UserFeatures:
    return features_of("u1", generation, [stored.get(name) for name in fields_of(read_columns(generation))])


@pytest.mark.parametrize("odd", [float("nan"), float("inf")])
def test_virtual_behaviour_that_is_not_finite_is_damaged(odd: float) -> None:
    """Scored beside others in one product, it would spoil their scores too."""
    values = [
        Value(float_list_val=FloatList(val=[0.5, odd])).SerializeToString(),
        Value(int64_val=2).SerializeToString(),
        Value(int64_val=1).SerializeToString(),
    ]
    assert is_damaged(slot(1), [*values, None])
    values[0] = Value(float_list_val=FloatList(val=[0.5, 0.5])).SerializeToString()
    assert not is_damaged(slot(1), [*values, None])
