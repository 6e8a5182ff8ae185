"""What lies in topics, read beside everybody else.

Ends of partitions are taken from answered fetches: Tansu's list of offsets counts a batch as one record.
"""

from collections.abc import Sequence
from typing import Any

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

from streams.worker.connection import KafkaConnection

FROM_THE_START: dict[str, Any] = {"auto_offset_reset": "earliest", "fetch_max_wait_ms": 20}
"""Without the half second that a broker lets a fetch of an empty topic wait."""


async def read_all(connection: KafkaConnection, topic: str, partitions: int) -> list[ConsumerRecord]:
    """All records of a topic, in the order of each partition."""
    wanted = [TopicPartition(topic, each) for each in range(partitions)]
    found: list[ConsumerRecord] = []
    async with AIOKafkaConsumer(**connection.client_arguments(), **FROM_THE_START) as consumer:
        consumer.assign(wanted)
        while not await _at_the_end(consumer, wanted):
            for records in (await consumer.getmany(timeout_ms=100)).values():
                found += records
    return found


async def lag_of(connection: KafkaConnection, group: str, topics: Sequence[str], partitions: int) -> int:
    """Records of the topics beyond what the group has committed."""
    wanted = [TopicPartition(topic, each) for topic in topics for each in range(partitions)]
    arguments = {**connection.client_arguments(), "group_id": group, "enable_auto_commit": False}
    async with AIOKafkaConsumer(**arguments, **FROM_THE_START) as consumer:
        consumer.assign(wanted)
        committed = {each: await consumer.committed(each) or 0 for each in wanted}
        for each in wanted:
            consumer.seek(each, 0)
        while not await _at_the_end(consumer, wanted):
            await consumer.getmany(timeout_ms=100)
        return sum([await consumer.position(each) - committed[each] for each in wanted])


async def _at_the_end(consumer: AIOKafkaConsumer, partitions: Sequence[TopicPartition]) -> bool:
    for each in partitions:
        end = consumer.highwater(each)
        if end is None or await consumer.position(each) < end:
            return False
    return True
