"""What a consumer group has not handled yet of a topic, and waiting until it has."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from typing import NamedTuple, Protocol

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError, UnknownTopicOrPartitionError

from foretaste.kernel.ports import Clock
from streams.worker.connection import KafkaConnection, kafka_unavailable
from streams.worker.reading import beside_the_workers, readable_end, stop

LOOK_MS = 100
"""For which one look lets the broker hold a fetch."""
LOOK_BYTES = 16 * 1024
"""Of a partition in one fetch: a look needs no more than its next record."""
LOOK_EVERY = 0.25
"""Seconds between two looks, while events are waited for."""


class Position(NamedTuple):
    """How far a group has come in a partition; both are offsets."""

    done: int
    """Of the next record that the group has to handle; `end` where there is none."""
    end: int
    """Behind the last record that can be read."""


class Positions(Protocol):
    """Tells how far a group has come in a topic."""

    async def positions(self) -> Mapping[int, Position]:
        """By partition. Raises `Unavailable` when nobody answers."""
        ...


async def unhandled(group: Positions, within: float, clock: Clock = time.monotonic) -> int:
    """Events of now that the group has not handled `within` so many seconds; 0 as soon as there is none left.

    What comes meanwhile is not waited for. Raises `Unavailable` when nobody answers.
    """
    given_up = clock() + within
    positions = await group.positions()
    ends = {partition: position.end for partition, position in positions.items()}
    while left := sum(max(end - positions[partition].done, 0) for partition, end in ends.items()):
        if clock() >= given_up:
            return left
        await asyncio.sleep(LOOK_EVERY)
        positions = await group.positions()
    return 0


class KafkaBacklog:
    """The events of a topic beyond what a group has committed, seen by a consumer that is no member of it.

    Committed offsets alone would not tell: the marker that ends a transaction takes an offset, as aborted records do,
    and no group ever commits past the last of them. So each look reads on from what was committed: where no record
    comes until the readable end, nothing is left. What lies between counts by its offsets, markers included.
    """

    def __init__(self, connection: KafkaConnection, group: str, topic: str, *, timeout: float = 30.0) -> None:
        """One look takes `timeout` seconds at most: its client would wait for ever for a partition without a leader."""
        self._connection = connection
        self._timeout = timeout
        self._group = group
        self._topic = topic
        self._started: AIOKafkaConsumer | None = None

    async def remaining(self) -> int:
        return sum(position.end - position.done for position in (await self.positions()).values())

    async def positions(self) -> dict[int, Position]:
        """By partition, as `Positions` has it."""
        try:
            async with asyncio.timeout(self._timeout):
                consumer = await self._consumer()
                known = consumer.partitions_for_topic(self._topic)
                if not known:  # none can be told while a broker answers that it has no leader for it
                    raise UnknownTopicOrPartitionError(self._topic)
                partitions = [TopicPartition(self._topic, each) for each in known]
                consumer.assign(partitions)  # anew each time, which forgets the ends seen last time
                positions = await look(consumer, partitions)
        except (KafkaError, TimeoutError) as error:
            subject = f"{self._topic} at {self._connection.bootstrap}"
            raise await kafka_unavailable(self._connection, error, subject) from error
        return {each.partition: position for each, position in positions.items()}

    async def close(self) -> None:
        consumer, self._started = self._started, None
        if consumer is not None:
            await stop(consumer)

    async def _consumer(self) -> AIOKafkaConsumer:
        if self._started is None:
            consumer = beside_the_workers(
                self._connection, self._group, fetch_max_wait_ms=LOOK_MS, max_partition_fetch_bytes=LOOK_BYTES
            )
            async with AsyncExitStack() as unless_ready:
                unless_ready.push_async_callback(stop, consumer)
                await consumer.start()
                if self._topic not in await consumer.topics():
                    raise UnknownTopicOrPartitionError(self._topic)
                first = TopicPartition(self._topic, 0)
                consumer.assign([first])
                await consumer.position(first)  # from now on it knows how many partitions there are
                unless_ready.pop_all()
            self._started = consumer
        return self._started


async def look(consumer: AIOKafkaConsumer, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, Position]:
    """Reads each partition until its next record or its readable end; what has its position is not read further."""
    found: dict[TopicPartition, Position] = {}
    while left := [each for each in partitions if each not in found]:
        records = await consumer.getmany(*left, timeout_ms=LOOK_MS, max_records=1)
        for each in left:
            end, position = readable_end(consumer, each), await consumer.position(each)
            if end is None:
                continue
            if records.get(each):
                found[each] = Position(records[each][0].offset, end)
            elif position >= end:
                found[each] = Position(end, end)
    return found
