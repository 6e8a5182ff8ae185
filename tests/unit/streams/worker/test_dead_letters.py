"""Dead letters: kept whole, and read back as they were."""

from dataclasses import replace
from typing import Any

import pytest
from aiokafka import ConsumerRecord
from hypothesis import given
from hypothesis import strategies as st

from foretaste.kernel.errors import InvalidInput, Unavailable
from foretaste.kernel.events import DeadLetter, Message, Origin, Reason
from foretaste.testing import InMemoryEvents, Sent
from streams.worker.dead_letter_reader import REPLAYED, KeptLetter, letter_of, replayed_place
from streams.worker.dead_letter_replay import Kept, ReplayChoice, replay
from streams.worker.dead_letters import (
    ATTEMPTS,
    MAX_DETAIL,
    VALUE_BYTES,
    DeadLetters,
    headers_of,
    message_of,
    read_dead_letter,
)
from tests.stream_parts import World, message

HERE = Origin("user-behaved", 0, 99, 1_800_000_000_000)
origins = st.builds(Origin, st.text(max_size=20), st.integers(0, 99), st.integers(0, 2**62), st.integers(-1, 2**62))
messages = st.builds(Message, st.none() | st.binary(), st.none() | st.binary(), origins, st.integers(0, 9))
letters = st.builds(DeadLetter, messages, st.sampled_from(Reason), st.text(max_size=MAX_DETAIL))


@given(letters)
def test_read_back_as_it_was(letter: DeadLetter) -> None:
    record = Sent("dead-letters", letter.message.key, letter.message.value, tuple(headers_of(letter)))
    assert read_dead_letter(record) == letter


async def test_the_bytes_are_the_events_own() -> None:
    world = World()
    original = message(b"\x00\xff{ not json", key=b"\xfe", offset=42)
    await world.dead_letters.keep([DeadLetter(original, Reason.MALFORMED, "value: …")])
    (sent,) = world.events.of("dead-letters")
    assert (sent.key, sent.value) == (original.key, original.value)
    assert read_dead_letter(sent).message == original


async def test_all_are_counted_by_reason() -> None:
    world = World()
    kept = [DeadLetter(message(b"x", offset=each), Reason.TOO_LARGE, "value: …") for each in range(3)]
    await world.dead_letters.keep(kept)
    assert [read_dead_letter(each) for each in world.events.sent] == kept
    assert world.counted("foretaste_dead_letters_total", reason="too_large") == 3


async def test_an_endless_detail_is_cut() -> None:
    world = World()
    await world.dead_letters.keep([DeadLetter(message(b"x"), Reason.INVALID, "é" * 5000)])
    assert read_dead_letter(world.events.sent[0]).detail == "é" * MAX_DETAIL


async def test_what_the_broker_will_not_take_leaves_its_place() -> None:
    world = World(events=InMemoryEvents(max_bytes=10))
    await world.dead_letters.keep([DeadLetter(message(b"x" * 11, offset=7), Reason.TOO_LARGE, "value: …")])
    (sent,) = world.events.sent
    letter = read_dead_letter(sent)
    assert letter.message.value is None
    assert letter.message.origin.offset == 7
    assert dict(sent.headers)[VALUE_BYTES] == b"11"


async def test_an_outage_is_passed_on_and_counts_nothing() -> None:
    world = World()
    world.events.outage = Unavailable("kafka", "chosen by the test")
    with pytest.raises(Unavailable):
        await world.dead_letters.keep([DeadLetter(message(b"x"), Reason.INVALID, "")])
    assert world.counted("foretaste_dead_letters_total", reason="invalid") == 0


async def test_nothing_to_keep_is_nothing_sent() -> None:
    world = World()
    await DeadLetters(world.events, "dead-letters", world.metrics).keep([])
    assert world.events.sent == []


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("foretaste-reason", None, "foretaste-reason: is missing from the headers"),
        ("foretaste-reason", b"boredom", "foretaste-reason: must be one of too_large, malformed"),
        ("foretaste-origin-offset", b"seven", "foretaste-origin-offset: must be a whole number"),
        ("foretaste-origin-topic", None, "foretaste-origin-topic: is missing"),
    ],
)
def test_a_record_that_is_no_dead_letter_is_named(name: str, value: bytes | None, said: str) -> None:
    headers = dict(headers_of(DeadLetter(message(b"x"), Reason.INVALID, "")))
    if value is None:
        del headers[name]
    else:
        headers[name] = value
    with pytest.raises(InvalidInput, match=said):
        read_dead_letter(Sent("dead-letters", None, b"x", tuple(headers.items())))


def consumed(headers: tuple[tuple[str, bytes], ...]) -> "ConsumerRecord[bytes, bytes]":
    return ConsumerRecord("dead-letters", 3, 42, 1_700_000_000_000, 0, b"k", b"v", None, 1, 1, headers)


def test_a_record_of_somebody_elses_is_shown_as_foreign_with_its_own_place() -> None:
    letter = letter_of(consumed(()))
    assert letter.message == Message(b"k", b"v", Origin("dead-letters", 3, 42, 1_700_000_000_000))
    assert (letter.reason, letter.detail) == (
        Reason.FOREIGN,
        "foretaste-origin-topic: is missing from the headers (got None)",
    )


def test_a_record_that_is_a_dead_letter_is_read_as_one() -> None:
    kept = DeadLetter(Message(b"k", b"v", Origin("user-registered", 0, 7, 5)), Reason.INVALID, "age: …")
    assert letter_of(consumed(tuple(headers_of(kept)))) == kept


