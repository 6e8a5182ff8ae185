"""An emptied store is filled again, on real servers but for the towers: killed in the middle, in both forms."""

import asyncio
import json
import multiprocessing
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from uuid import uuid4

import pytest
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from prometheus_client import CollectorRegistry
from typer.testing import CliRunner

from features.generations.checkpoint import RedisCheckpoint
from foretaste import compose
from foretaste.cli.main import app
from foretaste.kernel.events import UserBehaved, UserRegistered
from foretaste.kernel.values import Attributes
from foretaste.settings import Settings
from serving.active import ActiveGeneration
from serving.users import StoredUsers
from streams.codec import EVENTS
from streams.parts import SignUpParts
from streams.pipelines import PipelinesConfig, user_pipelines
from streams.profiles.rebuild import Rebuild
from streams.profiles.rebuild_parts import RebuildConfig, RebuildParts, RebuiltUsers
from streams.profiles.stored_profiles import record_stored
from streams.topics import TopicNames
from streams.worker.connection import KafkaConnection
from streams.worker.consumer import ConsumerConfig
from streams.worker.history.kafka_history import KafkaHistory
from streams.worker.metrics import Metrics
from streams.worker.producer import KafkaEvents
from streams.worker.runner import StreamWorker
from streams.worker.topic_admin import create_topics
from tests.data_factory import write_dataset
from tests.integration.kafka_reading import lag_of
from tests.integration.redis_server import Valkey, valkey
from tests.stream_parts import ChosenTowers, generation

USERS = [f"user-{each}" for each in range(200)]
SMALL = RebuildConfig(share=16, profiles=16, behaviours=32)
SPAWN = multiprocessing.get_context("spawn")
PATIENCE = 60.0


class KillingCheckpoint(RedisCheckpoint):
    """Kills its process at the write after so many, before it is durable."""

    left: float = float("inf")

    async def write(self, state: str) -> None:
        self.left -= 1
        if self.left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        await super().write(state)


@dataclass(frozen=True)
class Deployment:
    """Topics and a project of its own, with generation 1 of towers in memory."""

    settings: Settings

    @property
    def names(self) -> TopicNames:
        return TopicNames(self.settings.topic_prefix)

    @property
    def connection(self) -> KafkaConnection:
        return compose.kafka_connection(self.settings)

    @asynccontextmanager
    async def parts(self) -> AsyncIterator[SignUpParts]:
        settings = self.settings
        found = SignUpParts(
            compose.store(settings), ChosenTowers(), compose.generations(settings), compose.events(settings)
        )
        async with AsyncExitStack() as opened:
            for part in (found.store, found.generations, found.events):
                opened.push_async_callback(part.close)
            await found.generations.record(generation(), {})
            await found.generations.activate(1, None)
            yield found

    async def live(self) -> None:
        """Users sign up and then act, and a worker handles all of it."""
        now = datetime.now(UTC)
        sign_ups = [
            UserRegistered(
                user_id=user,
                attributes={"age": 20 + place % 50, "city": None},
                registered_at=now - timedelta(hours=1, milliseconds=place),
            )
            for place, user in enumerate(USERS)
        ]
        sign_ups.append(UserRegistered(user_id=USERS[-1], attributes={"age": 7}, registered_at=now))
        acts = [
            UserBehaved(
                user_id=USERS[each % 90],
                item_id=f"item-{each % 13}",
                at=now - timedelta(seconds=2000 - each),
                event_id=f"event-{each}" if each % 3 == 0 else None,
            )
            for each in range(600)
        ]
        topics = (self.names.registered, self.names.behaved)
        async with self.parts() as parts:
            ways = partial(user_pipelines, parts, Metrics(CollectorRegistry()), PipelinesConfig(self.names))
            member = ConsumerConfig("aiokafka", folder=self.settings.home, fetch_wait=0.02, session_timeout=6.0)

            async def handled() -> bool:
                return await lag_of(self.connection, self.names.group, topics, self.settings.partitions) == 0

            async with StreamWorker(self.connection, self.names.group, ways, member):
                for topic, events in zip(topics, (sign_ups, acts), strict=True):
                    keyed = [(each.user_id.encode(), EVENTS.encode(each)) for each in events]
                    await parts.events.send_all(topic, keyed)
                    await until(handled)

    async def shown(self) -> dict[str, str]:
        """What the service shows of each user."""
        async with self.parts() as parts:
            users = StoredUsers(parts.store, ActiveGeneration(parts.generations, parts.towers, time.monotonic))
            read = [await users.read(user) for user in USERS]
            return {each.user_id: each.model_dump_json() for each in read if each is not None}

    async def rebuild(self, config: RebuildConfig | None = None, writes: float = float("inf")) -> RebuiltUsers:
        settings = self.settings
        checkpoint = KillingCheckpoint(compose.redis_address(settings), "rebuild", prefix=settings.project, timeout=10)
        checkpoint.left = writes
        topics = (self.names.profiles, self.names.erased, self.names.behaved)
        profiles, erasures, behaviours = (KafkaHistory(self.connection, each) for each in topics)
        async with self.parts() as users, AsyncExitStack() as opened:
            for part in (profiles, erasures, behaviours, checkpoint):
                opened.push_async_callback(part.close)
            logged = compose.training_log(settings).read_behaviours
            parts = RebuildParts(users, profiles, erasures, behaviours, logged, checkpoint)
            return await Rebuild(parts, config).run()


