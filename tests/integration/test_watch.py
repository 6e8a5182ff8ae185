"""The watch behind a real broker: a generation that starts to answer what is not finite is taken back."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from foretaste.kernel.ranking import RankingInput
from foretaste.kernel.users import EnrichedUser, VirtualBehaviour
from foretaste.kernel.values import FloatArray
from serving.active import ActiveGeneration
from serving.metrics import RankingMetrics
from serving.rankings.impressions import BufferedImpressions, ImpressionPolicy
from serving.rankings.ranking import Ranking, RankingLimits
from serving.requests import RankRequest, RankResponse
from streams.codec import EVENTS
from streams.topics import TopicNames
from streams.watch.monitor import Monitor, WatchConfig, watch_pipelines
from streams.watch.prometheus import WatchGauges
from streams.worker.connection import KafkaConnection
from streams.worker.consumer import ConsumerConfig
from streams.worker.metrics import Metrics
from streams.worker.producer import KafkaEvents
from streams.worker.runner import StreamWorker
from streams.worker.topic_admin import create_topics
from tests.integration.kafka_reading import lag_of
from tests.serving_parts import SHAPE, FakeTowers, KnownGenerations, Store, generation

PARTITIONS = 4
USERS = [f"u{each}" for each in range(40)]


@dataclass
class BreakingTowers(FakeTowers):
    """The ranking tower of one generation begins to answer nan."""

    broken: int | None = None

    async def score(self, requests: Sequence[RankingInput], generation: int) -> list[FloatArray]:
        scores = await super().score(requests, generation)
        return [np.full_like(each, np.nan) for each in scores] if generation == self.broken else scores


class Deployment:
    """Ranking service, watch and topics of their own on a broker, the other parts in memory."""

    def __init__(self, connection: KafkaConnection, idempotent: bool, folder: Path) -> None:
        self.connection, self.idempotent, self.folder = connection, idempotent, folder
        self.config = WatchConfig(topics=TopicNames(f"{uuid.uuid4().hex}-"), refresh=0.05)
        self.store, self.towers, self.generations = Store(), BreakingTowers(), KnownGenerations()
        self.events = KafkaEvents(connection, idempotent=idempotent)
        self.watch = Monitor(self.store, self.towers, self.generations, self.config)
        self.registry = CollectorRegistry()
        self.registry.register(WatchGauges(self.watch.snapshot))
        clock = asyncio.get_running_loop().time
        metrics = RankingMetrics(CollectorRegistry())
        self.impressions = BufferedImpressions(self.events, self.config.topics.ranked, EVENTS.encode, metrics)
        self.known = ActiveGeneration(self.generations, self.towers, clock, max_age=0.01)
        self.ranking = Ranking(
            self.store,
            self.towers,
            self.generations,
            self.known,
            metrics,
            clock,
            policy=ImpressionPolicy(self.impressions, shown=3),
            limits=RankingLimits(seconds=10.0),
        )

    def worker(self) -> StreamWorker:
        ways = partial(watch_pipelines, self.watch, Metrics(CollectorRegistry()), self.config)
        member = ConsumerConfig(
            folder=self.folder,
            fetch_wait=0.02,
            session_timeout=6.0 if self.idempotent else 2.0,
            heartbeat_interval=0.5,
            commit_interval=0.2,
            grace=2.0,
        )
        return StreamWorker(self.connection, self.config.group, ways, member)

    async def activate(self, number: int, expected: int | None) -> None:
        """Every user has its virtual behaviour before the pointer moves."""
        await self.generations.record(generation(number), {})
        virtual = VirtualBehaviour(number, np.ones(SHAPE, np.float32))
        await self.store.write_enriched([EnrichedUser(user, {"age": 3}, virtual, number) for user in USERS])
        assert await self.generations.activate(number, expected, filled=True)
        await self.moved_on()

    async def moved_on(self) -> None:
        """The ranking service goes over to the active generation."""
        await asyncio.sleep(0.02)  # what it knows of the pointer grows old
        await self.known.get()  # it prepares the next one
        await asyncio.sleep(0)

    async def rank(self, count: int) -> list[RankResponse]:
        requests = [RankRequest(user_id=USERS[each % len(USERS)], items=["i1", "i2"]) for each in range(count)]
        return await self.ranking.rank(requests)

    async def seen(self, number: int, rankings: int) -> None:
        """The watch has counted so many of the active generation `number`."""
        value = self.registry.get_sample_value
        await until(
            lambda: (value("foretaste_watch_generation"), value("foretaste_watch_rankings")) == (number, rankings)
        )

    async def active(self) -> int:
        found = await self.generations.active()
        assert found is not None
        return found.number


async def until(done: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not done():  # noqa: ASYNC110  # what is waited for is not in this process's hands
            await asyncio.sleep(0.02)


@pytest.fixture
async def deployment(kafka_address: str, kafka_idempotent: bool, tmp_path: Path) -> AsyncIterator[Deployment]:
    made = Deployment(KafkaConnection(kafka_address), kafka_idempotent, tmp_path)
    await create_topics(made.connection, made.config.topics, partitions=PARTITIONS)
    yield made
    await made.impressions.close()
    await made.events.close()


async def test_a_generation_that_becomes_not_finite_is_taken_back(deployment: Deployment) -> None:
    value = deployment.registry.get_sample_value
    await deployment.activate(1, None)
    async with deployment.worker():
        assert {each.ranking_generation for each in await deployment.rank(300)} == {1}
        await deployment.seen(1, 300)
        await deployment.activate(2, 1)
        assert {each.zero_shot_generation for each in await deployment.rank(300)} == {2}
        await deployment.seen(2, 300)
        assert value("foretaste_watch_coverage") == 1
        assert await deployment.active() == 2

        deployment.towers.broken = 2
        await deployment.rank(50)
        await until(lambda: value("foretaste_watch_rollbacks_total") == 1)
        assert await deployment.active() == 1
        (move, *_) = await deployment.generations.moves()
        assert (move.number, move.came_from) == (1, 2)
        assert "not finite" in move.reason

        await deployment.moved_on()
        assert {each.ranking_generation for each in await deployment.rank(300)} == {1}
        await deployment.seen(1, 300)
        assert await deployment.active() == 1

    topics = (deployment.config.topics.ranked, deployment.config.topics.behaved)
    assert await lag_of(deployment.connection, deployment.config.group, topics, PARTITIONS) == 0


async def test_a_watch_that_was_away_goes_on_where_it_stopped(deployment: Deployment) -> None:
    await deployment.activate(1, None)
    await deployment.rank(100)
    async with deployment.worker():
        await deployment.seen(1, 100)
    await deployment.activate(2, 1)
    deployment.towers.broken = 2
    await deployment.rank(300)
    async with deployment.worker():
        await until(lambda: deployment.registry.get_sample_value("foretaste_watch_rollbacks_total") == 1)
    assert await deployment.active() == 1
