"""Consumers beside the workers, whose client may be waiting out a lost connection when they are ended."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from foretaste.kernel.errors import Unavailable
from streams.worker import dead_letter_reader, reading
from streams.worker.connection import KafkaConnection
from streams.worker.event_counts import CountedTopic, KafkaEventCounts
from streams.worker.lag import KafkaBacklog

CONNECTION = KafkaConnection("kafka:9092")


class CancellingConsumer:
    """It does not start, and its end cancels whoever ends it, as aiokafka's does while a connection is lost."""

    closed = 0

    def __init__(self, **_: Any) -> None:
        self._client = self

    async def start(self) -> None:
        raise KafkaError("chosen by the test")

    async def stop(self) -> None:
        raise asyncio.CancelledError

    async def close(self) -> None:
        type(self).closed += 1


async def lag() -> None:
    await KafkaBacklog(CONNECTION, "workers", "user-registered").positions()


async def counts() -> None:
    await KafkaEventCounts(CONNECTION, {"registered": CountedTopic("user-registered", "workers")}).counts()


async def dead_letters() -> None:
    await dead_letter_reader._read(CONNECTION, [TopicPartition("dead-letters", 0)], None)


@pytest.mark.parametrize("look", [lag, counts, dead_letters])
async def test_a_client_that_cancels_whoever_ends_it_cancels_no_look(
    look: Callable[[], Awaitable[None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "AIOKafkaConsumer", CancellingConsumer)
    monkeypatch.setattr(CancellingConsumer, "closed", 0)
    with pytest.raises((Unavailable, KafkaError), match="chosen by the test"):
        await look()
    assert CancellingConsumer.closed == 1
