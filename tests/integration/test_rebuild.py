"""An emptied store is filled again, on real servers: by the command, killed in the middle, in both forms."""

import asyncio
import json
import multiprocessing
import os
import shutil
import signal
import time
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pytest
from prometheus_client import CollectorRegistry
from typer.testing import CliRunner

from features.generations.checkpoint import RedisCheckpoint
from foretaste import compose
from foretaste.cli.main import app
from foretaste.kernel.events import UserBehaved, UserRegistered
from foretaste.settings import Settings
from serving.active import ActiveGeneration
from serving.users import StoredUsers
from streams.codec import EVENTS
from streams.profiles.rebuild import Rebuild
from streams.profiles.rebuild_parts import RebuildConfig, RebuildParts
from streams.topics import TopicNames
from streams.worker.connection import KafkaConnection
from streams.worker.history.kafka_history import KafkaHistory
from streams.worker.producer import KafkaEvents
from streams.worker.topic_admin import create_topics
from tests import opened
from tests.data_factory import SEGMENTS, write_dataset
from tests.integration.kafka_reading import lag_of
from tests.integration.redis_server import Valkey, valkey
from tests.towers_factory import artifacts

USERS = [f"user-{each}" for each in range(200)]
SPAWN = multiprocessing.get_context("spawn")
PATIENCE = 60.0


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Valkey]:
    """One of its own: it is emptied."""
    with valkey(tmp_path_factory.mktemp("valkey")) as running:
        yield running


