"""How many events topics hold and how far groups have come, on real brokers."""

import uuid
from collections.abc import AsyncIterator

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition

from foretaste.kernel.errors import Unavailable
from foretaste.kernel.service_ports import TopicCount
from streams.topics import TopicNames
from streams.worker.connection import KafkaConnection
from streams.worker.event_counts import CountedTopic, KafkaEventCounts
from streams.worker.producer import KafkaEvents
from streams.worker.topic_admin import create_topics
from tests.integration.brokers import free_port


@pytest.fixture
def connection(kafka_address: str) -> KafkaConnection:
    return KafkaConnection(kafka_address)


@pytest.fixture
async def names(connection: KafkaConnection) -> TopicNames:
    made = TopicNames(f"{uuid.uuid4().hex}-")
    await create_topics(connection, made, partitions=2)
    return made


@pytest.fixture
async def events(connection: KafkaConnection, kafka_idempotent: bool) -> AsyncIterator[KafkaEvents]:
    opened = KafkaEvents(connection, idempotent=kafka_idempotent)
    yield opened
    await opened.close()


@pytest.fixture
async def counts(connection: KafkaConnection, names: TopicNames) -> AsyncIterator[KafkaEventCounts]:
    topics = {"registered": CountedTopic(names.registered, names.group), "ranked": CountedTopic(names.ranked, "log")}
    opened = KafkaEventCounts(connection, topics, timeout=10)
    yield opened
    await opened.close()


async def commit(connection: KafkaConnection, topic: str, group: str) -> None:
    """Handle all that `topic` holds."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=connection.bootstrap, group_id=group, enable_auto_commit=False, auto_offset_reset="earliest"
    )
    await consumer.start()
    try:
        partitions = [TopicPartition(topic, place) for place in range(2)]
        consumer.assign(partitions)
        read = 0
        while read < 5:
            read += sum(map(len, (await consumer.getmany(timeout_ms=200)).values()))
        await consumer.commit()
    finally:
        await consumer.stop()


async def test_events_are_counted_and_those_that_wait_told_apart(
    connection: KafkaConnection, names: TopicNames, events: KafkaEvents, counts: KafkaEventCounts
) -> None:
    assert await counts.counts() == {"registered": TopicCount(0, 0), "ranked": TopicCount(0, 0)}
    await events.send_all(names.registered, [(str(number).encode(), b"{}") for number in range(5)])
    assert await counts.counts() == {"registered": TopicCount(5, 5), "ranked": TopicCount(0, 0)}
    await commit(connection, names.registered, names.group)
    await events.send(names.ranked, b"key", b"{}")
    assert await counts.counts() == {"registered": TopicCount(5, 0), "ranked": TopicCount(1, 1)}
    await events.send(names.registered, b"key", b"{}")
    assert (await counts.counts())["registered"] == TopicCount(6, 1)


async def test_a_topic_that_is_missing_and_a_broker_that_is_away_are_unavailable(connection: KafkaConnection) -> None:
    missing = {"registered": CountedTopic(uuid.uuid4().hex, "group")}
    for place in (connection, KafkaConnection(f"127.0.0.1:{free_port()}")):
        counts = KafkaEventCounts(place, missing, timeout=5)
        try:
            with pytest.raises(Unavailable, match="kafka"):
                await counts.counts()
        finally:
            await counts.close()
