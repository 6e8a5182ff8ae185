"""Which of two events is the later, when an event happened, and which were applied before."""

from hashlib import blake2b

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foretaste.kernel.event_order import (
    DIGEST_BYTES,
    REMEMBERED_BEHAVIOURS,
    REMEMBERED_REGISTRATIONS,
    AppliedEvents,
    AttributesVersion,
    Place,
)
from foretaste.kernel.events import Message, Origin, event_digest, event_time_ms

NOW_MS = 1_700_000_000_000
HOUR_MS = 3_600_000


def origin(timestamp_ms: int = NOW_MS, partition: int = 0, offset: int = 7) -> Origin:
    return Origin("user-behaved", partition, offset, timestamp_ms)


@pytest.mark.parametrize(
    ("claimed_ms", "timestamp_ms", "expected"),
    [
        pytest.param(NOW_MS - 5, NOW_MS - 2, NOW_MS - 5, id="before Kafka had it"),
        pytest.param(NOW_MS + 20 * HOUR_MS, NOW_MS - 2, NOW_MS - 2, id="from a clock ahead, as of Kafka's time"),
        pytest.param(NOW_MS - 1, NOW_MS - 2, NOW_MS - 2, id="a little after Kafka had it"),
        pytest.param(NOW_MS + HOUR_MS, NOW_MS + HOUR_MS, NOW_MS, id="Kafka's time ahead too, as of the clock"),
        pytest.param(NOW_MS - 5, NOW_MS + HOUR_MS, NOW_MS - 5, id="Kafka's time alone ahead"),
        pytest.param(NOW_MS + 1, 0, NOW_MS, id="no time of Kafka's"),
        pytest.param(None, NOW_MS - 2, NOW_MS - 2, id="no time of its own"),
        pytest.param(None, -1, NOW_MS, id="no time at all"),
    ],
)
def test_when_an_event_happened(claimed_ms: int | None, timestamp_ms: int, expected: int) -> None:
    assert event_time_ms(claimed_ms, origin(timestamp_ms), NOW_MS) == expected


@given(st.integers(0, NOW_MS * 2), st.integers(1, NOW_MS), st.integers(0, 10**9))
def test_a_record_that_is_read_again_has_the_same_time_again(claimed_ms: int, timestamp_ms: int, later: int) -> None:
    read = origin(timestamp_ms)
    assert event_time_ms(claimed_ms, read, NOW_MS) == event_time_ms(claimed_ms, read, NOW_MS + later)


def test_an_event_is_told_from_others_by_its_id_or_by_its_place() -> None:
    def digest(event_id: str | None = None, value: bytes | None = b"{}", **place: int) -> bytes:
        return event_digest(event_id, Message(b"u1", value, origin(**place)))

    assert digest() == digest()
    assert len({digest(), digest(offset=8), digest(partition=1), digest(timestamp_ms=1), digest(value=b"")}) == 5
    assert digest("e1") == digest("e1", b"another", offset=8, timestamp_ms=1)
    assert len({digest("e1"), digest("e2"), digest(), digest("place")}) == 4
    assert {len(digest()), len(digest("e1"))} == {DIGEST_BYTES}


def test_the_digest_of_a_place_is_that_of_the_text_that_earlier_versions_made() -> None:
    message = Message(b"u1", b"{}", Origin("a-prefix.user-behaved", 3, 7, NOW_MS))
    text = f"place {message.origin.place} ".encode() + b"{}"
    assert event_digest(None, message) == blake2b(text, digest_size=DIGEST_BYTES).digest()


def test_the_order_of_places() -> None:
    first = Place("r-0", 7, 100)
    assert Place("r-0", 8, 99).is_later(first)
    assert not Place("r-0", 6, 101).is_later(first)
    assert not first.is_later(first)
    assert first.is_later(None)
    assert Place("r-1", 1, 101).is_later(first)
    assert not Place("r-1", 900, 99).is_later(first)
    assert Place("r-1", 1, 100).is_later(first), "of one timestamp, whichever, but both readers the same"
    assert not first.is_later(Place("r-1", 1, 100))


@given(st.lists(st.binary(min_size=DIGEST_BYTES, max_size=DIGEST_BYTES), max_size=300, unique=True))
def test_the_newest_are_remembered_and_no_other(digests: list[bytes]) -> None:
    applied = AppliedEvents()
    for each in digests:
        applied = applied.with_applied(each)
    assert list(applied) == digests[-REMEMBERED_BEHAVIOURS:]
    assert [each in applied for each in digests] == [
        place >= len(digests) - REMEMBERED_BEHAVIOURS for place in range(len(digests))
    ]


def test_a_digest_that_lies_across_two_others_is_none() -> None:
    applied = AppliedEvents(b"aaaaaaab" + b"cddddddd")
    assert b"aaaaaabc" not in applied
    assert b"cddddddd" in applied
    assert b"aaaabcdd" not in AppliedEvents(b"xaaaabcd" + b"daaaabcd" + b"dddddddd")
    assert b"aaaaaaab" in applied


def test_a_registration_replaces_by_time_then_by_place_and_never_again() -> None:
    stored = AttributesVersion(50, Place("r-0", 7, 50), (b"1", b"2"))
    assert AttributesVersion(51, Place("r-0", 1, 1), (b"3",)).replaces(stored)
    assert not AttributesVersion(49, Place("r-0", 9, 99), (b"3",)).replaces(stored)
    assert AttributesVersion(50, Place("r-0", 8, 1), (b"3",)).replaces(stored)
    assert not AttributesVersion(50, None, (b"3",)).replaces(stored)
    assert not AttributesVersion(99, Place("r-0", 9, 99), (b"1",)).replaces(stored), "superseded, and read again"
    assert AttributesVersion(1).replaces(AttributesVersion())


def test_what_a_registration_replaced_is_remembered_to_its_bound() -> None:
    version = AttributesVersion()
    for number in range(20):
        version = AttributesVersion(number, None, (b"%d" % number,)).after(version)
    assert version.digests == tuple(b"%d" % number for number in range(20 - REMEMBERED_REGISTRATIONS, 20))
