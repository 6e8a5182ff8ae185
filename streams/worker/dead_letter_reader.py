"""Reading dead letters back from Kafka, to look at them."""

import asyncio
from collections.abc import Sequence

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from foretaste.kernel.errors import InvalidInput, Unavailable
from foretaste.kernel.events import DeadLetter, Message, Origin, Reason
from streams.worker.connection import KafkaConnection
from streams.worker.dead_letters import read_dead_letter
from streams.worker.reading import beside_the_workers, readable_end

READING_SECONDS = 60.0


async def newest_dead_letters(connection: KafkaConnection, topic: str, limit: int) -> list[DeadLetter]:
    """The newest dead letters of `topic`, at most `limit` of each partition, oldest first; none if it does not exist.

    A record that no worker put there is among them as a `Reason.FOREIGN`, so that it hides no other. Reads beside the
    workers: no group, nothing committed. Raises `Unavailable` when no broker answers in time.
    """
    try:
        async with asyncio.timeout(READING_SECONDS):  # aiokafka waits for ever for a partition without a leader
            partitions = await _partitions(connection, topic)
            return await _read(connection, partitions, limit) if partitions else []
    except (KafkaError, TimeoutError) as error:
        raise Unavailable("kafka", f"{topic}: {error!r}") from error


def letter_of(record: ConsumerRecord) -> DeadLetter:
    """The dead letter that the record carries; where it is none, the record itself as one, with its own place."""
    try:
        return read_dead_letter(record)
    except InvalidInput as error:
        origin = Origin(record.topic, record.partition, record.offset, record.timestamp)
        return DeadLetter(Message(record.key, record.value, origin), Reason.FOREIGN, str(error))


async def _partitions(connection: KafkaConnection, topic: str) -> list[TopicPartition]:
    admin = AIOKafkaAdminClient(**connection.client_arguments())
    try:
        await admin.start()
        all_topics = await admin.describe_topics()  # asking for one topic would create it
    finally:
        await admin.close()
    return [
        TopicPartition(topic, partition["partition"])
        for each in all_topics
        if each["topic"] == topic
        for partition in each["partitions"]
    ]


async def _read(connection: KafkaConnection, partitions: Sequence[TopicPartition], limit: int) -> list[DeadLetter]:
    records: list[ConsumerRecord] = []
    consumer = beside_the_workers(connection)
    try:
        await consumer.start()
        consumer.assign(partitions)
        ends = await _ends(consumer, partitions)
        begins = await consumer.beginning_offsets(partitions)
        for each, end in ends.items():
            consumer.seek(each, max(begins[each], end - limit))
        while any([await consumer.position(each) < end for each, end in ends.items()]):
            for partition, found in (await consumer.getmany(timeout_ms=500)).items():
                records += [record for record in found if record.offset < ends[partition]]
    finally:
        await consumer.stop()
    return [letter_of(record) for record in sorted(records, key=lambda record: record.timestamp)]


async def _ends(consumer: AIOKafkaConsumer, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
    """The readable end of each partition."""
    ends: dict[TopicPartition, int] = {}
    while len(ends) < len(partitions):
        await consumer.getmany(timeout_ms=100)
        ends = {each: end for each in partitions if (end := readable_end(consumer, each)) is not None}
    return ends
