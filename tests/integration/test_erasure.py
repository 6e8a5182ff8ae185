"""An erasure on a real broker, a real Redis and a real log: gone within a second, and nothing brings the user back."""

import asyncio
import json
import time
import uuid
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from prometheus_client import CollectorRegistry
from typer.testing import CliRunner

from features.log.delta import DayTable
from features.log.rows import EVENT_TIME
from features.log.upkeep import UpkeepConfig, keep_log
from foretaste import compose
from foretaste.cli.main import app
from foretaste.kernel.events import (
    DeadLetter,
    Message,
    Origin,
    Reason,
    UserBehaved,
    UserErased,
    UserRegistered,
)
from foretaste.kernel.running.erasing import ErasureRecord
from foretaste.kernel.users import UserFeatures
from foretaste.settings import Settings
from foretaste.testing import InMemoryGenerations
from models.log.join import joined
from streams.codec import EVENTS
from streams.parts import SignUpParts
from streams.pipelines import PipelinesConfig, user_pipelines
from streams.topics import TopicNames
from streams.training_log import LogConfig, LogMetrics, log_pipelines
from streams.worker.connection import KafkaConnection
from streams.worker.consumer import ConsumerConfig
from streams.worker.dead_letters import DeadLetters
from streams.worker.metrics import Metrics
from streams.worker.producer import KafkaEvents
from streams.worker.runner import StreamWorker
from tests.integration.kafka_reading import lag_of, read_all
from tests.log_factory import ranked
from tests.stream_parts import ChosenTowers, generation

pytestmark = pytest.mark.one_broker
PATIENCE = 30.0


@dataclass
class Deployment:
    """Workers of the users' ways and of the log, in this process, over one store and one log."""

    settings: Settings
    connection: KafkaConnection
    events: KafkaEvents
    parts: SignUpParts
    names: TopicNames

    @property
    def log(self) -> Any:
        return compose.training_log(self.settings)

    async def send(self, topic: str, event: UserRegistered | UserBehaved | UserErased) -> None:
        await self.events.send(topic, event.user_id.encode(), EVENTS.encode(event))

    async def read(self, user_id: str) -> UserFeatures:
        (found,) = await self.parts.store.read([user_id], 1)
        return found

    async def seconds_until(self, done: Callable[[], Coroutine[Any, Any, bool]]) -> float:
        began = time.monotonic()
        async with asyncio.timeout(PATIENCE):
            while True:
                if await done():
                    return time.monotonic() - began
                await asyncio.sleep(0.02)

    async def handled(self) -> None:
        """All that was sent until now, by the users' ways."""
        await self._read_to_the_end(self.names.group, self.names.registered, self.names.behaved, self.names.erased)

    async def logged(self) -> None:
        """All that was sent until now, by the ways of the log."""
        await self._read_to_the_end(self.names.log_group, self.names.behaved, self.names.ranked, self.names.erased)

    async def _read_to_the_end(self, group: str, *topics: str) -> None:
        async def done() -> bool:
            return await lag_of(self.connection, group, topics, 1) == 0

        await self.seconds_until(done)

    def users_in_files(self) -> set[str]:
        folders = [Path(self.settings.training_log) / kind for kind in ("rankings", "behaviours")]
        files = [path for folder in folders for path in folder.glob("day=*/*.parquet")]
        return {str(user) for path in files for user in pq.read_table(path, partitioning=None)["user_id"].to_pylist()}