async def until(done: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(PATIENCE):
        while True:
            if await done():
                return
            await asyncio.sleep(0.1)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Valkey]:
    """One of its own: it is emptied."""
    with valkey(tmp_path_factory.mktemp("valkey")) as running:
        yield running


@pytest.fixture
def settings(
    kafka_address: str, kafka_idempotent: bool, server: Valkey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Settings:
    """Of this process's commands too."""
    variables = {
        "HOME": tmp_path,
        "KAFKA": kafka_address,
        "KAFKA_IDEMPOTENT": kafka_idempotent,
        "REDIS": server.url,
        "TRITON": "in-process",
        "TOPIC_PREFIX": f"{uuid4().hex}-",
        "PROJECT": f"test_{uuid4().hex}",
        "PARTITIONS": 3,
    }
    for name, value in variables.items():
        monkeypatch.setenv(f"FORETASTE_{name}", str(value))
    found = Settings()
    asyncio.run(compose.create_topics(found))
    compose.apply_features(found)
    return found


def empty(server: Valkey) -> None:
    with server.client() as client:
        client.flushall()


@pytest.mark.parametrize("form", ["auto", "feast"])
async def test_an_emptied_store_shows_every_user_as_before(settings: Settings, server: Valkey, form: str) -> None:
    deployment = Deployment(settings.model_copy(update={"online_store": form}))
    await deployment.live()
    before = await deployment.shown()
    assert len(before) == len(USERS)
    empty(server)
    assert await deployment.shown() == {}
    found = await deployment.rebuild()
    assert (found.behaviours, found.unreadable, found.new + found.changed) == (600, 0, len(USERS))
    assert await deployment.shown() == before
    again = await deployment.rebuild()
    assert await deployment.shown() == before
    assert (again.new, again.changed, again.kept) == (0, 0, len(USERS))


@pytest.mark.one_broker
async def test_killed_in_the_middle_it_goes_on_where_it_was(settings: Settings, server: Valkey) -> None:
    deployment = Deployment(settings)
    await deployment.live()
    before = await deployment.shown()
    empty(server)
    for writes in (3, 15):
        process = SPAWN.Process(target=rebuild_until_killed, args=(deployment, writes))
        process.start()
        await asyncio.to_thread(process.join, PATIENCE)
        assert process.exitcode == -signal.SIGKILL
    assert await deployment.shown() != before
    found = await deployment.rebuild()
    assert await deployment.shown() == before
    assert found.behaviours == 600
    assert found.new + found.kept >= len(USERS)
    assert 0 < found.new < len(USERS) or found.kept == 0, "the batch at a kill was done again, and none before it"


def rebuild_until_killed(deployment: Deployment, writes: int) -> None:
    """In a process of its own, which ends by SIGKILL."""
    asyncio.run(deployment.rebuild(SMALL, writes))


@pytest.mark.one_broker
async def test_users_of_an_older_version_are_in_the_topic_afterwards(settings: Settings, server: Valkey) -> None:
    deployment = Deployment(settings)
    await deployment.live()
    before = await deployment.shown()
    moved = Deployment(settings.model_copy(update={"topic_prefix": f"{uuid4().hex}-"}))  # it has no profiles yet
    await compose.create_topics(moved.settings)
    async with moved.parts() as parts:
        assert await record_stored(parts, moved.names.profiles) == len(USERS)
        await copied(deployment, parts, moved.names.behaved)
    empty(server)
    assert (await moved.rebuild()).new == len(USERS)
    assert await moved.shown() == before


async def copied(deployment: Deployment, to: SignUpParts, topic: str) -> None:
    history = KafkaHistory(deployment.connection, deployment.names.behaved)
    bounds = await history.bounds()
    starts, ends = ({each: bound[place] for each, bound in bounds.items()} for place in (0, 1))
    async for messages, _ in history.read(starts, ends, 1000):
        await to.events.send_all(topic, [(each.key, each.value) for each in messages])
    await history.close()


def command(*arguments: str) -> dict[str, object]:
    """What a command printed as JSON."""
    result = CliRunner().invoke(app, [*arguments, "--json"])
    if result.exception is not None:
        raise result.exception
    found: dict[str, object] = json.loads(result.stdout)
    return found


@pytest.mark.one_broker
def test_imported_twice_is_imported_once_and_a_rebuild_finds_it(
    settings: Settings, server: Valkey, tmp_path: Path
) -> None:
    """By the commands, where no generation is active."""
    folder = str(write_dataset(tmp_path / "data", users=len(USERS), interactions=3000))
    first, once = command("import", folder), asyncio.run(stored(settings))
    assert first["new"] == len(USERS)
    assert first["behaviours"] == sum(len(items) for _, _, items, _ in once) > 0
    second = command("import", folder)
    assert (second["new"], second["changed"], second["kept"]) == (0, 0, len(USERS))
    assert asyncio.run(stored(settings)) == once
    empty(server)
    again = command("rebuild")
    assert (again["new"], again["generation"]) == (len(USERS), None)
    assert [each[:2] for each in asyncio.run(stored(settings))] == [each[:2] for each in once]
    command("import", folder)
    assert asyncio.run(stored(settings)) == once
    assert command("rebuild", "--profiles")["profiles"] == len(USERS)


async def stored(settings: Settings) -> list[tuple[Attributes, int, list[str], list[int]]]:
    """Attributes, when they were registered, and behaviour of each user."""
    store = compose.store(settings)
    read = await store.read(USERS, 1)
    await store.close()
    return [
        (each.attributes or {}, each.attributes_ms, list(each.behaviour.items), list(each.behaviour.times))
        for each in read
    ]


async def test_a_history_is_read_to_the_end_that_it_had(kafka_address: str, kafka_idempotent: bool) -> None:
    connection, names = KafkaConnection(kafka_address), TopicNames(f"{uuid4().hex}-")
    history = KafkaHistory(connection, names.profiles)
    assert await history.bounds() == {}
    await create_topics(connection, names, partitions=3)
    events = KafkaEvents(connection, idempotent=kafka_idempotent)
    await history.close()
    history = KafkaHistory(connection, names.profiles)
    assert await history.bounds() == {0: (0, 0), 1: (0, 0), 2: (0, 0)}
    sent = [(f"u{each}".encode(), None if each % 10 == 0 else f"{each}".encode()) for each in range(500)]
    await events.send_all(names.profiles, sent)
    bounds = await history.bounds()
    assert sum(end for _, end in bounds.values()) == 500
    await events.send_all(names.profiles, [(b"late", b"x")])
    ends = {each: end for each, (_, end) in bounds.items()}
    read, places = [], []
    async for messages, at in history.read(dict.fromkeys(ends, 0), ends, 64):
        assert len(messages) <= 64
        read += [(each.key, each.value) for each in messages]
        places.append(at)
    assert sorted(read, key=str) == sorted(sent, key=str)
    assert places[-1] == ends
    rest = [each async for messages, _ in history.read(places[2], ends, 1000) for each in messages]
    assert len(rest) == 500 - sum(places[2].values())
    await history.close()
    await events.close()


async def test_profiles_are_kept_by_the_broker_for_good(kafka_address: str, kafka_idempotent: bool) -> None:
    connection, names = KafkaConnection(kafka_address), TopicNames(f"{uuid4().hex}-")
    await create_topics(connection, names, partitions=1)
    admin = AIOKafkaAdminClient(**connection.client_arguments())
    await admin.start()
    (answer,) = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, names.profiles)])
    await admin.close()
    (resource,) = answer.resources
    found = {entry[0]: entry[1] for entry in resource[4]}
    assert found["cleanup.policy"] == "compact"
    if kafka_idempotent:  # Tansu tells those alone that it knows
        assert int(found["delete.retention.ms"]) > 300 * 86_400_000
