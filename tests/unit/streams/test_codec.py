"""Events as JSON and back: what was written is read, and what cannot be is named."""

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foretaste.kernel.errors import InvalidInput
from foretaste.kernel.events import Reason, UserBehaved, UserRanked, UserRegistered
from foretaste.kernel.ranking import Cause, Fallback, Source
from streams.codec import EVENTS, Undecodable

AT = datetime(2026, 1, 1, tzinfo=UTC)
SCALARS = st.none() | st.booleans() | st.integers(-(2**62), 2**62) | st.floats(allow_nan=False, allow_infinity=False)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@given(TEXTS.filter(bool), st.dictionaries(TEXTS, SCALARS | TEXTS, max_size=5))
def test_what_was_written_is_read(user_id: str, attributes: dict[str, str | int | float | bool | None]) -> None:
    event = UserRegistered(user_id=user_id, attributes=attributes, registered_at=AT)
    assert EVENTS.decode(EVENTS.encode(event), UserRegistered) == event


def ranked(**changed: Any) -> UserRanked:
    values = {"ranking_id": "r", "user_id": "u", "at": AT, "items": ("i",), "scores": (0.5,), "served_by": Source.REAL}
    return UserRanked.model_validate(values | changed)


def test_a_cause_travels_and_events_of_before_have_none() -> None:
    event = ranked(fallback=Fallback.POPULARITY, cause=Cause.RANKING_NOT_FINITE, reason="scores are not finite")
    assert EVENTS.decode(EVENTS.encode(event), UserRanked).cause is Cause.RANKING_NOT_FINITE
    old = EVENTS.encode(ranked(reason="the ranking tower's scores are not finite")).replace(b'"cause":null,', b"")
    assert b"cause" not in old
    assert EVENTS.decode(old, UserRanked).cause is None


def test_an_event_with_a_lone_surrogate_cannot_be_written() -> None:
    """As impressions are made, without being checked a second time."""
    event = UserRanked.model_construct(**{**dict(ranked()), "context": {"query": "cut \ud83d"}})
    with pytest.raises(InvalidInput, match="UserRanked: cannot be written as JSON"):
        EVENTS.encode(event)


@pytest.mark.parametrize(
    ("value", "detail"),
    [
        (rb'{"user_id": "u1", "attributes": {"query": "cut \ud83d"}}', "value: Invalid JSON: unexpected end of hex"),
        (rb'{"user_id": "u1", "attributes": {"cut \ud83d": 1}}', "value: Invalid JSON: unexpected end of hex"),
        (b'{"user_id": "u1", "attributes": {"query": "\xed\xa0\xbd"}}', "value: Invalid JSON: invalid unicode"),
    ],
)
def test_bytes_with_a_lone_surrogate_are_no_event(value: bytes, detail: str) -> None:
    with pytest.raises(Undecodable, match=detail) as refused:
        EVENTS.decode(value, UserRegistered)
    assert refused.value.reason is Reason.MALFORMED


@pytest.mark.parametrize("field", ["user_id", "item_id", "action"])
def test_no_field_of_an_event_holds_one(field: str) -> None:
    values = {"user_id": "u", "item_id": "i", "at": AT, "action": "acted"}
    with pytest.raises(ValueError, match=field):
        UserBehaved.model_validate(values | {field: "cut \ud83d"})
    with pytest.raises(ValueError, match="attributes"):
        UserRegistered.model_validate({"user_id": "u", "attributes": {"query": "cut \ud83d"}})


@pytest.mark.parametrize("cause", [b"[]", b"{}", b"7", b'"of a later version"', b"true"])
def test_a_cause_that_is_none_costs_no_ranking(cause: bytes) -> None:
    event = ranked(cause=Cause.RANKING_AWAY)
    odd = EVENTS.encode(event).replace(b'"cause":"ranking_away"', b'"cause":' + cause)
    assert odd != EVENTS.encode(event)
    assert EVENTS.decode(odd, UserRanked) == event.model_copy(update={"cause": None})


def test_a_list_of_ten_thousand_that_were_passed_over_is_no_behaviour() -> None:
    value = b'{"user_id": "u", "item_id": "i", "at": 1700000000, "passed_over": ["x"' + b', "x"' * 9_999 + b"]}"
    with pytest.raises(Undecodable, match="passed_over: Tuple should have at most 4096 items"):
        EVENTS.decode(value, UserBehaved)
