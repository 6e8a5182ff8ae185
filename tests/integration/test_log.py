"""From the topics to the training log on a real broker: every row is read once, whatever is killed when."""

import asyncio
import sys
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from foretaste.kernel.events import Reason, UserBehaved, UserRanked
from serving.metrics import RankingMetrics
from serving.rankings.impressions import BufferedImpressions
from streams.codec import EVENTS
from streams.topics import TopicNames
from streams.worker.connection import KafkaConnection
from streams.worker.dead_letter_reader import newest_dead_letters
from streams.worker.topic_admin import create_topics
from tests.integration.kafka_reading import lag_of
from tests.integration.log_worker import LogDeployment
from tests.log_factory import AT_MS, at, behaved, log_config, ranked
from tests.unit.serving.rankings.test_impressions import served

ROOT = Path(__file__).parents[2]
PARTITIONS = 4
EACH = 2000


class Deployment(LogDeployment):
    """Topics and a log of its own, and what can be seen of them."""

    async def send(self, topic: str, events: list[UserRanked] | list[UserBehaved]) -> None:
        keyed = [(each.user_id.encode(), each.model_dump_json().encode()) for each in events]
        await self.events.send_all(topic, keyed)

    async def rows(self) -> tuple[list[str], list[str]]:
        """Ids of the rankings and items of the behaviours, as read."""
        logged = await self.log.read(0, 2 * AT_MS)
        assert list(logged.skipped) == []
        return [str(each) for each in logged.rankings["ranking_id"].to_pylist()], [
            str(each) for each in logged.behaviours["item_id"].to_pylist()
        ]

    async def is_settled(self) -> bool:
        topics = (self.names.ranked, self.names.behaved)
        return await lag_of(self.connection, self.names.log_group, topics, PARTITIONS) == 0

    def files(self) -> int:
        return len(list((self.folder / "log").rglob("day=*/*.parquet")))

    @asynccontextmanager
    async def process(self) -> AsyncIterator[None]:
        """A worker in a process of its own, killed at the end."""
        arguments = [self.connection.bootstrap, str(self.apache), self.names.prefix, str(self.folder), self.project]
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.integration.log_worker", *arguments, cwd=ROOT
        )
        try:
            yield
            assert process.returncode is None
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()


@pytest.fixture
async def deployment(kafka_address: str, kafka_idempotent: bool, tmp_path: Path) -> AsyncIterator[Deployment]:
    connection, names = KafkaConnection(kafka_address), TopicNames(f"{uuid.uuid4().hex}-")
    await create_topics(connection, names, partitions=PARTITIONS)
    made = Deployment(connection, kafka_idempotent, names, tmp_path, log_config(tmp_path).project)
    yield made
    await made.events.close()


async def until(done: Callable[[], Awaitable[bool]], pause: float = 0.05) -> None:
    async with asyncio.timeout(60):
        while True:
            if await done():
                return
            await asyncio.sleep(pause)


@pytest.mark.one_broker
async def test_killed_in_the_middle_every_row_is_read_once(deployment: Deployment) -> None:
    rankings = [ranked(f"r{n}", at(2 * n / EACH), user_id=f"u{n % 50}") for n in range(EACH)]
    behaviours = [behaved(f"i{n}", each.at + timedelta(seconds=5), each.user_id) for n, each in enumerate(rankings)]
    await deployment.send(deployment.names.ranked, rankings)
    await deployment.send(deployment.names.behaved, behaviours)
    for _ in range(2):
        before = deployment.files()

        async def wrote(before: int = before) -> bool:
            return deployment.files() > before + 3

        async with deployment.process():
            await until(wrote, pause=0.001)
        assert 0 < sum(map(len, await deployment.rows())) < 2 * EACH, "killed at the wrong time to show anything"

    async with deployment.worker():
        await until(deployment.is_settled)
    ids, items = await deployment.rows()
    assert ids == [each.ranking_id for each in rankings]
    assert items == [each.item_id for each in behaviours]
    await deployment.log.compact(at(5).date())
    assert await deployment.rows() == (ids, items)


async def test_what_the_ranking_service_notes_is_logged_and_what_is_bad_is_a_dead_letter(
    deployment: Deployment,
) -> None:
    impressions = BufferedImpressions(
        deployment.events, deployment.names.ranked, EVENTS.encode, RankingMetrics(CollectorRegistry())
    )
    for each in range(100):
        impressions.note(served(f"r{each}", f"u{each % 7}"))
    await impressions.close()
    await deployment.events.send(deployment.names.ranked, b"u1", b'{"ranking_id": "bad"}')
    await deployment.events.send(deployment.names.behaved, b"u1", b"{")
    async with deployment.worker():
        await until(deployment.is_settled)
    ids, items = await deployment.rows()
    assert sorted(ids) == sorted(f"r{each}" for each in range(100))
    assert items == []
    letters = await newest_dead_letters(deployment.connection, deployment.names.dead_letters, 10)
    found = [(each.message.origin.topic, each.reason) for each in letters]
    assert found == [(deployment.names.ranked, Reason.INVALID)]
