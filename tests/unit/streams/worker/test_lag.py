"""What a look at Kafka leaves behind when it cannot end."""

import asyncio
from typing import Any

import pytest

from foretaste.kernel.errors import Unavailable
from streams.worker import lag as backlog
from streams.worker.connection import KafkaConnection
from streams.worker.lag import KafkaBacklog


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
    monkeypatch.setattr(backlog, "AIOKafkaConsumer", LeaderlessConsumer)
    looking = KafkaBacklog(KafkaConnection("kafka:9092"), "workers", "user-registered", timeout=0.01)
    for _ in range(2):
        with pytest.raises(Unavailable):
            await looking.places()
    await looking.close()
    assert LeaderlessConsumer.made == LeaderlessConsumer.stopped == 2
