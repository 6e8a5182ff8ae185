"""Decoding: what is good becomes an event, what is bad a dead letter that names the field and the value."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foretaste.kernel.events import DeadLetter, Reason, UserBehaved, UserRegistered
from foretaste.kernel.values import DAY_MS
from streams.decoding import decode_behaved, decode_registered
from tests.stream_parts import NOW_MS, message

MAX_BYTES = 2000
ONE_OR_MORE = "must be a string, a number, a boolean, null, or a list of such"


def registered(value: object, key: bytes | None = b"u1") -> UserRegistered | DeadLetter:
    return decode_registered(message(value, key=key), now_ms=NOW_MS, max_bytes=MAX_BYTES)


def behaved(value: object, key: bytes | None = b"u1") -> UserBehaved | DeadLetter:
    return decode_behaved(message(value, key=key), now_ms=NOW_MS, max_bytes=MAX_BYTES)


def rejected(event: object) -> tuple[Reason, str]:
    assert isinstance(event, DeadLetter)
    return event.reason, event.detail


def test_a_sign_up() -> None:
    event = registered({"user_id": "u1", "attributes": {"age": 25, "vip": True, "city": "Ulm", "x": None, "y": 1.5}})
    assert isinstance(event, UserRegistered)
    assert event.attributes == {"age": 25, "vip": True, "city": "Ulm", "x": None, "y": 1.5}
    assert event.attributes["vip"] is True


def test_a_behaviour() -> None:
    event = behaved({"user_id": "u1", "item_id": "i1", "at": "2023-01-01T00:00:00Z", "action": "rated"})
    assert isinstance(event, UserBehaved)
    assert (event.item_id, event.action) == ("i1", "rated")


def test_attributes_may_have_several_values() -> None:
    attributes = {"likes": ["jazz", 3, None], "portrait": [0.25, -1.0], "none": []}
    event = registered({"user_id": "u1", "attributes": attributes})
    assert isinstance(event, UserRegistered)
    assert event.attributes == attributes


def test_fields_that_nobody_knows_are_ignored() -> None:
    event = registered({"user_id": "u1", "attributes": {}, "version": 7, "nested": {"a": [1]}})
    assert event == UserRegistered(user_id="u1", attributes={})


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (None, "value: must be a JSON object (got None)"),
        (b"", "value: must be a JSON object (got b'')"),
        (b'{"user_id": "u1"', "EOF while parsing"),
        (b'{"user_id": "u1", "attributes": {}} x', "trailing characters"),
        (b'{"user_id": "u\xff", "attributes": {}}', "invalid unicode"),
        (b'{"user_id": "\\ud800", "attributes": {}}', "Invalid JSON"),
        (b"[" * 400, "recursion limit"),
        (b'["u1"]', "value: must be a JSON object (got ['u1'])"),
        (b'"u1"', "value: must be a JSON object (got 'u1')"),
        (b"null", "value: must be a JSON object (got None)"),
    ],
)
def test_what_is_no_json_object_is_malformed(value: bytes | None, said: str) -> None:
    reason, detail = rejected(registered(value))
    assert reason is Reason.MALFORMED
    assert said in detail


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"user_id": ...}, "user_id: is missing"),
        ({"user_id": ""}, "user_id: String should have at least 1 character (got '')"),
        ({"user_id": "u" * 257}, "user_id: String should have at most 256 characters"),
        ({"user_id": 5}, "user_id: Input should be a valid string (got 5)"),
        ({"user_id": None}, "user_id: Input should be a valid string (got None)"),
        ({"attributes": ...}, "attributes: is missing"),
        ({"attributes": []}, "attributes: Input should be an object (got [])"),
        (
            {"attributes": {"age": [1, [2]]}},
            "attributes.age.1: must be a string, a number, a boolean or null (got [2])",
        ),
        ({"attributes": {"a": 1, "b": {"c": 1}}}, f"attributes.b: {ONE_OR_MORE}"),
        ({"attributes": {"age": float("nan")}}, "attributes.age: must be a finite number (got nan)"),
        ({"attributes": {"age": float("-inf")}}, "attributes.age: must be a finite number (got -inf)"),
        ({"attributes": {"likes": [1, 2**63]}}, "attributes.likes: must fit in 64 bits (got 9223372036854775808)"),
        (
            {"attributes": {"portrait": [0.5, float("nan")]}},
            "attributes.portrait.1: must be a finite number (got nan)",
        ),
        ({"attributes": {"age": 2**63}}, "attributes.age: must fit in 64 bits (got 9223372036854775808)"),
        ({"attributes": {"a" * 500: {}}}, "attributes." + "a" * 109 + "…: must be"),
        ({"registered_at": "2020-01-01T00:00:00"}, "registered_at: Input should have timezone info"),
        ({"registered_at": "soon"}, "registered_at: Input should be a valid datetime"),
        ({"registered_at": (NOW_MS + DAY_MS) / 1000 + 1}, "registered_at: must not be more than a day in the future"),
        ({"registered_at": "1969-12-31T23:59:59Z"}, "registered_at: must not be before 1980 (got"),
        ({"registered_at": "0001-01-01T00:00:00+14:00"}, "registered_at: must not be before 1980 (got"),
        ({"registered_at": "1979-12-31T23:59:59Z"}, "registered_at: must not be before 1980 (got"),
        (
            {"registered_at": 1_699_999.5},
            "1980; as seconds that were taken for milliseconds it is 2023-11-14T22:05:00+00:00 (got '1970-01-20T",
        ),
        ({"registered_at": 20260301}, "a date needs its time and zone"),
        ({"registered_at": 20260301.0}, "a date needs its time and zone"),
        ({"registered_at": "20260301"}, "a date needs its time and zone"),
    ],
)
def test_what_is_wrong_in_a_sign_up_is_named(changed: dict[str, Any], said: str) -> None:
    value = {"user_id": "u1", "attributes": {}, "registered_at": None, **changed}
    reason, detail = rejected(registered({name: each for name, each in value.items() if each is not ...}))
    assert reason is Reason.INVALID
    assert said in detail
    assert len(detail) < 400


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"item_id": ...}, "item_id: is missing"),
        ({"item_id": "i" * 257}, "item_id: String should have at most 256 characters"),
        ({"at": ...}, "at: is missing"),
        ({"at": "2023-01-01T00:00:00"}, "at: Input should have timezone info"),
        (
            {"at": "9999-12-31T23:59:59Z"},
            "at: must not be more than a day in the future (got '9999-12-31T23:59:59+00:00'",
        ),
        ({"at": 1000}, "at: must not be before 1980 (got '1970-01-01T00:16:40+00:00')"),
        ({"action": "a" * 257}, "action: String should have at most 256 characters"),
        (
            {"action": "passed_over"},
            "action: is no act; name the item in `passed_over` of the act on another (got 'passed_over')",
        ),
        ({"passed_over": ["i2", "i1"]}, "passed_over: must not hold `item_id`, which was chosen (got 'i1')"),
        ({"passed_over": ["i2", ""]}, "passed_over.1: String should have at least 1 character (got '')"),
        ({"passed_over": ["i2", None]}, "passed_over.1: Input should be a valid string (got None)"),
        ({"passed_over": "i2"}, "passed_over: Input should be a valid array (got 'i2')"),
    ],
)
def test_what_is_wrong_in_a_behaviour_is_named(changed: dict[str, Any], said: str) -> None:
    value = {"user_id": "u1", "item_id": "i1", "at": "2023-01-01T00:00:00Z", **changed}
    reason, detail = rejected(behaved({name: each for name, each in value.items() if each is not ...}))
    assert reason is Reason.INVALID
    assert said in detail


def test_what_was_passed_over_may_be_null_as_other_fields() -> None:
    event = behaved({"user_id": "u1", "item_id": "i1", "at": "2023-01-01T00:00:00Z", "passed_over": None})
    assert isinstance(event, UserBehaved)
    assert event.passed_over == ()


def test_the_longest_id_and_the_furthest_times_are_taken() -> None:
    user_id = "ü" * 256
    value = {"user_id": user_id, "attributes": {"n": 2**63 - 1}, "registered_at": (NOW_MS + DAY_MS) / 1000}
    assert isinstance(registered(value, user_id.encode()), UserRegistered)
    assert isinstance(registered(value | {"registered_at": "1980-01-01T00:00:00Z"}, user_id.encode()), UserRegistered)


def test_a_key_that_is_not_the_user_is_invalid() -> None:
    reason, detail = rejected(registered({"user_id": "u1", "attributes": {}}, key=b"u2"))
    assert reason is Reason.INVALID
    assert detail == "key: must be the user id 'u1' (got b'u2')"


def test_a_sign_up_needs_no_key_and_a_behaviour_does() -> None:
    assert isinstance(registered({"user_id": "u1", "attributes": {}}, key=None), UserRegistered)
    reason, detail = rejected(behaved({"user_id": "u1", "item_id": "i", "at": "2023-01-01T00:00:00Z"}, key=None))
    assert reason is Reason.INVALID
    assert "key: must be the user id 'u1' (got None)" in detail


def test_the_size_limit_is_the_last_size_taken() -> None:
    def of_size(size: int) -> bytes:
        empty = json.dumps({"user_id": "u1", "attributes": {"a": ""}}).encode()
        return empty.replace(b'""', b'"' + b"x" * (size - len(empty)) + b'"')

    assert len(of_size(MAX_BYTES)) == MAX_BYTES
    assert isinstance(registered(of_size(MAX_BYTES)), UserRegistered)
    reason, detail = rejected(registered(of_size(MAX_BYTES + 1)))
    assert reason is Reason.TOO_LARGE
    assert detail == "value: at most 2000 bytes (got 2001 bytes)"


def test_the_message_is_kept_whole() -> None:
    original = message(b"\x00\xff not json", key=b"\x01", offset=42)
    letter = decode_registered(original, now_ms=NOW_MS, max_bytes=MAX_BYTES)
    assert isinstance(letter, DeadLetter)
    assert letter.message is original


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)
fields = st.sampled_from(["user_id", "item_id", "attributes", "at", "action", "registered_at", "other"])


@given(st.binary() | st.dictionaries(fields, anything), st.none() | st.binary())
def test_nothing_raises(value: object, key: bytes | None) -> None:
    assert isinstance(registered(value, key), UserRegistered | DeadLetter)
    assert isinstance(behaved(value, key), UserBehaved | DeadLetter)
