"""Re-enrichment on a real broker and a real Redis-protocol server, by workers that are killed."""

import asyncio
import multiprocessing
import os
import signal
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from prometheus_client import CollectorRegistry

from features.generations.pointer import RedisGenerations
from features.generations.progress import RedisProgress
from features.online.redis_store import RedisStore
from features.redis.address import RedisAddress
from features.repo_config import apply_features, repo_config
from foretaste.kernel.batching import BatchPolicy
from foretaste.kernel.errors import Unavailable
from foretaste.kernel.events import UserRegistered
from foretaste.kernel.users import BehavedUser, Behaviour, EnrichedUser, UserFeatures, VirtualBehaviour
from streams.parts import SignUpParts
from streams.pipelines import PipelinesConfig, user_pipelines
from streams.reenrichment import Reenrichment, ReenrichmentConfig
from streams.topics import TopicNames
from streams.worker.collector import CollectorConfig
from streams.worker.connection import KafkaConnection
from streams.worker.consumer import ConsumerConfig
from streams.worker.lag import KafkaBacklog
from streams.worker.metrics import Metrics
from streams.worker.producer import KafkaEvents
from streams.worker.runner import StreamWorker, run_worker
from streams.worker.topic_admin import create_topics
from tests.integration import brokers
from tests.integration.brokers import free_port
from tests.stream_parts import ChosenTowers, generation, virtual_of

PARTITIONS = 4
SLOW, FAST = 1000.0, 5000.0
"""Users a second: slow enough to be killed in the middle, fast enough to be waited for."""
PATIENCE = 90.0
OLD, NEW = 1, 2
USERS = [f"user-{each}" for each in range(5000)]
WARMING, WARM = USERS[::7], USERS[::10]
"""Who is in both is warm."""
WHILE_IT_RUNS = [f"new-{each}" for each in range(300)]
SPAWN = multiprocessing.get_context("spawn")


@dataclass(frozen=True)
class Place:
    """Where the parts of one test are, for its own process and for those of its workers."""

    bootstrap: str
    idempotent: bool
    redis: str
    folder: Path
    name: str = field(default_factory=lambda: uuid4().hex)

    @property
    def names(self) -> TopicNames:
        return TopicNames(f"{self.name}-")

    @property
    def connection(self) -> KafkaConnection:
        return KafkaConnection(self.bootstrap)

    async def parts(self, opened: AsyncExitStack) -> SignUpParts:
        """All real but for the towers."""
        address = RedisAddress.parse(self.redis)
        store = RedisStore(repo_config(address, str(self.folder / "registry.db"), self.name), timeout=20)
        generations = RedisGenerations(address, prefix=self.name, timeout=20)
        found = SignUpParts(
            store, ChosenTowers(), generations, KafkaEvents(self.connection, idempotent=self.idempotent)
        )
        for part in (found.store, found.generations, found.events):
            opened.push_async_callback(part.close)
        return found

    async def reenrichment(self, parts: SignUpParts, opened: AsyncExitStack) -> Reenrichment:
        progress = RedisProgress(RedisAddress.parse(self.redis), prefix=self.name, timeout=20)
        backlog = KafkaBacklog(self.connection, self.names.group, self.names.reenrich)
        opened.push_async_callback(progress.close)
        opened.push_async_callback(backlog.close)
        config = ReenrichmentConfig(pages=2, grace=0.5, patience=PATIENCE)
        return Reenrichment(parts, progress, backlog, topic=self.names.reenrich, config=config)


def work(place: Place, rate: float) -> None:
    """A worker in a process of its own, that re-enriches so many users a second."""
    asyncio.run(_work(place, rate))


