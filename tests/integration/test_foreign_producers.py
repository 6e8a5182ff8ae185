"""Producers that are not ours: they compress their batches, and write in transactions that they may take back."""

import asyncio
import json
import struct
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic
from aiokafka.record.util import calc_crc32c

from foretaste.kernel.events import UserBehaved, UserRegistered
from streams.worker.connection import KafkaConnection
from streams.worker.consumer import CONSUMERS
from streams.worker.dead_letter_reader import newest_dead_letters
from streams.worker.health.stalling import KafkaPartitions
from streams.worker.lag import KafkaBacklog, unhandled
from streams.worker.reading import METADATA_SECONDS
from tests.integration.kafka_reading import read_all
from tests.integration.test_streams import PARTITIONS, Deployment, until

ONE = 0
"""The partition that everything goes to: offsets are what these tests are about."""


@pytest.fixture(params=CONSUMERS)
def deployment(
    kafka_address: str, kafka_idempotent: bool, tmp_path: Path, request: pytest.FixtureRequest
) -> Deployment:
    return Deployment(KafkaConnection(kafka_address), kafka_idempotent, tmp_path, request.param)


@pytest.fixture
def transactional(deployment: Deployment) -> Deployment:
    if not deployment.idempotent:
        pytest.skip("this broker has no transactions")
    return deployment


def sign_up_of(user: str, **attributes: Any) -> bytes:
    return UserRegistered.model_validate({"user_id": user, "attributes": attributes}).model_dump_json().encode()


@asynccontextmanager
async def producer(deployment: Deployment, **options: Any) -> AsyncIterator[AIOKafkaProducer]:
    made = AIOKafkaProducer(**deployment.connection.client_arguments(), **options)
    await made.start()
    try:
        yield made
    finally:
        await made.stop()


class Transactions:
    """Sign-ups of one partition, each call one transaction."""

    def __init__(self, deployment: Deployment, made: AIOKafkaProducer) -> None:
        self._topic = deployment.names.registered
        self._producer = made

    async def committed(self, *users: str) -> None:
        await self.begun(*users)
        await self.commit()

    async def aborted(self, *users: str) -> None:
        await self.begun(*users)
        await self._producer.abort_transaction()

    async def commit(self) -> None:
        await self._producer.commit_transaction()

    async def begun(self, *users: str) -> None:
        await self._producer.begin_transaction()
        for each in users:
            await self._producer.send_and_wait(self._topic, sign_up_of(each, age=30), each.encode(), partition=ONE)


@asynccontextmanager
async def transactions(deployment: Deployment) -> AsyncIterator[Transactions]:
    async with producer(deployment, transactional_id=deployment.names.prefix) as made:
        yield Transactions(deployment, made)


@asynccontextmanager
async def backlog_of(deployment: Deployment) -> AsyncIterator[KafkaBacklog]:
    backlog = KafkaBacklog(deployment.connection, deployment.names.group, deployment.names.registered)
    try:
        yield backlog
    finally:
        await backlog.close()


@asynccontextmanager
async def looks_at(deployment: Deployment) -> AsyncIterator[Callable[[], Awaitable[int]]]:
    """How many events wait, told by looks before which others found nothing waiting."""
    partitions = KafkaPartitions(deployment.connection, deployment.names.group)
    held = {TopicPartition(deployment.names.registered, each) for each in range(PARTITIONS)}

    async def waiting() -> int:
        return sum(at.end - at.done for at in (await partitions.positions(held)).values())

    try:
        assert [await waiting() for _ in range(3)] == [0, 0, 0]
        assert partitions._at_rest is not None
        yield waiting
    finally:
        await partitions.close()


async def known(deployment: Deployment, users: Sequence[str]) -> list[str]:
    return [each for each in users if (await deployment.world.features(each)).attributes is not None]


async def test_a_compressed_batch_is_read_as_any_other(deployment: Deployment) -> None:
    """Of each codec, a user of its own."""
    codecs = ["gzip", "snappy", "lz4", "zstd"]
    async with deployment, deployment.worker():
        for codec in codecs:
            behaved = UserBehaved.model_validate({"user_id": codec, "item_id": "i1", "at": 1_600_000_000})
            async with producer(deployment, compression_type=codec) as compressing:
                for topic, value in (
                    (deployment.names.registered, sign_up_of(codec, note="x" * 3000)),
                    (deployment.names.behaved, behaved.model_dump_json().encode()),
                    (deployment.names.registered, b'{"x":' + b"x" * 3000),
                ):
                    await compressing.send_and_wait(topic, value, codec.encode())
        await until(lambda: deployment.enriched(codecs))
        await until(lambda: _behaved(deployment, codecs))
        await until(lambda: _letters(deployment, len(codecs)))


