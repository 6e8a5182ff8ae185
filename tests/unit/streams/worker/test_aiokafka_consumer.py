"""The worker's consumer on aiokafka alone, without a broker: how partitions are begun."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
from aiokafka import TopicPartition

from foretaste.kernel.errors import Unavailable
from foretaste.kernel.values import Partition
from foretaste.testing import InMemoryOffsets
from streams.worker.aiokafka_consumer import AiokafkaConsumer
from streams.worker.connection import KafkaConnection
from streams.worker.consumer import ConsumerConfig
from streams.worker.health.store_progress import StoreProgress
from tests.stream_parts import World

ZERO, ONE = TopicPartition("user-registered", 0), TopicPartition("user-registered", 1)


class Fetching:
    """The fetcher of a client that was not started."""

    def __init__(self) -> None:
        self.error_future = asyncio.get_running_loop().create_future()
        self.sought: dict[TopicPartition, int] = {}

    def seek_to(self, partition: TopicPartition, offset: int) -> None:
        self.sought[partition] = offset

    async def close(self) -> None:
        """It holds nothing."""


@dataclass
class Bench(InMemoryOffsets):
    """A consumer that was assigned two partitions, and the store, which sees which are paused when it is asked."""

    outage: Unavailable | None = None
    paused: set[TopicPartition] = field(default_factory=set)
    asked: asyncio.Event = field(default_factory=asyncio.Event)
    asked_at_once: int = 0

    def __post_init__(self) -> None:
        super().__init__()
        progress = StoreProgress(self, World().metrics.lost_tails, begin_within=0.01)
        self.consumer = AiokafkaConsumer(KafkaConnection("127.0.0.1:1"), "group", {}, ConsumerConfig(), progress)
        self.client = self.consumer._client
        self.client.committed = self.committed
        self.client._fetcher = self.fetching = Fetching()

    @asynccontextmanager
    async def assigned(self) -> AsyncIterator[None]:
        self.client.subscribe([ZERO.topic], listener=self.consumer)
        self.client._subscription.assign_from_subscribed([ZERO, ONE])
        try:
            yield
        finally:
            await self.client.stop()

    async def committed(self, partition: TopicPartition) -> int | None:
        self.asked_at_once += 1
        if self.asked_at_once == 2:
            self.asked.set()
        await asyncio.wait_for(self.asked.wait(), 5)
        return {ZERO: 12, ONE: None}[partition]

    async def begin_offsets(self, starts: Mapping[Partition, int]) -> dict[Partition, int | None]:
        self.paused = set(self.client.paused())
        if self.outage is not None:
            raise self.outage
        return await super().begin_offsets(starts)


async def test_nothing_is_read_of_partitions_before_they_are_begun_where_the_store_stands() -> None:
    bench = Bench()
    bench.held[ZERO] = 7
    async with bench.assigned():
        await bench.consumer.on_partitions_assigned({ZERO, ONE})
        assert bench.paused == {ZERO, ONE}
        assert bench.client.paused() == set()
        assert bench.fetching.sought == {ZERO: 7}


async def test_partitions_that_cannot_be_begun_stay_unread_and_end_the_consumer() -> None:
    bench = Bench(outage=Unavailable("redis", "chosen by the test"))
    async with bench.assigned():
        with pytest.raises(Unavailable):
            await bench.consumer.on_partitions_assigned({ZERO, ONE})
        assert bench.client.paused() == {ZERO, ONE}
        with pytest.raises(Unavailable, match="chosen by the test"):
            await bench.consumer.failed()
