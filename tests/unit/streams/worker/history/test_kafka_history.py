"""What a reader of a topic leaves behind when it cannot begin."""

import asyncio
from typing import Any

import pytest

from foretaste.kernel.errors import Unavailable
from streams.worker import reading
from streams.worker.connection import KafkaConnection
from streams.worker.history.kafka_history import KafkaHistory


class HangingConsumer:
    """A broker took its connection and says nothing."""

    made, stopped = 0, 0

    def __init__(self, **_: Any) -> None:
        type(self).made += 1

    async def start(self) -> None:
        await asyncio.Event().wait()

    async def stop(self) -> None:
        type(self).stopped += 1


async def test_a_start_that_ends_in_time_leaves_no_consumer_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "AIOKafkaConsumer", HangingConsumer)
    history = KafkaHistory(KafkaConnection("kafka:9092"), "user-profiles", patience=0.01)
    for _ in range(2):
        with pytest.raises(Unavailable):
            await history.bounds()
    await history.close()
    assert HangingConsumer.made == HangingConsumer.stopped == 2
