"""Reading dead letters back from Kafka, to look at them."""

import asyncio
import json
import re
from collections.abc import Mapping, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from foretaste.kernel.errors import InvalidInput
from foretaste.kernel.events import DeadLetter, Message, Origin, Reason, UserErased, event_time_ms
from streams.decoding import decode_erased
from streams.rules import to_ms
from streams.worker.connection import KafkaConnection, kafka_unavailable
from streams.worker.dead_letters import VALUE_BYTES, read_dead_letter
from streams.worker.reading import beside_the_workers, readable_end, stop

READING_SECONDS = 60.0
EMPTY_MILLISECONDS = 20
"""After which a broker answers that there is nothing: a topic of erasures or of replays is mostly empty."""
_USER_ID = re.compile(rb'"user_id"\s*:\s*("(?:[^"\\]|\\.)*")')
REPLAYED = "foretaste-replayed"
"""Of a record of the topic of replays, without key and value: `partition@offset` of the letter that was replayed."""


@dataclass(frozen=True, slots=True)
class KeptLetter:
    """A dead letter and where it lies."""

    letter: DeadLetter
    partition: int
    offset: int
    """In the topic of dead letters."""
    replayed: bool
    whole: bool = True
    """Its value is here; it was too large for this topic otherwise."""

    @property
    def place(self) -> str:
        """How a person names it."""
        return f"{self.partition}@{self.offset}"


async def newest_dead_letters(connection: KafkaConnection, topic: str, limit: int) -> list[DeadLetter]:
    """The letters of `kept_letters`, without their places and whatever became of them."""
    return [letter_of(record) for record in await _records(connection, topic, limit)]


async def kept_letters(
    connection: KafkaConnection,
    topic: str,
    replays: str,
    limit: int | None = None,
    erased: Mapping[str, int] | None = None,
) -> list[KeptLetter]:
    """The dead letters of `topic`, the newest `limit` of each partition or all, oldest first.

    `replays` is the topic that says which were sent again. None if the topic does not exist. A record that no worker
    put there is among them as a `Reason.FOREIGN`, so that it hides no other. Letters of users who were `erased` (see
    `erased_users`) are left out. Reads beside the workers: no group, nothing committed. Raises `Unavailable` when no
    broker answers in time.
    """
    records = await _records(connection, topic, limit)
    notes = await _records(connection, replays, None) if records else []
    replayed = {place for note in notes if (place := replayed_place(note)) is not None}
    letters = [_kept(record, replayed) for record in records]
    return [each for each in letters if not erased or not _is_of(each.letter.message, erased)]


async def erased_users(connection: KafkaConnection, topic: str) -> dict[str, int]:
    """When each user was erased (epoch milliseconds), as far back as the topic of erasures tells; the latest counts.

    Raises `Unavailable` when no broker answers in time.
    """
    erased: dict[str, int] = {}
    for record in await _records(connection, topic, None):
        message = Message(
            record.key, record.value, Origin(record.topic, record.partition, record.offset, record.timestamp)
        )
        event = decode_erased(message, now_ms=record.timestamp, max_bytes=len(record.value or b""))
        if isinstance(event, UserErased):
            claimed_ms = None if event.occurred_at is None else to_ms(event.occurred_at)
            at_ms = event_time_ms(claimed_ms, message.origin, record.timestamp)
            erased[event.user_id] = max(at_ms, erased.get(event.user_id, 0))
    return erased


def users_of(message: Message) -> set[str]:
    """Whose event it may be: the `user_id` of its value, which need not be whole JSON, and its key."""
    named = set() if message.key is None else {message.key.decode(errors="replace")}
    for found in _USER_ID.findall(message.value or b""):
        with suppress(ValueError):
            named.add(str(json.loads(found)))
    return named


async def check_topic(connection: KafkaConnection, topic: str) -> None:
    """Raises `InvalidInput` where the topic does not exist: a broker may make one that is written to, with settings of
    its own. Raises `Unavailable` when no broker answers in time."""
    try:
        async with asyncio.timeout(READING_SECONDS):
            found = await _partitions(connection, topic)
    except (KafkaError, TimeoutError) as error:
        raise await kafka_unavailable(connection, error, topic) from error
    if not found:
        raise InvalidInput("topic", topic, "does not exist: run `foretaste setup`")


def replayed_place(record: ConsumerRecord) -> str | None:
    """The place of the letter that the record says was replayed; None for what is no such note."""
    if record.key is not None or record.value is not None:
        return None
    place = dict(record.headers).get(REPLAYED)
    return None if place is None else place.decode(errors="replace")


def letter_of(record: ConsumerRecord) -> DeadLetter:
    """The dead letter that the record carries; where it is none, the record itself as one, with its own place."""
    try:
        return read_dead_letter(record)
    except InvalidInput as error:
        origin = Origin(record.topic, record.partition, record.offset, record.timestamp)
        return DeadLetter(Message(record.key, record.value, origin), Reason.FOREIGN, str(error))


def _kept(record: ConsumerRecord, replayed: Set[str]) -> KeptLetter:
    place = f"{record.partition}@{record.offset}"
    whole = VALUE_BYTES not in dict(record.headers)
    return KeptLetter(letter_of(record), record.partition, record.offset, place in replayed, whole)


async def _records(connection: KafkaConnection, topic: str, limit: int | None) -> list[ConsumerRecord]:
    """The newest `limit` records of each partition of a topic or all, oldest first; none of one that does not exist."""
    try:
        async with asyncio.timeout(READING_SECONDS):  # aiokafka waits for ever for a partition without a leader
            partitions = await _partitions(connection, topic)
            return await _read(connection, partitions, limit) if partitions else []
    except (KafkaError, TimeoutError) as error:
        raise await kafka_unavailable(connection, error, topic) from error


def _is_of(message: Message, erased: Mapping[str, int]) -> bool:
    """Whether it is an event of a user from before the erasure."""
    return any(message.origin.timestamp_ms <= erased.get(user_id, -1) for user_id in users_of(message))


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


async def _read(
    connection: KafkaConnection, partitions: Sequence[TopicPartition], limit: int | None
) -> list[ConsumerRecord]:
    records: list[ConsumerRecord] = []
    consumer = beside_the_workers(connection, fetch_max_wait_ms=EMPTY_MILLISECONDS)
    try:
        await consumer.start()
        consumer.assign(partitions)
        ends = await _ends(consumer, partitions)
        begins = await consumer.beginning_offsets(partitions)
        for each, end in ends.items():
            consumer.seek(each, begins[each] if limit is None else max(begins[each], end - limit))
        while any([await consumer.position(each) < end for each, end in ends.items()]):
            for partition, found in (await consumer.getmany(timeout_ms=500)).items():
                records += [record for record in found if record.offset < ends[partition]]
    finally:
        await stop(consumer)
    return sorted(records, key=lambda record: record.timestamp)


async def _ends(consumer: AIOKafkaConsumer, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
    """The readable end of each partition."""
    ends: dict[TopicPartition, int] = {}
    while len(ends) < len(partitions):
        await consumer.getmany(timeout_ms=100)
        ends = {each: end for each in partitions if (end := readable_end(consumer, each)) is not None}
    return ends
