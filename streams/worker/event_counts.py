"""The `EventCounts` port: how many events topics hold, and how far a consumer group has come in each."""

import asyncio
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError, UnknownTopicOrPartitionError

from foretaste.kernel.service_ports import TopicCount
from streams.worker.connection import KafkaConnection, kafka_unavailable
from streams.worker.lag import LOOK_BYTES, LOOK_MS, look
from streams.worker.reading import beside_the_workers, stop


@dataclass(frozen=True, slots=True)
class CountedTopic:
    """A topic, and the consumer group whose unhandled events are counted."""

    topic: str
    group: str


class KafkaEventCounts:
    """One consumer a group, a member of none, opened at the first look. Between two looks it fetches nothing."""

    def __init__(
        self, connection: KafkaConnection, topics: Mapping[str, CountedTopic], *, timeout: float = 2.0
    ) -> None:
        """`topics` by the names under which they are counted. One look takes `timeout` seconds at most."""
        self._connection = connection
        self._timeout = timeout
        self._names = {each.topic: name for name, each in topics.items()}
        self._topics: dict[str, list[str]] = {}
        for each in topics.values():
            self._topics.setdefault(each.group, []).append(each.topic)
        self._started: dict[str, AIOKafkaConsumer] = {}

    async def counts(self) -> dict[str, TopicCount]:
        """Raises `Unavailable` when no broker answers, or a topic is missing."""
        try:
            async with asyncio.timeout(self._timeout):
                found = await asyncio.gather(*map(self._of_group, self._topics))
        except (KafkaError, TimeoutError) as error:
            raise await kafka_unavailable(self._connection, error, f"topics at {self._connection.bootstrap}") from error
        return {self._names[topic]: count for each in found for topic, count in each.items()}

    async def close(self) -> None:
        started, self._started = self._started, {}
        for consumer in started.values():
            await stop(consumer)

    async def _of_group(self, group: str) -> dict[str, TopicCount]:
        consumer = self._started.get(group) or await self._opened(group)
        known = {topic: consumer.partitions_for_topic(topic) for topic in self._topics[group]}
        for topic, found in known.items():
            if not found:  # none can be told while a broker answers that it has no leader for it
                raise UnknownTopicOrPartitionError(topic)
        partitions = [TopicPartition(topic, each) for topic, found in known.items() for each in found]
        consumer.assign(partitions)  # anew each time, which forgets the ends seen last time
        try:
            positions = await look(consumer, partitions)
        finally:
            consumer.pause(*partitions)
        return {
            topic: TopicCount(
                sum(position.end for each, position in positions.items() if each.topic == topic),
                sum(position.end - position.done for each, position in positions.items() if each.topic == topic),
            )
            for topic in self._topics[group]
        }

    async def _opened(self, group: str) -> AIOKafkaConsumer:
        consumer = beside_the_workers(
            self._connection, group, fetch_max_wait_ms=LOOK_MS, max_partition_fetch_bytes=LOOK_BYTES
        )
        async with AsyncExitStack() as unless_ready:
            unless_ready.push_async_callback(stop, consumer)
            await consumer.start()
            missing = set(self._topics[group]) - await consumer.topics()
            if missing:
                raise UnknownTopicOrPartitionError(", ".join(sorted(missing)))
            firsts = [TopicPartition(topic, 0) for topic in self._topics[group]]
            consumer.assign(firsts)
            for first in firsts:
                await consumer.position(first)  # from now on it knows how many partitions there are
            unless_ready.pop_all()
        self._started[group] = consumer
        return consumer