async def _work(place: Place, rate: float) -> None:
    config = PipelinesConfig(place.names, CollectorConfig(BatchPolicy(size=64, age=0.005)), reenrich_rate=rate)
    member = ConsumerConfig(
        folder=place.folder,
        fetch_wait=0.02,
        session_timeout=6.0 if place.idempotent else 2.0,  # Apache Kafka grants no shorter one
        heartbeat_interval=0.5,
        commit_interval=0.2,
        grace=2.0,
    )
    async with AsyncExitStack() as opened:
        parts = await place.parts(opened)
        ways = partial(user_pipelines, parts, Metrics(CollectorRegistry()), config)
        await run_worker(StreamWorker(place.connection, place.names.group, ways, member))


@pytest.fixture
async def place(kafka_address: str, kafka_idempotent: bool, redis_url: str, tmp_path: Path) -> Place:
    found = Place(kafka_address, kafka_idempotent, redis_url, tmp_path)
    await create_topics(found.connection, found.names, partitions=PARTITIONS)
    apply_features(repo_config(RedisAddress.parse(redis_url), str(tmp_path / "registry.db"), found.name))
    return found


async def prepare(parts: SignUpParts) -> None:
    """Generation 1 is active and all but the warm have its virtual behaviour; generation 2 is on record."""
    for number in (OLD, NEW):
        await parts.generations.record(generation(number), {})
    await parts.generations.activate(OLD, None)
    warm = set(WARM)
    virtual = VirtualBehaviour(OLD, virtual_of({"age": 7}))
    rows = [EnrichedUser(user, {"age": 7}, None if user in warm else virtual, 1_700_000_000_000) for user in USERS]
    for start in range(0, len(rows), 1000):
        await parts.store.write_enriched(rows[start : start + 1000])
    for users, count in (([user for user in WARMING if user not in warm], 1), (WARM, 3)):
        behaviour = Behaviour(["i"] * count, ["acted"] * count, list(range(count)))
        assert await parts.store.write_behaviour([BehavedUser(user, behaviour) for user in users]) == []


async def sign_up_slowly(place: Place, parts: SignUpParts) -> None:
    for user in WHILE_IT_RUNS:
        event = UserRegistered(user_id=user, attributes={"age": 30})
        await parts.events.send(place.names.registered, user.encode(), event.model_dump_json().encode())
        await asyncio.sleep(0.01)


async def held(parts: SignUpParts, users: Sequence[str], number: int) -> list[UserFeatures]:
    return await parts.store.read(users, number)


async def made(parts: SignUpParts, users: Sequence[str], number: int) -> int:
    """How many have current virtual behaviour of this generation."""
    found = await held(parts, users, number)
    return sum(generation(number).virtual_of(each) is not None for each in found)


async def until(count: int, counted: Callable[[], Awaitable[int]]) -> None:
    async with asyncio.timeout(PATIENCE):
        while True:
            if await counted() >= count:
                return
            await asyncio.sleep(0.02)


def killed(process: Any) -> None:
    os.kill(process.pid, signal.SIGKILL)
    process.join(10)


