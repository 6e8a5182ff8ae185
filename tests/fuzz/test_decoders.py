"""Whatever bytes come from outside: an event, a dead letter or nothing, and never an exception."""

import json
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from features.online.event_marks import applied_of, registration_of
from features.online.layout import features_of, read_columns
from foretaste.kernel.errors import InvalidInput
from foretaste.kernel.event_order import DIGEST_BYTES
from foretaste.kernel.events import DeadLetter, Event, Message, Origin, Reason, event_digest, event_time_ms
from serving.requests import RankRequest, RecommendRequest
from streams.codec import EVENTS
from streams.decoding import decode_behaved, decode_item, decode_page, decode_ranked, decode_registered
from streams.worker.dead_letters import ATTEMPTS, headers_of, message_of, read_dead_letter, replay_headers
from tests.stream_parts import NOW_MS

MAX_BYTES = 4000
NAMES = (
    "user_id",
    "attributes",
    "registered_at",
    "event_id",
    "item_id",
    "at",
    "action",
    "ranking_id",
    "items",
    "scores",
    "context",
    "behaviour_items",
    "behaviour_actions",
    "behaviour_times",
    "served_by",
    "fallback",
    "cause",
    "warm_after",
    "zero_shot_generation",
    "generation",
    "user_ids",
    "shown",
    "k",
    "filter",
)
TIMES = st.sampled_from(
    ("2026-01-01T00:00:00Z", "2026-01-01", 20260101, 1.7e9, 1.7e12, -1, 1e30, "1970-01-01T00:00:00+14:00", "soon")
)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(st.characters(codec=None), max_size=8),
    TIMES,
    st.sampled_from(("u1", "virtual", "popularity", "store_away", "")),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.text(st.characters(codec=None), max_size=5), inner, max_size=4)
    ),
    max_leaves=6,
)
OBJECTS = st.dictionaries(st.sampled_from(NAMES), VALUES, max_size=12)
BYTES = st.one_of(st.none(), st.binary(max_size=80), OBJECTS.map(lambda value: json.dumps(value).encode()))
KEYS = st.one_of(st.none(), st.just(b"u1"), st.binary(max_size=4))
ORIGINS = st.builds(
    Origin, st.just("user-registered"), st.integers(0, 9), st.integers(0, 2**60), st.integers(-1, 2 * NOW_MS)
)
MESSAGES = st.builds(Message, KEYS, BYTES, ORIGINS, st.integers(0, 9))
HEADERS = st.lists(
    st.tuples(
        st.one_of(
            st.sampled_from(
                [
                    name
                    for name, _ in headers_of(DeadLetter(Message(None, None, Origin("t", 0, 0, 0)), Reason.INVALID, ""))
                ]
            ),
            st.text(max_size=5),
        ),
        st.one_of(st.binary(max_size=12), st.integers().map(lambda number: str(number).encode())),
    ),
    max_size=9,
)

Decode = Callable[[Message], Event | DeadLetter]
DECODERS: dict[str, Decode] = {
    "registered": lambda message: decode_registered(message, now_ms=NOW_MS, max_bytes=MAX_BYTES),
    "behaved": lambda message: decode_behaved(message, now_ms=NOW_MS, max_bytes=MAX_BYTES),
    "ranked": lambda message: decode_ranked(message, now_ms=NOW_MS, max_bytes=MAX_BYTES),
    "item": lambda message: decode_item(message, now_ms=NOW_MS, max_bytes=MAX_BYTES),
    "page": decode_page,
}


@pytest.mark.parametrize("name", DECODERS)
@given(message=MESSAGES)
def test_a_record_is_an_event_or_a_dead_letter(name: str, message: Message) -> None:
    """An event can be written again, and is the same event then."""
    decoded = DECODERS[name](message)
    if isinstance(decoded, DeadLetter):
        assert decoded.message is message
        assert decoded.detail
        return
    assert EVENTS.decode(EVENTS.encode(decoded), type(decoded)) == decoded


@given(MESSAGES, st.sampled_from(Reason), st.text(max_size=40))
def test_a_dead_letter_is_read_back(message: Message, reason: Reason, detail: str) -> None:
    letter = DeadLetter(message, reason, detail)

    class Kept:
        key, value, headers = message.key, message.value, headers_of(letter)

    assert read_dead_letter(Kept()) == letter
    replayed = message_of(message.key, message.value, replay_headers(letter), Origin("user-registered", 0, 1, NOW_MS))
    assert (replayed.origin, replayed.attempts) == (message.origin, message.attempts + 1)


@given(HEADERS, ORIGINS)
def test_headers_of_others_name_an_origin_or_nothing(headers: list[tuple[str, bytes]], origin: Origin) -> None:
    message = message_of(b"u1", b"{}", headers, origin)
    assert message.origin == origin or ATTEMPTS in dict(headers)

    class Kept:
        key, value = b"u1", b"{}"

    kept: Any = Kept()
    kept.headers = headers
    with suppress(InvalidInput):
        assert isinstance(read_dead_letter(kept), DeadLetter)


@given(st.binary(max_size=200), st.binary(max_size=200))
def test_marks_of_others_are_none(registration: bytes, applied: bytes) -> None:
    registration_of(registration)
    assert len(applied_of(applied).digests) % DIGEST_BYTES == 0


@given(st.lists(st.one_of(st.none(), st.binary(max_size=40)), min_size=11, max_size=11), st.integers(1, 4))
def test_a_stored_row_of_others_is_read_or_named_as_damaged(values: list[bytes | None], generation: int) -> None:
    assert len(read_columns(generation)) == len(values)
    features = features_of("u1", generation, values)
    behaviour = features.behaviour
    assert len(behaviour.items) == len(behaviour.actions) == len(behaviour.times)


@pytest.mark.parametrize("kind", [RankRequest, RecommendRequest])
@given(raw=BYTES)
def test_a_body_is_a_request_or_is_refused(kind: type[BaseModel], raw: bytes | None) -> None:
    with suppress(ValidationError):
        assert kind.model_validate_json(raw or b"").model_dump_json().encode()


@given(st.one_of(st.none(), st.integers(-(2**62), 2**62)), ORIGINS, st.integers(0, 2 * NOW_MS))
def test_no_event_happened_after_it_was_read(claimed_ms: int | None, origin: Origin, now_ms: int) -> None:
    at_ms = event_time_ms(claimed_ms, origin, now_ms)
    assert at_ms <= now_ms
    assert claimed_ms is None or at_ms <= claimed_ms


@given(st.one_of(st.none(), st.text(max_size=12)), MESSAGES)
def test_an_event_has_one_digest(event_id: str | None, message: Message) -> None:
    digest = event_digest(event_id, message)
    assert len(digest) == DIGEST_BYTES
    assert digest == event_digest(event_id, message)