async def test_what_comes_behind_looks_that_found_nothing_is_seen_by_the_next(deployment: Deployment) -> None:
    """Of a worker that takes nothing; looks that find nothing waiting ask for the ends alone from then on."""
    async with deployment, looks_at(deployment) as waiting, producer(deployment) as made:
        await made.send_and_wait(deployment.names.registered, sign_up_of("ada"), b"ada")
        assert [await waiting() for _ in range(3)] == [1, 1, 1]
        await made.send_and_wait(deployment.names.registered, sign_up_of("bea"), b"ada")
        assert await waiting() == 2


async def test_an_open_transaction_waits_for_nobody_until_it_is_committed(transactional: Deployment) -> None:
    async with transactional, looks_at(transactional) as waiting, transactions(transactional) as transaction:
        await transaction.begun("ada")
        assert [await waiting() for _ in range(2)] == [0, 0]
        await transaction.commit()
        await until(waiting)  # the broker marks it as over a moment after it has answered


async def _behaved(deployment: Deployment, users: Sequence[str]) -> bool:
    return [len((await deployment.world.features(each)).behaviour) for each in users] == [1] * len(users)


async def _letters(deployment: Deployment, count: int) -> bool:
    return len(await newest_dead_letters(deployment.connection, deployment.names.dead_letters, 10)) == count


async def test_a_header_of_any_bytes_holds_nothing_up(deployment: Deployment) -> None:
    """librdkafka sends what it is given: a name in Latin-1 say, which is no UTF-8."""
    async with deployment, deployment.worker(), producer(deployment) as foreign:
        builder = foreign.create_batch()
        for user in ("before", "odd", "after"):
            builder.append(key=user.encode(), value=sign_up_of(user), timestamp=None, headers=[("NAME", b"x")])
        builder.close()
        raw = bytearray(builder._build())
        raw[raw.index(b"NAME", raw.index(b"odd"))] = 0xE9
        struct.pack_into(">I", raw, 17, calc_crc32c(bytes(raw[21:])))
        builder._buffer = bytes(raw)
        await (await foreign.send_batch(builder, deployment.names.registered, partition=ONE))
        await until(lambda: deployment.enriched(["before", "odd", "after"]))


async def test_a_compacted_topic_is_read_over_its_gaps(transactional: Deployment) -> None:
    deployment, topic = transactional, transactional.names.registered
    compacted = {"cleanup.policy": "compact", "min.cleanable.dirty.ratio": "0.01", "segment.ms": "100"}
    admin = AIOKafkaAdminClient(**deployment.connection.client_arguments())
    await admin.start()
    await admin.create_topics([NewTopic(topic, PARTITIONS, 1, topic_configs=compacted)])
    await admin.close()
    async with deployment, producer(deployment) as foreign, backlog_of(deployment) as backlog:

        async def few_are_left() -> bool:
            """Each look lets a segment end, so that it can be compacted."""
            await foreign.send_and_wait(topic, sign_up_of("last", age=1), b"last", partition=ONE)
            return len(await read_all(deployment.connection, topic, PARTITIONS)) < 20

        for _ in range(30):
            await foreign.send_and_wait(topic, sign_up_of("ada", age=30), b"ada", partition=ONE)
        await until(few_are_left)
        async with deployment.worker():
            await until(lambda: deployment.enriched(["ada", "last"]))
            await until(lambda: _nothing_left(backlog))
        async with deployment.worker():
            await foreign.send_and_wait(topic, sign_up_of("later"), b"later", partition=ONE)
            await until(lambda: deployment.enriched(["later"]))
        assert set(await deployment.announced()) == {"ada", "last", "later"}


async def test_partitions_that_are_added_are_read_within_seconds(transactional: Deployment) -> None:
    deployment, topic = transactional, transactional.names.registered
    async with deployment, deployment.worker():
        await deployment.sign_up(["ada"])
        await until(lambda: deployment.enriched(["ada"]))
        admin = AIOKafkaAdminClient(**deployment.connection.client_arguments())
        await admin.start()
        await admin.create_partitions({topic: NewPartitions(PARTITIONS + 2)})
        await admin.close()
        async with producer(deployment) as later, asyncio.timeout(4 * METADATA_SECONDS):
            while len(await later.partitions_for(topic)) < PARTITIONS + 2:
                await later.client.force_metadata_update()
            await later.send_and_wait(topic, sign_up_of("new"), b"new", partition=PARTITIONS + 1)
            await until(lambda: deployment.enriched(["new"]))


