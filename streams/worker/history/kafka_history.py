"""What a topic holds, read from end to end beside everybody else: no group, nothing committed."""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError

from foretaste.kernel.errors import Unavailable
from foretaste.kernel.events import Message, Origin
from streams.worker.connection import KafkaConnection, kafka_unavailable
from streams.worker.dead_letters import message_of
from streams.worker.reading import beside_the_workers, readable_end, stop

FETCH_BYTES = 4 * 1024 * 1024
"""Of a partition in one fetch."""
LOOK_MS = 500
PATIENCE = 60.0
"""Seconds for which nothing may come."""


class KafkaHistory:
    """The records of one topic, of any number of partitions. Belongs to the event loop of its first use."""

    def __init__(self, connection: KafkaConnection, topic: str, *, patience: float = PATIENCE) -> None:
        self._connection = connection
        self._topic = topic
        self._patience = patience
        self._started: AIOKafkaConsumer | None = None

    async def bounds(self) -> dict[int, tuple[int, int]]:
        """By partition, the offset of the first record and the one behind the last that can be read now.

        The ends are those of answered fetches: Tansu's list of offsets counts a batch as one record. Empty for a topic
        that nobody created. Raises `Unavailable` when no broker answers in time.
        """
        try:
            async with asyncio.timeout(self._patience):
                consumer = await self._consumer()
                if self._topic not in await consumer.topics():  # asking for it would create it
                    return {}
                partitions = await self._assigned(consumer)
                begins = await consumer.beginning_offsets(partitions)
                for each in partitions:
                    consumer.seek(each, begins[each])
                ends: dict[TopicPartition, int] = {}
                while len(ends) < len(partitions):
                    await consumer.getmany(timeout_ms=100, max_records=1)
                    ends = {each: end for each in partitions if (end := readable_end(consumer, each)) is not None}
        except (KafkaError, TimeoutError) as error:
            raise await kafka_unavailable(self._connection, error, self._topic) from error
        return {each.partition: (begins[each], ends[each]) for each in partitions}

    async def read(
        self, starts: Mapping[int, int], ends: Mapping[int, int], most: int
    ) -> AsyncIterator[tuple[list[Message], dict[int, int]]]:
        """The records from `starts` on and before `ends`, at most `most` at a time, in the order of their partitions;
        each time with where each partition is read on from then. Raises `Unavailable` when none comes in time."""
        try:
            consumer = await self._consumer()
            partitions = [TopicPartition(self._topic, each) for each, end in ends.items() if starts[each] < end]
            consumer.assign(partitions)
            for each in partitions:
                consumer.seek(each, starts[each.partition])
            at, heard = dict(starts), time.monotonic()
            while partitions:
                found = await consumer.getmany(*partitions, timeout_ms=LOOK_MS, max_records=most)
                moved = await _positions(consumer, partitions, ends)
                if found or any(at[each] != offset for each, offset in moved.items()):
                    heard = time.monotonic()
                elif time.monotonic() - heard > self._patience:
                    raise Unavailable("kafka", f"{self._topic}: nothing came for {self._patience:g} s")
                at |= moved
                partitions = [each for each in partitions if at[each.partition] < ends[each.partition]]
                yield (
                    [_message(each) for records in found.values() for each in records if _before(each, ends)],
                    dict(at),
                )
        except KafkaError as error:
            raise await kafka_unavailable(self._connection, error, self._topic) from error

    async def close(self) -> None:
        consumer, self._started = self._started, None
        if consumer is not None:
            await stop(consumer)

    async def _consumer(self) -> AIOKafkaConsumer:
        if self._started is None:
            consumer = beside_the_workers(
                self._connection, fetch_max_wait_ms=100, max_partition_fetch_bytes=FETCH_BYTES, max_poll_records=None
            )
            async with AsyncExitStack() as unless_started:
                unless_started.push_async_callback(stop, consumer)
                await consumer.start()
                unless_started.pop_all()
            self._started = consumer
        return self._started

    async def _assigned(self, consumer: AIOKafkaConsumer) -> Sequence[TopicPartition]:
        """All partitions of the topic; a client knows how many there are once it was given one of them."""
        first = TopicPartition(self._topic, 0)
        consumer.assign([first])
        await consumer.position(first)
        partitions = [TopicPartition(self._topic, each) for each in sorted(consumer.partitions_for_topic(self._topic))]
        consumer.assign(partitions)
        return partitions


async def _positions(
    consumer: AIOKafkaConsumer, partitions: Sequence[TopicPartition], ends: Mapping[int, int]
) -> dict[int, int]:
    return {each.partition: min(await consumer.position(each), ends[each.partition]) for each in partitions}


def _before(record: ConsumerRecord, ends: Mapping[int, int]) -> bool:
    return bool(record.offset < ends[record.partition])


def _message(record: ConsumerRecord) -> Message:
    origin = Origin(record.topic, record.partition, record.offset, record.timestamp)
    return message_of(record.key, record.value, record.headers, origin)