def kept_at(offset: int, letter: DeadLetter, **changes: Any) -> KeptLetter:
    return replace(KeptLetter(letter, 0, offset, replayed=False), **changes)


def behaved(offset: int, attempts: int = 0, reason: Reason = Reason.UNKNOWN_ITEM) -> DeadLetter:
    origin = Origin("user-behaved", 2, offset, 1_700_000_000_000 + offset)
    return DeadLetter(Message(b"ada", b"{%d}" % offset, origin, attempts), reason, "item_id: ...")


async def test_a_replay_keeps_the_origin_counts_attempts_and_notes_what_it_sent() -> None:
    events = InMemoryEvents()
    letters = [kept_at(7, behaved(1)), kept_at(9, behaved(4, attempts=1))]
    assert await replay(events, letters, "dead-letter-replays", {"user-behaved"}, attempts=3) == (2, {})
    again = [message_of(each.key, each.value, each.headers, HERE) for each in events.of("user-behaved")]
    assert again == [
        Message(b"ada", b"{1}", letters[0].letter.message.origin, attempts=1),
        Message(b"ada", b"{4}", letters[1].letter.message.origin, attempts=2),
    ]
    assert [(each.key, each.value, each.headers) for each in events.of("dead-letter-replays")] == [
        (None, None, ((REPLAYED, b"0@7"),)),
        (None, None, ((REPLAYED, b"0@9"),)),
    ]


async def test_what_dies_again_is_a_letter_with_the_first_origin_and_its_attempts() -> None:
    world, first = World(), behaved(1)
    await replay(world.events, [kept_at(7, first)], "dead-letter-replays", {"user-behaved"}, attempts=3)
    (sent,) = world.events.of("user-behaved")
    again = message_of(sent.key, sent.value, sent.headers, HERE)
    await world.dead_letters.keep([DeadLetter(again, Reason.INVALID, "item_id: worse")])
    letter = read_dead_letter(world.events.of("dead-letters")[-1])
    assert (letter.message.origin, letter.message.attempts) == (first.message.origin, 1)


async def test_a_replay_leaves_what_would_come_back_for_ever() -> None:
    events = InMemoryEvents()
    letters = [
        kept_at(1, behaved(1, attempts=3)),
        kept_at(2, behaved(2), replayed=True),
        kept_at(3, behaved(3), whole=False),
        kept_at(4, behaved(4, reason=Reason.FOREIGN)),
        kept_at(5, DeadLetter(message(b"x", topic="payments"), Reason.INVALID, "")),
    ]
    sent, left = await replay(events, letters, "dead-letter-replays", {"user-behaved"}, attempts=3)
    assert (sent, events.sent) == (0, [])
    assert left == {Kept.ATTEMPTS_REACHED: 1, Kept.REPLAYED_BEFORE: 1, Kept.WITHOUT_VALUE: 1, Kept.FOREIGN: 2}


async def test_a_replay_that_fails_notes_nothing_that_was_not_sent() -> None:
    events = InMemoryEvents()
    events.outage = Unavailable("kafka", "chosen by the test")
    with pytest.raises(Unavailable):
        await replay(events, [kept_at(1, behaved(1))], "dead-letter-replays", {"user-behaved"}, attempts=3)
    assert events.sent == []


def test_letters_are_chosen_by_reason_and_place() -> None:
    letters = [kept_at(1, behaved(1)), kept_at(2, behaved(2, reason=Reason.INVALID)), kept_at(3, behaved(3))]
    assert ReplayChoice().chosen(letters) == letters
    assert ReplayChoice(reasons=[Reason.INVALID]).chosen(letters) == letters[1:2]
    assert ReplayChoice(places=["0@1", "0@2"], reasons=[Reason.UNKNOWN_ITEM]).chosen(letters) == letters[:1]
    with pytest.raises(InvalidInput, match="place: no dead letter lies there"):
        ReplayChoice(places=["0@9"]).chosen(letters)


@pytest.mark.parametrize("headers", [(), None, {}, (("trace", b"1"),), ((ATTEMPTS, b"2"),), {ATTEMPTS: b"x"}])
def test_headers_of_somebody_elses_change_no_origin(headers: Any) -> None:
    assert message_of(b"k", b"v", headers, HERE) == Message(b"k", b"v", HERE, attempts=0)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("foretaste-origin-topic", b"payments"),
        ("foretaste-origin-partition", b"-1"),
        ("foretaste-origin-offset", b"-7"),
        ("foretaste-attempts", b"0"),
    ],
)
def test_an_origin_that_no_replay_has_is_not_taken_over(name: str, value: bytes) -> None:
    headers = dict(headers_of(behaved(1, attempts=1)))
    assert message_of(b"ada", b"{1}", headers, HERE) == behaved(1, attempts=1).message
    assert message_of(b"k", b"v", headers | {name: value}, HERE) == Message(b"k", b"v", HERE, attempts=0)


def test_a_letter_of_an_earlier_version_was_never_replayed() -> None:
    headers = [each for each in headers_of(behaved(1)) if each[0] != ATTEMPTS]
    assert read_dead_letter(Sent("dead-letters", b"ada", b"{1}", tuple(headers))) == behaved(1)


def test_the_note_of_a_replay_is_no_letter() -> None:
    note = ConsumerRecord("dead-letter-replays", 0, 9, 0, 0, None, None, None, -1, -1, ((REPLAYED, b"0@7"),))
    assert replayed_place(note) == "0@7"
    assert replayed_place(consumed(((REPLAYED, b"0@7"),))) is None
