"""Events from outside are held to the rules of their topics, and reach them with their keys."""

from datetime import UTC, datetime, timedelta

import pytest

from foretaste.kernel.errors import InvalidInput, Unavailable
from foretaste.kernel.events import Message, Origin, UserBehaved, UserRegistered
from foretaste.testing import InMemoryEvents
from streams.decoding import decode_behaved, decode_registered
from streams.intake import TopicIntake
from streams.topics import TopicNames

NOW = datetime(2026, 1, 1, tzinfo=UTC)
NAMES = TopicNames("shop-")
LATE = NOW + timedelta(days=2)


@pytest.fixture
def events() -> InMemoryEvents:
    return InMemoryEvents()


@pytest.fixture
def intake(events: InMemoryEvents) -> TopicIntake:
    return TopicIntake(events, NAMES, max_event_bytes=2000, now=NOW.timestamp)


async def test_what_is_taken_reads_as_the_same_event(intake: TopicIntake, events: InMemoryEvents) -> None:
    registered = UserRegistered(user_id="ü1", attributes={"age": 25, "vip": True, "note": None, "share": 0.5})
    behaved = UserBehaved(user_id="ü1", item_id="i1", at=NOW, action="liked", ranking_id="r1")
    await intake.register([registered])
    await intake.behave([behaved])
    (first,), (second,) = events.of(NAMES.registered), events.of(NAMES.behaved)
    now_ms = round(NOW.timestamp() * 1000)
    origin = Origin("t", 0, 0, now_ms)
    message, other = Message(first.key, first.value, origin), Message(second.key, second.value, origin)
    assert decode_registered(message, now_ms=now_ms, max_bytes=2000) == registered
    assert decode_behaved(other, now_ms=now_ms, max_bytes=2000) == behaved


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        (UserRegistered(user_id="u", attributes={"n": 2**63}), "1.attributes.n"),
        (UserRegistered(user_id="u", attributes={}, registered_at=LATE), "1.registered_at"),
        (UserRegistered(user_id="u", attributes={"bio": "x" * 2000}), "1"),
    ],
)
async def test_one_that_a_worker_would_refuse_keeps_all_from_being_sent(
    intake: TopicIntake, events: InMemoryEvents, wrong: UserRegistered, field: str
) -> None:
    with pytest.raises(InvalidInput) as caught:
        await intake.register([UserRegistered(user_id="good", attributes={}), wrong])
    assert caught.value.field == field
    assert not events.sent


async def test_a_behaviour_of_the_future_is_refused(intake: TopicIntake, events: InMemoryEvents) -> None:
    with pytest.raises(InvalidInput, match=r"0\.at: must not be more than a day in the future"):
        await intake.behave([UserBehaved(user_id="u", item_id="i", at=LATE)])
    assert not events.sent


async def test_a_kafka_that_is_away_is_said(intake: TopicIntake, events: InMemoryEvents) -> None:
    events.outage = Unavailable("kafka", "gone")
    with pytest.raises(Unavailable):
        await intake.register([UserRegistered(user_id="u", attributes={})])