@pytest.fixture
async def deployment(
    kafka_address: str,
    kafka_idempotent: bool,  # a fixture
    redis_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[Deployment]:
    names = TopicNames(f"{uuid.uuid4().hex}-")
    variables = {"HOME": str(tmp_path), "KAFKA": kafka_address, "REDIS": redis_url, "TRITON": "in-process"}
    variables |= {"TOPIC_PREFIX": names.prefix, "PROJECT": f"test_{uuid.uuid4().hex}", "PARTITIONS": "1"}
    variables |= {"KAFKA_IDEMPOTENT": str(kafka_idempotent)}
    for name, value in variables.items():
        monkeypatch.setenv(f"FORETASTE_{name}", value)
    settings = Settings()
    connection, events = compose.kafka_connection(settings), KafkaEvents(compose.kafka_connection(settings))
    if not kafka_idempotent:
        events = KafkaEvents(connection, idempotent=False)
    await compose.create_topics(settings)
    compose.apply_features(settings)
    generations = InMemoryGenerations()
    await generations.record(generation(), {"i1": 1.0})
    await generations.activate(1, None)
    store = compose.store(settings)
    parts = SignUpParts(store, ChosenTowers(), generations, events)
    registry = CollectorRegistry()
    metrics = Metrics(registry)
    member = ConsumerConfig(
        kind="aiokafka",
        folder=tmp_path,
        fetch_wait=0.02,
        session_timeout=6.0,
        heartbeat_interval=0.5,
        commit_interval=0.2,
        grace=2.0,
    )
    log_config = LogConfig(topics=names)
    letters = DeadLetters(events, names.dead_letters, metrics)
    ways = partial(user_pipelines, parts, metrics, PipelinesConfig(topics=names))
    log_ways = partial(
        log_pipelines, compose.training_log(settings), store, letters, metrics, LogMetrics(registry), log_config
    )
    async with (
        StreamWorker(connection, names.group, ways, member),
        StreamWorker(connection, names.log_group, log_ways, member),
    ):
        yield Deployment(settings, connection, events, parts, names)
    await store.close()
    await events.close()


@dataclass
class Past:
    """What happened to two users in the minute before `begun` (seconds since the epoch), in every place there is."""

    deployment: Deployment
    begun: float

    def moment(self, seconds: float) -> datetime:
        return datetime.fromtimestamp(self.begun + seconds, UTC)

    async def send(self) -> None:
        """Of anna; harmless to repeat."""
        names = self.deployment.names
        sign_up = UserRegistered(user_id="anna", attributes={"age": 25}, registered_at=self.moment(-60))
        await self.deployment.send(names.registered, sign_up)
        for each in range(5):
            act = UserBehaved(user_id="anna", item_id=f"i{each}", at=self.moment(-50 + each))
            await self.deployment.send(names.behaved, act)

    async def begin(self) -> None:
        deployment, names = self.deployment, self.deployment.names
        await self.send()
        await deployment.send(names.registered, UserRegistered(user_id="ben", attributes={"age": 50}))
        for name, user in (("r1", "anna"), ("r2", "ben")):
            ranking = ranked(name, self.moment(-45), user_id=user)
            await deployment.events.send(names.ranked, user.encode(), EVENTS.encode(ranking))
        origin = Origin(names.behaved, 0, 1, round(1000 * (self.begun - 40)))
        letter = DeadLetter(Message(b"anna", b'{"user_id": "anna", "item', origin), Reason.MALFORMED, "no JSON")
        await DeadLetters(deployment.events, names.dead_letters, Metrics(CollectorRegistry())).keep([letter])
        await deployment.handled()
        await deployment.logged()
        assert len((await deployment.read("anna")).behaviour) == 5
        assert await deployment.log.rows_of("anna") == {"rankings": 1, "behaviours": 5}


async def command(*arguments: str) -> str:
    made = await asyncio.to_thread(CliRunner().invoke, app, arguments)
    assert made.exit_code == 0, made.output
    return made.stdout


async def test_a_user_is_erased_everywhere_and_comes_back_by_a_later_registration_alone(
    deployment: Deployment,
) -> None:
    past = Past(deployment, time.time())
    await past.begin()
    report = json.loads(await command("erase", "anna", "--wait", "--json"))
    assert report["gone"]
    found = {each["place"]: each["found"] for each in report["places"]}
    assert "5 behaviours" in found["online store"]
    assert (found["training log, rankings"], found["training log, behaviours"]) == ("1 rows", "5 rows")
    assert found["dead letters"] == "1 letters"

    await past.send()  # what happened before comes again, and one more act from a page that was still open
    await deployment.send(deployment.names.behaved, UserBehaved(user_id="anna", item_id="late", at=datetime.now(UTC)))
    await deployment.handled()
    assert (await deployment.read("anna")).is_erased
    await check_log(deployment, past)
    assert await command("dead-letters", "list", "--json") == ""

    await deployment.send(deployment.names.registered, UserRegistered(user_id="anna", attributes={"age": 26}))
    await past.send()
    await deployment.handled()
    back = await deployment.read("anna")
    assert (back.attributes, len(back.behaviour)) == ({"age": 26}, 0)
    await check_topics(deployment)


async def check_log(deployment: Deployment, past: Past) -> None:
    """The next refresh does not have the user; after the upkeep no file has."""
    await deployment.logged()
    assert await deployment.log.rows_of("anna") == {"rankings": 0, "behaviours": 0}
    until_ms = round(1000 * (past.begun + 60))
    users = joined(await deployment.log.read(0, until_ms), 1000, until_ms).names.users
    assert "ben" in users
    assert "anna" not in users
    assert "anna" in await asyncio.to_thread(deployment.users_in_files)
    await keep_log(deployment.log, compose.lease(deployment.settings, "log"), UpkeepConfig(90, 3600, 5))
    for kind in ("rankings", "behaviours"):
        await asyncio.to_thread(DayTable(f"{deployment.settings.training_log}/{kind}", EVENT_TIME).vacuum, 0)
    assert "anna" not in await asyncio.to_thread(deployment.users_in_files)


async def check_topics(deployment: Deployment) -> None:
    """A record stays without the person; behind null there is the profile of the later registration alone."""
    (kept,) = await read_all(deployment.connection, deployment.names.erasure_records, 1)
    record = ErasureRecord.model_validate_json(kept.value)
    assert (record.behaviours, record.had_attributes) == (5, True)
    assert (record.erased_at - record.occurred_at).total_seconds() < 1.0
    assert b"anna" not in kept.value
    profiles = await read_all(deployment.connection, deployment.names.profiles, 1)
    ages = [
        json.loads(each.value)["attributes"]["age"] if each.value else None for each in profiles if each.key == b"anna"
    ]
    # what stands comes again after each old sign-up that does, of its own batch maybe
    assert [age for age, _ in groupby(ages)] == [25, None, 26]
