"""Dead letters: kept whole, and read back as they were."""

import pytest
from aiokafka import ConsumerRecord
from hypothesis import given
from hypothesis import strategies as st

from foretaste.kernel.errors import InvalidInput, Unavailable
from foretaste.kernel.events import DeadLetter, Message, Origin, Reason
from foretaste.testing import InMemoryEvents, Sent
from streams.worker.dead_letter_reader import letter_of
from streams.worker.dead_letters import MAX_DETAIL, VALUE_BYTES, DeadLetters, headers_of, read_dead_letter
from tests.stream_parts import World, message

origins = st.builds(Origin, st.text(max_size=20), st.integers(0, 99), st.integers(0, 2**62), st.integers(-1, 2**62))
messages = st.builds(Message, st.none() | st.binary(), st.none() | st.binary(), origins)
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
