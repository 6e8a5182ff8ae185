"""A worker that handles nothing though events wait turns unready, and ends itself."""

import asyncio
from collections.abc import Mapping, Set
from dataclasses import dataclass, field

import pytest
from aiokafka import TopicPartition

from foretaste.kernel.errors import Unavailable
from foretaste.kernel.running.readiness import ProcessReadiness
from streams.worker.health.stalling import StallConfig, Stalled, StallWatch
from streams.worker.lag import Position

A0, A1, B0 = TopicPartition("a", 0), TopicPartition("a", 1), TopicPartition("b", 0)


@dataclass
class Way:
    settled: int = 0
    waits_for: str | None = None
    longest_batch: float = 0.0


@dataclass
class Worker:
    """One with two ways, its clock, and what Kafka would answer of its partitions."""

    ways: dict[str, Way] = field(default_factory=lambda: {"a": Way(), "b": Way()})
    held: set[TopicPartition] = field(default_factory=lambda: {A0, A1, B0})
    waiting: dict[TopicPartition, int] = field(default_factory=dict)
    away: bool = False
    now: float = 0.0
    looked_at: list[Set[TopicPartition]] = field(default_factory=list)
    closed: bool = False
    readiness: ProcessReadiness = field(default_factory=ProcessReadiness)

    def __post_init__(self) -> None:
        self.watch = StallWatch(
            self.ways, lambda: self.held, self, self.readiness, StallConfig(), clock=lambda: self.now, sleep=self.sleep
        )

    async def positions(self, partitions: Set[TopicPartition]) -> Mapping[TopicPartition, Position]:
        self.looked_at.append(partitions)
        if self.away:
            raise Unavailable("kafka", "nobody answers")
        return {each: Position(10, 10 + self.waiting.get(each, 0)) for each in partitions}

    async def close(self) -> None:
        self.closed = True

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(0)
        self.now += seconds

    async def looks(self, count: int) -> None:
        for _ in range(count):
            self.now += 10
            await self.watch.look()


async def test_a_way_that_handles_events_is_well_and_nobody_is_asked() -> None:
    worker = Worker(waiting={A0: 5000, B0: 5000})
    for _ in range(100):
        for way in worker.ways.values():
            way.settled += 1
        await worker.looks(1)
    assert worker.looked_at == []
    assert worker.readiness.reasons == {}


async def test_a_way_for_which_nothing_waits_is_well() -> None:
    worker = Worker()
    await worker.looks(100)
    assert worker.readiness.reasons == {}


async def test_a_way_that_handles_nothing_of_what_waits_is_told_and_ends() -> None:
    worker = Worker(waiting={A0: 3, A1: 4})
    await worker.looks(3)
    assert worker.readiness.reasons == {}
    await worker.looks(1)
    reason = "nothing was handled for 30 s though 7 events wait in 2 partitions, first a/0@10"
    assert worker.readiness.reasons == {"a": reason}
    await worker.looks(8)
    with pytest.raises(Stalled, match="a: nothing was handled for 120 s though 7 events wait"):
        await worker.looks(1)


async def test_a_way_with_a_pace_has_longer() -> None:
    worker = Worker(waiting={A0: 3})
    worker.ways["a"].longest_batch = 300.0
    await worker.looks(33)
    assert worker.readiness.reasons == {}
    await worker.looks(9)
    assert set(worker.readiness.reasons) == {"a"}
    with pytest.raises(Stalled, match="a: nothing was handled for 420 s"):
        await worker.looks(1)


async def test_what_is_handled_at_last_makes_it_ready() -> None:
    worker = Worker(waiting={A0: 3})
    await worker.looks(5)
    assert set(worker.readiness.reasons) == {"a"}
    worker.ways["a"].settled += 1
    await worker.looks(1)
    assert worker.readiness.reasons == {}


async def test_what_waits_since_a_short_while_is_nobodys_fault() -> None:
    worker = Worker()
    await worker.looks(50)
    worker.waiting[A0] = 1
    await worker.looks(2)
    assert worker.readiness.reasons == {}


async def test_a_part_that_is_away_is_told_and_ends_nothing() -> None:
    worker = Worker(waiting={A0: 3})
    worker.ways["a"].waits_for = "redis is not available"
    await worker.looks(100)
    assert worker.readiness.reasons == {"a": "redis is not available"}
    worker.ways["a"].waits_for = None
    await worker.looks(1)
    assert worker.readiness.reasons == {}


async def test_while_kafka_does_not_answer_no_way_is_blamed() -> None:
    worker = Worker(waiting={A0: 3}, away=True)
    await worker.looks(2)
    assert worker.readiness.reasons == {"kafka": "kafka is not available: nobody answers"}
    worker.away, worker.waiting = False, {}
    await worker.looks(1)
    assert worker.readiness.reasons == {}


async def test_only_partitions_that_it_holds_are_its_own() -> None:
    worker = Worker(waiting={A1: 9}, held={A0})
    await worker.looks(100)
    assert worker.readiness.reasons == {}
    assert set().union(*worker.looked_at) == {A0}


async def test_other_partitions_begin_anew() -> None:
    worker = Worker(waiting={A0: 9})
    await worker.looks(12)
    assert set(worker.readiness.reasons) == {"a"}
    worker.held = {A0, B0}
    await worker.looks(1)
    assert worker.readiness.reasons == {}


async def test_run_looks_until_it_stalls_and_leaves_it_told() -> None:
    worker = Worker(waiting={B0: 1})
    with pytest.raises(Stalled, match="b: nothing was handled"):
        await worker.watch.run()
    assert set(worker.readiness.reasons) == {"b"}
    assert worker.closed


async def test_run_that_is_cancelled_takes_back_what_it_told() -> None:
    worker = Worker(away=True)
    running = asyncio.create_task(worker.watch.run())
    for _ in range(20):
        await asyncio.sleep(0)
    assert worker.readiness.reasons
    running.cancel()
    await asyncio.wait({running})
    assert worker.readiness.reasons == {}
    assert worker.closed
