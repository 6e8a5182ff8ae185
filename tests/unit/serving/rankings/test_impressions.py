"""Impressions on their way to Kafka: none is lost unnoticed, and no answer waits for one."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import pytest
from prometheus_client import CollectorRegistry

from foretaste.kernel.batching import BatchPolicy
from foretaste.kernel.errors import InvalidInput, Unavailable
from foretaste.kernel.events import UserRanked
from foretaste.kernel.ranking import Source
from foretaste.kernel.users import Behaviour, UserFeatures
from foretaste.testing import InMemoryEvents
from serving.metrics import RankingMetrics
from serving.rankings.impressions import AnsweredRanking, BufferedImpressions, ImpressionBuffer
from serving.requests import RankResponse, ScoredItem
from streams.codec import EVENTS

TOPIC = "user-ranked"
AT = 1_767_225_600.5
"""When everything was shown; the clock stands still."""


def served(ranking_id: str, user_id: str = "u1") -> AnsweredRanking:
    response = RankResponse(
        user_id=user_id,
        ranking_id=ranking_id,
        served_by=Source.REAL,
        ranking_generation=1,
        ranked=[ScoredItem(item_id="i1", score=0.5)],
    )
    features = UserFeatures(user_id, {"age": 25}, Behaviour(["a"], ["liked"], [5]))
    return AnsweredRanking(response, {"hour": 8}, features, warm_after=3, shown=20, at=AT)


class Broker(InMemoryEvents):
    """Can be away, or hang; refuses what is of the user `huge`."""

    def __init__(self) -> None:
        super().__init__()
        self.tried, self.taken = asyncio.Event(), asyncio.Event()
        self.hangs = False

    async def send_all(self, topic: str, events: Sequence[tuple[bytes | None, bytes | None]]) -> None:
        self.tried.set()
        if self.hangs:
            await asyncio.get_running_loop().create_future()
        if any(key == b"huge" for key, _ in events):
            raise InvalidInput("event for user-ranked", 9_000_000, "has too many bytes for Kafka")
        await super().send_all(topic, events)
        self.taken.set()


class Form:
    def __init__(self, capacity: int = 10_000, age: float = 0.001) -> None:
        self.broker, self.registry = Broker(), CollectorRegistry()
        self.now = 0.0
        self.impressions = BufferedImpressions(
            self.broker,
            TOPIC,
            EVENTS.encode,
            RankingMetrics(self.registry),
            ImpressionBuffer(BatchPolicy(size=4, age=age), capacity=capacity, longest_pause=0.01),
            lambda: self.now,
        )

    def sent(self) -> list[str]:
        return [UserRanked.model_validate_json(each.value or b"").ranking_id for each in self.broker.of(TOPIC)]

    def counted(self) -> tuple[float, float]:
        """Durable, and lost."""
        names = ("foretaste_rank_impressions_total", "foretaste_rank_impressions_lost_total")
        kept, lost = (self.registry.get_sample_value(name) or 0.0 for name in names)
        return kept, lost


async def test_what_is_noted_is_sent_in_order_by_user_and_whole() -> None:
    form = Form()
    for each in range(10):
        form.impressions.note(served(f"r{each}"))
    await form.impressions.close()
    assert form.sent() == [f"r{each}" for each in range(10)]
    first = form.broker.of(TOPIC)[0]
    assert first.key == b"u1"
    assert UserRanked.model_validate_json(first.value or b"") == served("r0").event()
    assert form.counted() == (10, 0)


async def test_it_is_sent_without_being_closed() -> None:
    form = Form()
    for each in range(3):
        form.impressions.note(served(f"r{each}"))
        await form.broker.taken.wait()
        form.broker.taken.clear()
        assert len(form.sent()) == each + 1
    await form.impressions.close()


async def test_a_full_batch_waits_for_no_age_and_a_close_waits_for_none_either() -> None:
    form = Form(age=3600)
    for each in range(5):
        form.impressions.note(served(f"r{each}"))
    await form.broker.taken.wait()
    assert form.sent() == ["r0", "r1", "r2", "r3"]
    await form.impressions.close()
    assert form.sent() == [f"r{each}" for each in range(5)]


async def test_few_wait_for_more() -> None:
    form = Form(age=3600)
    for each in range(3):
        form.impressions.note(served(f"r{each}"))
        for _ in range(5):
            await asyncio.sleep(0)
        assert form.sent() == []
    form.impressions.note(served("r3"))
    await form.broker.taken.wait()
    assert form.sent() == ["r0", "r1", "r2", "r3"]
    await form.impressions.close()


async def test_what_is_old_enough_already_waits_for_nobody() -> None:
    form = Form(age=3600)
    for each in range(6):
        form.impressions.note(served(f"r{each}"))
        form.now += 3600
    await form.broker.taken.wait()
    form.broker.taken.clear()
    if len(form.sent()) < 6:
        await form.broker.taken.wait()
    assert form.sent() == [f"r{each}" for each in range(6)]
    await form.impressions.close()


async def test_noting_waits_for_nothing_and_what_does_not_fit_is_counted() -> None:
    form = Form(capacity=3)
    form.broker.hangs = True
    for each in range(5):
        form.impressions.note(served(f"r{each}"))
    await form.broker.tried.wait()
    form.impressions.note(served("more"))
    assert form.counted() == (0, 3)
    await form.impressions.close(grace=0.01)
    assert form.counted() == (0, 6)


async def test_while_kafka_is_away_it_is_sent_again() -> None:
    form = Form()
    form.broker.outage = Unavailable("kafka", "chosen by the test")
    for each in range(6):
        form.impressions.note(served(f"r{each}"))
    for _ in range(3):
        form.broker.tried.clear()
        await form.broker.tried.wait()
    assert form.counted() == (0, 0)
    form.broker.outage = None
    await form.impressions.close()
    assert form.sent() == [f"r{each}" for each in range(6)]


async def test_one_that_kafka_never_takes_costs_no_other() -> None:
    form = Form()
    for each in range(6):
        form.impressions.note(served(f"r{each}", "huge" if each in (1, 4) else "u1"))
    await form.impressions.close()
    assert form.sent() == ["r0", "r2", "r3", "r5"]
    assert form.counted() == (4, 2)


async def test_what_comes_after_the_end_is_counted() -> None:
    form = Form()
    await form.impressions.close()
    form.impressions.note(served("late"))
    await form.impressions.close()
    assert (form.sent(), form.counted()) == ([], (0, 1))


@pytest.mark.parametrize("field", ["context", "attributes"])
async def test_one_that_cannot_be_written_costs_no_other(field: str, caplog: pytest.LogCaptureFixture) -> None:
    bad = {"query": "trainers \ud83d"}
    form = Form()
    for each in range(6):
        good = served(f"r{each}")
        if each == 1:
            features = UserFeatures("u1", bad) if field == "attributes" else good.features
            good = replace(good, context=bad if field == "context" else {}, features=features)
        form.impressions.note(good)
    await form.impressions.close()
    assert form.sent() == ["r0", "r2", "r3", "r4", "r5"]
    assert form.counted() == (5, 1)
    assert "cannot be written as JSON" in caplog.text
    assert form.impressions.failure is None


@pytest.mark.parametrize("written", [1_767_225_600_000 * 1000, 2**63 - 1, -(2**63)])
async def test_a_registration_at_no_time_that_a_date_can_tell_costs_no_impression(written: int) -> None:
    """Another client's, which wrote milliseconds for seconds."""
    form, one = Form(), served("r1")
    form.impressions.note(replace(one, features=replace(one.features, attributes_ms=written)))
    form.impressions.note(served("r2"))
    await form.impressions.close()
    assert form.sent() == ["r1", "r2"]
    (first, _) = form.broker.of(TOPIC)
    assert UserRanked.model_validate_json(first.value or b"").registered_at is None


async def test_a_defect_is_logged_and_counted_and_the_next_impressions_are_sent_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    form = Form()
    form.impressions.note(_Defective())
    form.impressions.note(served("r0"))
    assert form.impressions._task is not None
    await asyncio.wait({form.impressions._task}, timeout=5)
    assert "impressions: a defect ended the task that sends them, 2 are lost" in caplog.text
    assert repr(form.impressions.failure) == "ZeroDivisionError()"
    assert form.registry.get_sample_value("foretaste_rank_impressions_failed") == 1
    form.impressions.note(served("r1"))
    await form.impressions.close()
    assert (form.sent(), form.counted()) == (["r1"], (1, 2))
    assert form.impressions.failure is None
    assert form.registry.get_sample_value("foretaste_rank_impressions_failed") == 0


class _Defective:
    """An impression that cannot become an event."""

    def event(self) -> UserRanked:
        raise ZeroDivisionError
