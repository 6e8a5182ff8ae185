"""What a consumer group has not handled yet of a topic."""

import asyncio
from contextlib import AsyncExitStack

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError, UnknownTopicOrPartitionError

from foretaste.kernel.errors import Unavailable
from streams.worker.connection import KafkaConnection
from streams.worker.settling import Place

LOOK_MS = 100
"""For which one look lets the broker hold a fetch."""


class KafkaBacklog:
    """The events of a topic beyond what a group has committed, seen by a consumer that is no member of it.

    Ends of partitions are taken from answered fetches: Tansu's list of offsets counts a batch as one record.
    """

    def __init__(self, connection: KafkaConnection, group: str, topic: str, *, timeout: float = 30.0) -> None:
        """One look takes `timeout` seconds at most: its client would wait for ever for a partition without a leader."""
        self._connection = connection
        self._timeout = timeout
        self._group = group
        self._topic = topic
        self._started: AIOKafkaConsumer | None = None

    async def remaining(self) -> int:
        return sum(place.end - place.done for place in (await self.places()).values())

    async def places(self) -> dict[int, Place]:
        """By partition, as `streams.worker.settling.Places` has it."""
        try:
            async with asyncio.timeout(self._timeout):
                consumer = await self._consumer()
                partitions = [
                    TopicPartition(self._topic, each) for each in consumer.partitions_for_topic(self._topic) or ()
                ]
                consumer.assign(partitions)  # anew each time, which forgets the ends seen last time
                committed = [await consumer.position(each) for each in partitions]
                while (ends := [consumer.highwater(each) for each in partitions]).count(None):
                    await consumer.getmany(timeout_ms=LOOK_MS)
        except (KafkaError, TimeoutError) as error:
            raise Unavailable("kafka", f"{self._topic} at {self._connection.bootstrap}: {error!r}") from error
        return {at.partition: Place(*place) for at, *place in zip(partitions, committed, ends, strict=True)}

    async def close(self) -> None:
        consumer, self._started = self._started, None
        if consumer is not None:
            await consumer.stop()

    async def _consumer(self) -> AIOKafkaConsumer:
        if self._started is None:
            consumer = AIOKafkaConsumer(
                **self._connection.client_arguments(),
                group_id=self._group,
                enable_auto_commit=False,
                auto_offset_reset="earliest",
                fetch_max_wait_ms=LOOK_MS,
                max_partition_fetch_bytes=1,  # one batch is enough to be told where its partition ends
            )
            async with AsyncExitStack() as unless_ready:
                unless_ready.push_async_callback(consumer.stop)
                await consumer.start()
                if self._topic not in await consumer.topics():
                    raise UnknownTopicOrPartitionError(self._topic)
                first = TopicPartition(self._topic, 0)
                consumer.assign([first])
                await consumer.position(first)  # from now on it knows how many partitions there are
                unless_ready.pop_all()
            self._started = consumer
        return self._started
