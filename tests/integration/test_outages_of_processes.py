"""Processes whose Redis hangs or whose broker is gone: they say so in few lines, answer at once, and end in time."""

import asyncio
import os
import re
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from features.generations.pointer import RedisGenerations
from features.redis.address import RedisAddress
from features.repo_config import apply_features, repo_config
from foretaste.kernel.events import UserRegistered
from streams.topics import TopicNames
from streams.worker.connection import KafkaConnection
from streams.worker.consumer import CONSUMERS, ConsumerName
from streams.worker.producer import KafkaEvents
from streams.worker.topic_admin import create_topics
from tests.integration.brokers import Broker, free_port, tansu
from tests.integration.redis_server import Valkey, valkey
from tests.integration.test_streams import until
from tests.stream_parts import generation

ENDS_WITHIN = 8.0
"""Seconds from SIGTERM on; Docker kills after 10."""
PARTITIONS = 2
OUTAGE = 2.0
"""Seconds; of one of 60 s as many lines are written, and a few for each half minute."""
LINE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z (INFO|WARNING|ERROR) [\w.]+ .+")


@dataclass
class Deployment:
    """A broker and a Redis of its own, with a generation; Triton is away."""

    folder: Path
    broker: Broker
    redis: Valkey
    project: str

    @property
    def names(self) -> TopicNames:
        return TopicNames(f"{self.project}-")

    @property
    def environment(self) -> Mapping[str, str]:
        settings = {
            "HOME": str(self.folder),
            "KAFKA": self.broker.address,
            "KAFKA_IDEMPOTENT": "false",
            "REDIS": self.redis.url,
            "TRITON": f"127.0.0.1:{free_port()}",
            "PROJECT": self.project,
            "TOPIC_PREFIX": self.names.prefix,
            "KAFKA_SESSION_TIMEOUT": "3",
            "RANK_TIMEOUT": "0.25",
            "REDIS_TIMEOUT": "2",
            "TRITON_TIMEOUT": "2",
        }
        return {**os.environ, **{f"FORETASTE_{name}": value for name, value in settings.items()}}

    async def sign_ups_are_begun(self) -> bool:
        """A worker has asked the store where it stands, before which it reads nothing."""
        client = RedisAddress.parse(self.redis.url).client()
        begun: list[bytes] = await client.execute_command("HKEYS", f"{{{self.project}}}:offsets")
        await client.aclose()
        return sum(self.names.registered.encode() in each for each in begun) == PARTITIONS


@pytest.fixture
async def deployment(tmp_path: Path) -> AsyncIterator[Deployment]:
    project = f"test_{uuid.uuid4().hex}"
    with valkey(tmp_path) as redis:
        async with tansu(tmp_path) as broker:
            made = Deployment(tmp_path, broker, redis, project)
            address = RedisAddress.parse(redis.url)
            apply_features(repo_config(address, str(tmp_path / "registry.db"), project, tmp_path / "log"))
            generations = RedisGenerations(address, prefix=project)
            await generations.record(generation(), {"i1": 0.75, "i2": 0.25})
            assert await generations.activate(1, None)
            await generations.close()
            await create_topics(KafkaConnection(broker.address), made.names, partitions=PARTITIONS)
            yield made


@dataclass
class Started:
    """A process, and what it wrote."""

    process: asyncio.subprocess.Process
    log: Path

    @property
    def lines(self) -> list[str]:
        return self.log.read_text().splitlines()

    def wrote(self, part: str) -> bool:
        assert self.process.returncode is None, self.log.read_text()
        return part in self.log.read_text()

    async def ended(self) -> float:
        """Seconds from SIGTERM to the end."""
        began = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        await asyncio.wait_for(self.process.wait(), 30)
        return time.monotonic() - began


@asynccontextmanager
async def started(deployment: Deployment, command: str, **settings: str) -> AsyncIterator[Started]:
    log = deployment.folder / f"{command}.log"
    more = {f"FORETASTE_{name}": value for name, value in settings.items()}
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "foretaste", command),
            env={**deployment.environment, **more},
            stdout=subprocess.DEVNULL,
            stderr=output,
        )
        try:
            yield Started(process, log)
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()