@pytest.fixture
def settings(
    kafka_address: str, kafka_idempotent: bool, server: Valkey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Settings:
    """Of this process's commands too; generation 1 is active."""
    shutil.copytree(artifacts()[0].parent, tmp_path / "generations")
    variables = {
        "HOME": tmp_path,
        "KAFKA": kafka_address,
        "KAFKA_IDEMPOTENT": kafka_idempotent,
        "REDIS": server.url,
        "REDIS_TIMEOUT": 10,
        "TRITON": "in-process",
        "TOPIC_PREFIX": f"{uuid4().hex}-",
        "PROJECT": f"test_{uuid4().hex}",
        "PARTITIONS": 3,
        "CONSUMER": "aiokafka",
    }
    for name, value in variables.items():
        monkeypatch.setenv(f"FORETASTE_{name}", str(value))
    found = Settings()
    asyncio.run(compose.create_topics(found))
    compose.apply_features(found)
    asyncio.run(opened.publish(found, 1))
    return found


def command(*arguments: str) -> dict[str, object]:
    """What a command printed as JSON."""
    result = CliRunner().invoke(app, [*arguments, "--json"])
    if result.exception is not None:
        raise result.exception
    found: dict[str, object] = json.loads(result.stdout)
    return found


async def live(settings: Settings) -> None:
    """Users sign up and act, and a worker handles all of it."""
    names, now = TopicNames(settings.topic_prefix), datetime.now(UTC)
    sign_ups = [
        UserRegistered(
            user_id=user,
            attributes={"segment": SEGMENTS[place % 4], "age": 20 + place % 50, "city": None},
            registered_at=now - timedelta(hours=1, milliseconds=place),
        )
        for place, user in enumerate(USERS)
    ]
    sign_ups.append(UserRegistered(user_id=USERS[7], attributes={"segment": "cook"}, registered_at=now))
    acts = [
        UserBehaved(
            user_id=USERS[each % 90],
            item_id=f"item-{each % 13}",
            at=now - timedelta(seconds=2000 - each),
            event_id=f"event-{each}" if each % 3 == 0 else None,
        )
        for each in range(600)
    ]
    async with compose.parts(settings) as parts:
        for topic, events in ((names.registered, sign_ups), (names.behaved, acts)):
            await parts.events.send_all(topic, [(each.user_id.encode(), EVENTS.encode(each)) for each in events])
        async with compose.worker(settings, parts, CollectorRegistry()):
            connection, topics = compose.kafka_connection(settings), (names.registered, names.behaved)

            async def handled() -> bool:
                return await lag_of(connection, names.group, topics, settings.partitions) == 0

            await until(handled)


async def until(done: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(PATIENCE):
        while True:
            if await done():
                return
            await asyncio.sleep(0.1)


async def shown(settings: Settings) -> dict[str, str]:
    """What the service shows of each user."""
    async with compose.parts(settings) as parts:
        users = StoredUsers(parts.store, ActiveGeneration(parts.generations, parts.towers, time.monotonic))
        read = [await users.read(user) for user in USERS]
        return {each.user_id: each.model_dump_json() for each in read if each is not None}


def empty(server: Valkey) -> None:
    with server.client() as client:
        client.flushall()


@pytest.mark.parametrize("form", ["auto", "feast"])
def test_an_emptied_store_shows_every_user_as_before(
    settings: Settings, server: Valkey, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORETASTE_ONLINE_STORE", form)
    settings = Settings()
    asyncio.run(live(settings))
    before = asyncio.run(shown(settings))
    assert len(before) == len(USERS)
    empty(server)
    assert asyncio.run(shown(settings)) == {}
    found = command("rebuild")
    assert (found["generation"], found["behaviours"], found["unreadable"]) == (1, 600, 0)
    assert asyncio.run(shown(settings)) == before
    again = command("rebuild")
    assert asyncio.run(shown(settings)) == before
    assert (again["generation"], again["new"], again["kept"]) == (None, 0, len(USERS))


@pytest.mark.one_broker
def test_killed_in_the_middle_it_goes_on_where_it_was(settings: Settings, server: Valkey) -> None:
    asyncio.run(live(settings))
    before = asyncio.run(shown(settings))
    empty(server)
    asyncio.run(opened.publish(settings, 1))
    for writes in (3, 6, 20):
        process = SPAWN.Process(target=rebuild_until_killed, args=(settings, writes))
        process.start()
        process.join(PATIENCE)
        assert process.exitcode == -signal.SIGKILL
    assert asyncio.run(shown(settings)) != before
    found = command("rebuild")
    assert asyncio.run(shown(settings)) == before
    assert found["behaviours"] == 600


def rebuild_until_killed(settings: Settings, writes: int) -> None:
    """In a process of its own, which ends by SIGKILL at the checkpoint of that number, before it is durable."""
    asyncio.run(_rebuild_until_killed(settings, writes))


class KillingCheckpoint(RedisCheckpoint):
    """Kills its process."""

    left = 0

    async def write(self, state: str) -> None:
        self.left -= 1
        if self.left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        await super().write(state)


async def _rebuild_until_killed(settings: Settings, writes: int) -> None:
    KillingCheckpoint.left = writes
    small = RebuildConfig(share=16, profiles=16, behaviours=32)
    names, connection = TopicNames(settings.topic_prefix), compose.kafka_connection(settings)
    checkpoint = KillingCheckpoint(compose.redis_address(settings), "rebuild", prefix=settings.project, timeout=10)
    profiles, behaviours = KafkaHistory(connection, names.profiles), KafkaHistory(connection, names.behaved)
    async with compose.parts(settings) as users:
        logged = compose.training_log(settings).read_behaviours
        await Rebuild(RebuildParts(users, profiles, behaviours, logged, checkpoint), small).run()


@pytest.mark.one_broker
def test_users_of_an_older_version_are_in_the_topic_afterwards(
    settings: Settings, server: Valkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    asyncio.run(live(settings))
    before = asyncio.run(shown(settings))
    names = TopicNames(settings.topic_prefix)
    moved = settings.model_copy(update={"topic_prefix": f"{uuid4().hex}-"})  # a broker that has no profiles yet
    asyncio.run(compose.create_topics(moved))
    monkeypatch.setenv("FORETASTE_TOPIC_PREFIX", moved.topic_prefix)
    assert command("rebuild", "--profiles")["profiles"] == len(USERS)
    asyncio.run(copied(settings, names.behaved, TopicNames(moved.topic_prefix).behaved))
    empty(server)
    assert command("rebuild")["new"] == len(USERS)
    assert asyncio.run(shown(settings)) == before


async def copied(settings: Settings, source: str, target: str) -> None:
    history, events = KafkaHistory(compose.kafka_connection(settings), source), compose.events(settings)
    bounds = await history.bounds()
    starts = {each: start for each, (start, _) in bounds.items()}
    async for messages, _ in history.read(starts, {each: end for each, (_, end) in bounds.items()}, 1000):
        await events.send_all(target, [(each.key, each.value) for each in messages])
    await events.close()
    await history.close()


@pytest.mark.one_broker
def test_imported_twice_is_imported_once_and_a_rebuild_finds_it(
    settings: Settings, server: Valkey, tmp_path: Path
) -> None:
    folder = str(write_dataset(tmp_path / "data", users=len(USERS), interactions=3000))
    first = command("import", folder)
    once = asyncio.run(shown(settings))
    assert (first["new"], len(once)) == (len(USERS), len(USERS))
    assert first["behaviours"] == sum(len(json.loads(each)["behaviour"]) for each in once.values())
    assert all(json.loads(each)["virtual_behaviour"] or json.loads(each)["stage"] == "warm" for each in once.values())
    second = command("import", folder)
    assert asyncio.run(shown(settings)) == once
    assert (second["new"], second["changed"], second["kept"]) == (0, 0, len(USERS))
    empty(server)
    assert command("rebuild")["new"] == len(USERS)
    attributes = {user: json.loads(text)["attributes"] for user, text in once.items()}
    again = {user: json.loads(text)["attributes"] for user, text in asyncio.run(shown(settings)).items()}
    assert again == attributes
    command("import", folder)
    behaviours = {user: json.loads(text)["behaviour"] for user, text in once.items()}
    again = {user: json.loads(text)["behaviour"] for user, text in asyncio.run(shown(settings)).items()}
    assert again == behaviours


async def test_a_history_is_read_to_the_end_that_it_had(kafka_address: str, kafka_idempotent: bool) -> None:
    connection, names = KafkaConnection(kafka_address), TopicNames(f"{uuid4().hex}-")
    history = KafkaHistory(connection, names.profiles)
    assert await history.bounds() == {}
    await create_topics(connection, names, partitions=3)
    events = KafkaEvents(connection, idempotent=kafka_idempotent)
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
    """Tansu tells no configuration of a topic."""
    from aiokafka.admin import AIOKafkaAdminClient  # noqa: PLC0415
    from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType  # noqa: PLC0415

    connection, names = KafkaConnection(kafka_address), TopicNames(f"{uuid4().hex}-")
    await create_topics(connection, names, partitions=1)
    if not kafka_idempotent:
        return
    admin = AIOKafkaAdminClient(**connection.client_arguments())
    await admin.start()
    (answer,) = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, names.profiles)])
    await admin.close()
    (resource,) = answer.resources
    found = {entry[0]: entry[1] for entry in resource[4]}
    assert found["cleanup.policy"] == "compact"
    assert int(found["delete.retention.ms"]) > 300 * 86_400_000