@pytest.mark.one_broker
async def test_a_worker_and_the_coordinator_are_killed_and_nobody_is_missed(place: Place) -> None:
    warm = set(WARM)
    needing = [user for user in USERS if user not in warm]
    async with AsyncExitStack() as opened:
        parts = await place.parts(opened)
        await prepare(parts)
        worker = SPAWN.Process(target=work, args=(place, SLOW))
        worker.start()
        try:
            running = asyncio.create_task((await place.reenrichment(parts, opened)).run(NEW))
            signing_up = asyncio.create_task(sign_up_slowly(place, parts))
            sample = needing[::50]  # a look at all of them may last as long as the re-enrichment
            await until(len(sample) // 4, lambda: made(parts, sample, NEW))
            killed(worker)
            running.cancel()
            assert await made(parts, needing, NEW) < len(needing), "killed in the middle"
            worker = SPAWN.Process(target=work, args=(place, FAST))
            worker.start()
            coverage = await (await place.reenrichment(parts, opened)).run(NEW)
            await signing_up
            await until(len(WHILE_IT_RUNS), lambda: made(parts, WHILE_IT_RUNS, OLD))
            assert coverage.missing == 0
            assert coverage.users >= len(USERS)
            for number in (OLD, NEW):
                assert await made(parts, needing, number) == len(needing)
                assert await made(parts, WHILE_IT_RUNS, number) == len(WHILE_IT_RUNS)
            assert [each.virtual for each in await held(parts, WARM, NEW)] == [None] * len(WARM)
        finally:
            worker.terminate()
            worker.join(20)


async def test_a_backlog_is_what_the_group_has_not_committed(place: Place) -> None:
    topic, group = place.names.reenrich, place.names.group
    backlog = KafkaBacklog(place.connection, group, topic)
    events = KafkaEvents(place.connection, idempotent=place.idempotent)
    try:
        assert await backlog.remaining() == 0
        for total in (40, 80):
            await events.send_all(topic, [(None, f"{each}".encode()) for each in range(40)])
            assert await backlog.remaining() == total
        await commit(place, topic, upto=2)
        assert await backlog.remaining() == 80 - 2 * PARTITIONS
        await events.send(place.names.registered, b"u", b"another topic")
        await commit(place, topic, upto=None)
        assert await backlog.remaining() == 0
    finally:
        await backlog.close()
        await events.close()


async def commit(place: Place, topic: str, upto: int | None) -> None:
    """As a member that handled the first `upto` events of each partition, or all of them."""
    arguments = {**place.connection.client_arguments(), "enable_auto_commit": False, "auto_offset_reset": "earliest"}
    async with AIOKafkaConsumer(**arguments, group_id=place.names.group) as consumer:
        partitions = [TopicPartition(topic, each) for each in range(PARTITIONS)]
        consumer.assign(partitions)
        for each in partitions:
            await consumer.seek_to_beginning(each)
        ends = dict.fromkeys(partitions, upto)
        while upto is None and not await _at_the_end(consumer, partitions):
            await consumer.getmany(timeout_ms=50)
        if upto is None:
            ends = {each: consumer.highwater(each) for each in partitions}
        await consumer.commit(ends)


async def _at_the_end(consumer: AIOKafkaConsumer, partitions: Sequence[TopicPartition]) -> bool:
    ends = [consumer.highwater(each) for each in partitions]
    return None not in ends and [await consumer.position(each) for each in partitions] == ends


async def test_the_first_look_sees_the_whole_backlog(place: Place) -> None:
    events = KafkaEvents(place.connection, idempotent=place.idempotent)
    await events.send_all(place.names.reenrich, [(None, f"{each}".encode()) for each in range(40)])
    await events.close()
    for _ in range(3):
        backlog = KafkaBacklog(place.connection, place.names.group, place.names.reenrich)
        assert await backlog.remaining() == 40
        await backlog.close()


async def test_a_topic_that_nobody_created_is_told(place: Place) -> None:
    backlog = KafkaBacklog(place.connection, place.names.group, f"{place.name}-another")
    with pytest.raises(Unavailable, match=f"{place.name}-another"):
        await backlog.remaining()
    await backlog.close()


async def test_a_broker_that_goes_between_two_looks_is_told_in_time(tmp_path: Path) -> None:
    async with brokers.tansu(tmp_path) as broker:
        connection, names = KafkaConnection(broker.address), TopicNames()
        await create_topics(connection, names, partitions=2)
        backlog = KafkaBacklog(connection, names.group, names.reenrich, timeout=2.0)
        assert await backlog.remaining() == 0
    began = time.monotonic()
    with pytest.raises(Unavailable, match="kafka is not available"):
        await backlog.remaining()
    assert time.monotonic() - began < 10
    await backlog.close()


async def test_a_broker_that_is_away_is_told() -> None:
    backlog = KafkaBacklog(KafkaConnection(f"127.0.0.1:{free_port()}"), "group", "topic")
    with pytest.raises(Unavailable, match="kafka is not available"):
        await backlog.remaining()
    await backlog.close()