@pytest.mark.parametrize("consumer", CONSUMERS)
async def test_a_worker_whose_redis_hangs_ends_in_time(deployment: Deployment, consumer: ConsumerName) -> None:
    async with started(deployment, "worker", CONSUMER=consumer, REDIS_TIMEOUT="0.3") as worker:
        await until(lambda: worker.wrote("reads"))
        await until(deployment.sign_ups_are_begun)
        with deployment.redis.frozen():
            events = KafkaEvents(KafkaConnection(deployment.broker.address), idempotent=False)
            event = UserRegistered(user_id="ada", attributes={"age": 30})
            await events.send(deployment.names.registered, b"ada", event.model_dump_json().encode())
            await events.close()
            await until(lambda: worker.wrote("sign-up: redis"))
            assert await worker.ended() < ENDS_WITHIN
    assert worker.process.returncode == 0
    assert [line for line in worker.lines if not LINE.fullmatch(line)] == []
    assert any("[" + deployment.names.registered in line and "sign-up: redis" in line for line in worker.lines)


async def test_a_service_whose_redis_hangs_answers_in_its_budget_and_ends_in_time(deployment: Deployment) -> None:
    port = free_port()
    async with (
        started(deployment, "serve", API_PORT=str(port), API_ACCESS_LOG="false") as service,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=30) as client,
    ):
        await until(lambda: answers(client, service))
        assert await seconds_of(client) > 0
        with deployment.redis.frozen():
            taken = [await seconds_of(client) for _ in range(6)]
            assert max(taken) < 1.0, "of each answer, with a margin for a machine at work"
            assert sorted(taken)[3] < 0.1, "what hangs is left alone"
            assert await service.ended() < ENDS_WITHIN


async def test_a_service_whose_broker_is_gone_writes_few_lines(deployment: Deployment) -> None:
    port = free_port()
    async with (
        started(deployment, "serve", API_PORT=str(port), API_ACCESS_LOG="false") as service,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=30) as client,
    ):
        await until(lambda: answers(client, service))
        await deployment.broker.stop()
        until_then = time.monotonic() + OUTAGE
        while time.monotonic() < until_then:
            assert await seconds_of(client) > 0
            await asyncio.sleep(0.05)
        counted = (await client.get("/metrics")).text
        assert await service.ended() < ENDS_WITHIN
    assert 'foretaste_http_answers_total{method="POST",route="/v1/rank",status="200"}' in counted
    assert 0 < len(service.lines) < 25
    assert [line for line in service.lines if "aiokafka [" in line] == [], "its tasks belong to no request"
    assert [line for line in service.lines if not LINE.fullmatch(line)] == []


async def answers(client: httpx.AsyncClient, service: Started) -> bool:
    assert service.process.returncode is None, service.log.read_text()
    try:
        return (await client.get("/readyz")).status_code == 200
    except httpx.TransportError:
        return False


async def seconds_of(client: httpx.AsyncClient) -> float:
    """Of a ranking, which goes by popularity."""
    began = time.monotonic()
    response = await client.post("/v1/rank", json={"user_id": "ada", "items": ["i2", "i1"]})
    taken = time.monotonic() - began
    assert (response.status_code, response.json()["fallback"]) == (200, "popularity"), response.text
    assert [item["item_id"] for item in response.json()["ranked"]] == ["i1", "i2"]
    return taken


async def test_a_worker_tells_by_http_that_it_is_ready_and_refuses_a_port_that_is_taken(deployment: Deployment) -> None:
    port = free_port()
    async with (
        started(deployment, "watch", METRICS_PORT=str(port)) as watch,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=30) as client,
    ):
        await until(lambda: watch.wrote("reads"))
        assert (await client.get("/readyz")).json() == {"readiness": "ready", "reasons": {}}
        metrics = (await client.get("/metrics")).text
        assert {"foretaste_watch_unreadable_total", "foretaste_records_skipped_total"} <= set(
            re.findall(r"[a-z_]+", metrics)
        )
        async with started(deployment, "worker", METRICS_PORT=str(port)) as second:
            assert await asyncio.wait_for(second.process.wait(), 30) == 2
        taken = f"FORETASTE_METRICS_PORT: cannot be listened on: Address already in use (got '127.0.0.1:{port}')"
        assert second.lines == [f"error {taken}"]