@pytest.mark.one_broker
async def test_producers_of_equal_times_of_clocks_ahead_and_of_retries(deployment: Deployment) -> None:
    """Two sign-ups of one time, apart and together; behaviours 20 hours ahead; a retry under its event id."""
    at = "2026-03-01T00:00:00Z"

    def registered(user: str, country: str) -> tuple[bytes, bytes]:
        event = {"user_id": user, "attributes": {"country": country}, "registered_at": at}
        return user.encode(), json.dumps(event).encode()

    def behaved(item: str, seconds: float, event_id: str | None = None) -> tuple[bytes, bytes]:
        event = {"user_id": "ada", "item_id": item, "at": time.time() + seconds, "event_id": event_id}
        return b"ada", json.dumps(event).encode()

    async def country_of(user: str) -> object:
        return ((await deployment.world.features(user)).attributes or {}).get("country")

    async def both_replaced() -> bool:
        return [await country_of(user) for user in ("apart", "together")] == ["SE", "SE"]

    async def all_behaved() -> bool:
        return "last" in (await deployment.world.features("ada")).behaviour.items

    names = deployment.names
    async with deployment, deployment.worker():
        await deployment.events.send_all(names.registered, [registered("apart", "NO")])
        await until(lambda: country_of("apart"))
        both = [registered("together", "NO"), registered("together", "SE"), registered("apart", "SE")]
        await deployment.events.send_all(names.registered, both)
        await deployment.events.send_all(names.behaved, [behaved(f"ahead {each}", 72_000) for each in range(100)])
        await asyncio.sleep(0.005)  # Kafka tells times in milliseconds
        await deployment.events.send_all(names.behaved, [behaved(f"real {each}", 0) for each in range(30)])
        await deployment.events.send_all(names.behaved, [behaved("retried", 0, "e1"), behaved("retried", 0.001, "e1")])
        await deployment.events.send_all(names.behaved, [behaved("last", 0)])
        await until(all_behaved)
        await until(both_replaced)
        items = list((await deployment.world.features("ada")).behaviour.items)
    assert items[-32:-2] == [f"real {each}" for each in range(30)]
    assert items[-2:] == ["retried", "last"]


@pytest.mark.parametrize(
    "first", [(), ("committed",), ("aborted",), ("committed", "aborted"), ("committed", "aborted", "aborted")]
)
async def test_an_aborted_transaction_was_never_there(transactional: Deployment, first: Sequence[str]) -> None:
    """Markers and aborted records take offsets: what is acknowledged is committed past them, wherever they lie."""
    deployment, committed, aborted = transactional, ["last"], ["gone"]
    async with deployment, transactions(deployment) as writing, backlog_of(deployment) as backlog:
        async with deployment.worker():
            for at, kind in enumerate(first):
                user = f"{kind} {at}"
                if kind == "committed":
                    await writing.committed(user)
                    committed.append(user)
                    await until(partial(deployment.enriched, [user]))
                else:
                    await writing.aborted(user)
                    aborted.append(user)
            await writing.aborted("gone")
            await writing.committed("last")
            await until(lambda: deployment.enriched(committed))
            await until(lambda: _nothing_left(backlog))
        async with deployment.worker():  # nothing was acknowledged that is read again
            await writing.committed("later")
            await until(lambda: deployment.enriched(["later"]))
        assert await known(deployment, aborted) == []
        assert sorted(await deployment.announced()) == sorted([*committed, "later"])


async def _nothing_left(backlog: KafkaBacklog) -> bool:
    return await backlog.remaining() == 0


async def test_the_lag_counts_what_a_worker_can_read(transactional: Deployment) -> None:
    deployment = transactional
    async with deployment, transactions(deployment) as writing, backlog_of(deployment) as backlog:
        assert await backlog.remaining() == 0
        await writing.aborted("gone")
        assert await backlog.remaining() == 0, "nobody will ever read it"
        await writing.committed("ada")
        assert await backlog.remaining() > 0
        async with deployment.worker():
            await until(lambda: deployment.enriched(["ada"]))
            await until(lambda: _nothing_left(backlog))
        assert await unhandled(backlog, within=0) == 0, "what a training waits for"
        await writing.begun("open")
        assert await backlog.remaining() == 0, "nobody can read it yet"
        await writing.commit()
        assert await backlog.remaining() > 0


async def test_an_open_transaction_holds_up_no_look_at_dead_letters(transactional: Deployment) -> None:
    deployment = transactional
    async with deployment, producer(deployment, transactional_id=deployment.names.prefix) as writing:
        await deployment.events.send(deployment.names.dead_letters, b"foreign", b"before")
        await writing.begin_transaction()
        for partition in range(PARTITIONS):
            await writing.send_and_wait(deployment.names.dead_letters, b"open", b"open", partition=partition)
        async with asyncio.timeout(20):
            letters = await newest_dead_letters(deployment.connection, deployment.names.dead_letters, 10)
        assert [each.message.value for each in letters] == [b"before"]
        await writing.abort_transaction()
