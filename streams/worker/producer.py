"""The Events port on Kafka."""

import asyncio
import random
from collections.abc import Awaitable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, MessageSizeTooLargeError, RecordListTooLargeError

from foretaste.kernel.errors import InvalidInput, Unavailable
from foretaste.kernel.ports import Headers
from foretaste.kernel.running.logs import about_nothing
from streams.worker.connection import KafkaConnection, kafka_unavailable

_WORD = 4
_SEED, _FACTOR, _POSITIVE = np.uint32(0x9747B28C), np.uint32(0x5BD1E995), np.uint32(0x7FFFFFFF)
"""Of murmur2, as Kafka's clients hash a key."""


class KafkaEvents:
    """One producer, made in the running loop at the first event and kept: acks=all, and idempotent where asked for.

    `timeout` is in seconds; an event not acknowledged by then raises `Unavailable`, and may still become durable.
    `max_bytes` is the largest request: a larger record is refused here, one beyond a topic's own limit by the broker.
    """

    def __init__(
        self,
        connection: KafkaConnection,
        *,
        idempotent: bool = True,
        timeout: float = 10.0,
        max_bytes: int = 8 * 1024 * 1024,
    ) -> None:
        self._connection = connection
        self._idempotent = idempotent
        self._timeout = timeout
        self._max_bytes = max_bytes
        self._producer: AIOKafkaProducer | None = None
        self._starting = asyncio.Lock()

    async def send(self, topic: str, key: bytes | None, value: bytes | None, headers: Headers = ()) -> None:
        producer = await self._started()
        try:
            await (await _enqueue(producer, topic, key, value, headers))
        except KafkaError as error:
            raise await self._translated(error, topic, value) from error

    async def send_all(self, topic: str, events: Sequence[tuple[bytes | None, bytes | None]]) -> None:
        if not events:
            return
        producer = await self._started()
        try:
            acknowledged = await self._enqueue_batches(producer, topic, events)
            await asyncio.gather(*acknowledged)
        except KafkaError as error:
            raise await self._translated(error, topic, max((value or b"" for _, value in events), key=len)) from error

    async def close(self) -> None:
        async with self._starting:
            producer, self._producer = self._producer, None
        if producer is not None:
            await producer.stop()

    async def _enqueue_batches(
        self, producer: AIOKafkaProducer, topic: str, events: Sequence[tuple[bytes | None, bytes | None]]
    ) -> list[Awaitable[object]]:
        """Hand over a batch a partition, or several: without a future and a task for each event."""
        partitions = sorted(await producer.partitions_for(topic))
        open_batches: dict[int, Any] = {}
        acknowledged: list[Awaitable[object]] = []
        places = partitions_of([key or b"" for key, _ in events], len(partitions))
        for (key, value), place in zip(events, places, strict=True):
            if len(key or b"") + len(value or b"") > self._max_bytes:
                raise MessageSizeTooLargeError(topic)
            partition = random.choice(partitions) if key is None else partitions[place]  # noqa: S311  # no secret
            batch = open_batches.get(partition)
            if batch is None:
                batch = open_batches[partition] = producer.create_batch()
            if batch.append(key=key, value=value, timestamp=None) is None:  # it is full
                acknowledged.append(await producer.send_batch(batch, topic, partition=partition))
                batch = open_batches[partition] = producer.create_batch()
                batch.append(key=key, value=value, timestamp=None)
        for partition, batch in open_batches.items():
            acknowledged.append(await producer.send_batch(batch, topic, partition=partition))
        return acknowledged

    async def _started(self) -> AIOKafkaProducer:
        async with self._starting:
            if self._producer is None:
                producer = AIOKafkaProducer(
                    **self._connection.client_arguments(),
                    acks="all",
                    enable_idempotence=self._idempotent,
                    linger_ms=0,
                    max_request_size=self._max_bytes,
                    request_timeout_ms=round(self._timeout * 1000),
                )
                try:
                    await asyncio.create_task(producer.start(), context=about_nothing())
                except KafkaError as error:
                    await producer.stop()
                    raise await kafka_unavailable(self._connection, error) from error
                self._producer = producer
            return self._producer

    async def _translated(self, error: KafkaError, topic: str, value: bytes | None) -> InvalidInput | Unavailable:
        if isinstance(error, MessageSizeTooLargeError | RecordListTooLargeError):
            return InvalidInput(f"event for {topic}", len(value or b""), "has too many bytes for Kafka")
        if not error.retriable:
            await self.close()  # an idempotent producer that met a fatal error never sends again
        return Unavailable("kafka", f"{topic}: {error!r}")


async def _enqueue(
    producer: AIOKafkaProducer, topic: str, key: bytes | None, value: bytes | None, headers: Headers = ()
) -> Awaitable[object]:
    """Hand an event to the producer; what is returned is done once the broker acknowledged it."""
    acknowledged: Awaitable[object]
    if key is None and value is None:  # `send` refuses such an event, and a dead letter may be one
        batch = producer.create_batch()
        batch.append(key=None, value=None, timestamp=None, headers=list(headers))
        partitions = await producer.partitions_for(topic)
        acknowledged = await producer.send_batch(batch, topic, partition=min(partitions))
    else:
        acknowledged = await producer.send(topic, value, key, headers=list(headers))
    return acknowledged


def partitions_of(keys: Sequence[bytes], count: int) -> list[int]:
    """The partition of each key among `count`, as the producer's own partitioner tells it for one that is sent alone.

    That one loops over the bytes in Python, which cost as much as all else about an announcement.
    """
    lengths = np.array([len(key) for key in keys], dtype=np.uint32)
    width = _WORD * (max(map(len, keys), default=0) // _WORD + 1)
    words = np.frombuffer(b"".join([key.ljust(width, b"\0") for key in keys]), "<u4").reshape(len(keys), width // _WORD)
    hashes = _SEED ^ lengths
    for place, column in enumerate(words.T):
        whole = lengths >= _WORD * (place + 1)
        rest = (lengths > _WORD * place) & ~whole
        mixed = column * _FACTOR
        mixed = (mixed ^ mixed >> np.uint32(24)) * _FACTOR
        hashes = np.select([whole, rest], [hashes * _FACTOR ^ mixed, (hashes ^ column) * _FACTOR], hashes)
    hashes = (hashes ^ hashes >> np.uint32(13)) * _FACTOR
    hashes ^= hashes >> np.uint32(15)
    places: npt.NDArray[np.uint32] = (hashes & _POSITIVE) % np.uint32(count)
    return list(map(int, places))
