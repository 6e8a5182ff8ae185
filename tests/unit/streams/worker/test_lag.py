"""How long it is waited for a group, and what a look at Kafka leaves behind when it cannot end."""

import asyncio
from typing import Any

import pytest

from foretaste.kernel.errors import Unavailable
from streams.worker import lag, reading
from streams.worker.connection import KafkaConnection
from streams.worker.lag import KafkaBacklog, Position, unhandled


class LeaderlessConsumer:
    """Its partition has no leader: it never learns where it stands."""

    made, stopped = 0, 0

    def __init__(self, **_: Any) -> None:
        type(self).made += 1

    async def start(self) -> None: ...

    async def topics(self) -> set[str]:
        return {"user-registered"}

    def assign(self, _partitions: object) -> None: ...

    async def position(self, _partition: object) -> int:
        await asyncio.Event().wait()
        return 0

    async def stop(self) -> None:
        type(self).stopped += 1


async def test_a_first_look_that_ends_in_time_leaves_no_consumer_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "AIOKafkaConsumer", LeaderlessConsumer)
    looking = KafkaBacklog(KafkaConnection("kafka:9092"), "workers", "user-registered", timeout=0.01)
    for _ in range(2):
        with pytest.raises(Unavailable):
            await looking.positions()
    await looking.close()
    assert LeaderlessConsumer.made == LeaderlessConsumer.stopped == 2


class Group:
    """One that is found further on at each look."""

    def __init__(self, *looks: dict[int, Position]) -> None:
        self.looks = list(looks)
        self.looked = 0

    async def positions(self) -> dict[int, Position]:
        self.looked += 1
        return self.looks[min(self.looked, len(self.looks)) - 1]


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lag, "LOOK_EVERY", 0.0)


async def test_where_nothing_waits_nothing_is_waited_for() -> None:
    group = Group({0: Position(5, 5), 1: Position(0, 0)})
    assert await unhandled(group, 60) == 0
    assert group.looked == 1


async def test_what_comes_meanwhile_is_not_waited_for() -> None:
    group = Group({0: Position(5, 9)}, {0: Position(8, 30)}, {0: Position(9, 50)})
    assert await unhandled(group, 60) == 0
    assert group.looked == 3


async def test_no_partition_makes_up_for_another() -> None:
    group = Group(
        {0: Position(5, 9), 1: Position(0, 4)},
        {0: Position(40, 50), 1: Position(1, 4)},
        {0: Position(40, 50), 1: Position(4, 9)},
    )
    assert await unhandled(group, 60) == 0
    assert group.looked == 3


async def test_after_so_long_what_is_left_of_it_is_told() -> None:
    now = iter([0.0, 10.0, 20.0, 30.0])
    group = Group({0: Position(5, 9)}, {0: Position(6, 20)})
    assert await unhandled(group, 30, clock=lambda: next(now)) == 3
