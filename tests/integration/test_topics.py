"""Topics are created explicitly, once, and what is found is reported."""

import uuid

import pytest

from foretaste.kernel.errors import InvalidInput, Unavailable
from streams.topics import TopicNames
from streams.worker.connection import KafkaConnection
from streams.worker.dead_letter_reader import newest_dead_letters
from streams.worker.producer import KafkaEvents
from streams.worker.topic_admin import TopicFound, check_answers, create_topics
from tests.integration.brokers import free_port


@pytest.fixture
def connection(kafka_address: str) -> KafkaConnection:
    return KafkaConnection(kafka_address)


@pytest.fixture
def names() -> TopicNames:
    return TopicNames(f"{uuid.uuid4().hex}-")


async def test_created_with_their_partitions_and_then_found(connection: KafkaConnection, names: TopicNames) -> None:
    first = await create_topics(connection, names, partitions=3)
    assert sorted(first, key=lambda each: each.name) == [TopicFound(each, 3, True) for each in sorted(names.all())]
    second = await create_topics(connection, names, partitions=3)
    assert sorted(second, key=lambda each: each.name) == [TopicFound(each, 3, False) for each in sorted(names.all())]


async def test_too_few_partitions_are_reported(
    connection: KafkaConnection, names: TopicNames, caplog: pytest.LogCaptureFixture
) -> None:
    await create_topics(connection, names, partitions=1)
    found = await create_topics(connection, names, partitions=2)
    assert {each.partitions for each in found} == {1}
    told = sum("has 1 partitions, fewer than the 2 asked for" in message for message in caplog.messages)
    assert told == len(names.all())


async def test_a_topic_that_the_broker_refuses_is_named(connection: KafkaConnection, kafka_idempotent: bool) -> None:
    if kafka_idempotent:  # Tansu refuses none
        with pytest.raises(InvalidInput, match="topic: cannot be created: InvalidTopicError"):
            await create_topics(connection, TopicNames("not a name/"), partitions=1)


async def test_dead_letters_take_more_than_other_topics(
    connection: KafkaConnection, names: TopicNames, kafka_idempotent: bool
) -> None:
    await create_topics(connection, names, partitions=1)
    events = KafkaEvents(connection, idempotent=kafka_idempotent)
    try:
        await events.send(names.dead_letters, b"key", b"x" * 2_000_000)
        if kafka_idempotent:  # the broker's own limit, which Tansu has not
            with pytest.raises(InvalidInput, match="has too many bytes"):
                await events.send(names.registered, b"key", b"x" * 2_000_000)
    finally:
        await events.close()


async def test_dead_letters_of_no_topic_are_none_and_make_no_topic(
    connection: KafkaConnection, names: TopicNames
) -> None:
    assert await newest_dead_letters(connection, names.dead_letters, 10) == []
    assert all(each.created for each in await create_topics(connection, names, partitions=1))


async def test_no_broker_is_unavailable() -> None:
    nobody = KafkaConnection(f"127.0.0.1:{free_port()}")
    with pytest.raises(Unavailable, match=nobody.bootstrap):
        await create_topics(nobody, TopicNames(), partitions=1)
    with pytest.raises(Unavailable, match=nobody.bootstrap):
        await check_answers(nobody)
    with pytest.raises(Unavailable):
        await newest_dead_letters(nobody, "dead-letters", 10)
