"""Consumers that look at topics beside the workers: they commit nothing, and read committed records alone."""

import asyncio
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition

from streams.worker.connection import KafkaConnection
from streams.worker.records.tolerant import read_on

READ_COMMITTED = "read_committed"
"""The isolation level of every consumer here: what a transaction took back was never there."""
METADATA_SECONDS = 5.0
"""After which a client asks again which partitions there are: by then, a consumer reads those that were added."""
STOPPING_SECONDS = 3.0
"""How long a worker that stops tries to commit, while aiokafka would try for ever."""


read_on()  # whoever reads Kafka here imports this module


def beside_the_workers(connection: KafkaConnection, group: str | None = None, **options: Any) -> AIOKafkaConsumer:
    """A consumer that starts at the oldest record, or where `group` stands, without being a member of it."""
    return AIOKafkaConsumer(
        **connection.client_arguments(),
        group_id=group,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        isolation_level=READ_COMMITTED,
        **options,
    )


def readable_end(consumer: AIOKafkaConsumer, partition: TopicPartition) -> int | None:
    """The offset behind the last record of an assigned partition that can be read now; None before a first fetch.

    It is that of the last answered fetch, since Tansu's list of offsets counts a batch as one record. A transaction
    that is still open ends it: what lies behind its first record can be read once it is over.
    """
    end: int | None = consumer.highwater(partition)
    stable: int | None = consumer.last_stable_offset(partition)
    if end is None or stable is None or stable < 0:
        return end
    return min(end, stable)


async def stop(consumer: AIOKafkaConsumer) -> None:
    """End a consumer of aiokafka's, whose fetcher may be waiting out a lost connection.

    Cancelling that, aiokafka cancels whoever stops it too: that is no cancellation of ours.
    """
    try:
        await consumer.stop()
    except asyncio.CancelledError:
        await consumer._client.close()  # noqa: SLF001  # what `stop` did not come to
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
