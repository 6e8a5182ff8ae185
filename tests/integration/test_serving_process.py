"""The ranking service as a process of its own: a signal ends it, and what it noted for training is not lost."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import IO

import httpx
import pytest

from features.generations.pointer import RedisGenerations
from features.redis.address import RedisAddress
from features.repo_config import apply_features, repo_config
from foretaste.kernel.events import UserRanked
from serving.access.tokens import Scope, new_token
from streams.topics import TopicNames
from streams.worker.connection import KafkaConnection
from streams.worker.topic_admin import create_topics
from tests.integration.brokers import free_port, tansu
from tests.integration.kafka_reading import read_all
from tests.integration.test_streams import until
from tests.stream_parts import generation

PARTITIONS = 2


@asynccontextmanager
async def service(
    environment: Mapping[str, str], port: int, said: int | IO[bytes] = subprocess.DEVNULL
) -> AsyncIterator[asyncio.subprocess.Process]:
    """`foretaste serve`, once it takes connections."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "foretaste", "serve", env={**os.environ, **environment}, stderr=said
    )
    try:
        async with asyncio.timeout(60), httpx.AsyncClient() as client:
            while True:
                try:
                    await client.get(f"http://127.0.0.1:{port}/healthz")
                    break
                except httpx.TransportError:
                    assert process.returncode is None
                    await asyncio.sleep(0.1)
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_sigterm_loses_nothing_of_what_is_buffered(redis_url: str, tmp_path: Path) -> None:
    """The broker stands still when the signal comes. Triton is away: answers go by popularity, noted as any other."""
    project, port = f"test_{uuid.uuid4().hex}", free_port()
    names = TopicNames(f"{project}-")
    redis = RedisAddress.parse(redis_url)
    apply_features(repo_config(redis, str(tmp_path / "registry.db"), project, tmp_path / "log"))
    generations = RedisGenerations(redis, prefix=project)
    await generations.record(generation(), {"i1": 0.75, "i2": 0.25})
    assert await generations.activate(1, None)
    await generations.close()
    async with tansu(tmp_path) as broker:
        connection = KafkaConnection(broker.address)
        await create_topics(connection, names, partitions=PARTITIONS)
        settings = {
            "HOME": str(tmp_path),
            "KAFKA": broker.address,
            "KAFKA_IDEMPOTENT": "false",
            "REDIS": redis_url,
            "TRITON": f"127.0.0.1:{free_port()}",
            "PROJECT": project,
            "TOPIC_PREFIX": names.prefix,
            "API_PORT": str(port),
        }
        async with (
            service({f"FORETASTE_{name}": value for name, value in settings.items()}, port) as process,
            httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=30) as client,
        ):
            answered = {await ranked(client, "first")}
            await until(lambda: arrived(connection, names, answered))
            broker.process.send_signal(signal.SIGSTOP)
            try:
                answered |= {await ranked(client, f"u{each}") for each in range(5)}
                process.send_signal(signal.SIGTERM)
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(process.wait(), 1.5)
            finally:
                broker.process.send_signal(signal.SIGCONT)
            await asyncio.wait_for(process.wait(), 20)
        assert await impressions(connection, names) == answered


async def serve(**settings: str) -> tuple[int, str]:
    """The exit status of `foretaste serve` and what it said."""
    environment = {f"FORETASTE_{name}": value for name, value in settings.items()}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "foretaste", "serve", env={**os.environ, **environment}, stderr=subprocess.PIPE
    )
    _, said = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode is not None
    return process.returncode, said.decode()


async def test_without_a_token_it_listens_on_loopback_alone(tmp_path: Path) -> None:
    parts = {"KAFKA": "127.0.0.1:1", "REDIS": "redis://127.0.0.1:1", "TRITON": "127.0.0.1:1", "HOME": str(tmp_path)}
    status, said = await serve(**parts, API_HOST="0.0.0.0")  # noqa: S104  # that is the point
    assert status == 2
    assert "FORETASTE_API_HOST: without tokens" in said
    assert "FORETASTE_API_TOKENS" in said
    status, said = await serve(**parts, API_TOKENS="shop rank")
    assert status == 2
    assert "FORETASTE_API_TOKENS, line 1: expected" in said


async def test_with_tokens_it_serves_others_and_logs_no_user(redis_url: str, tmp_path: Path) -> None:
    """Kafka and Triton are away: what needs them says so."""
    token, kept = new_token("shop", Scope)
    file, port = tmp_path / "tokens", free_port()
    file.write_text(kept.line)
    settings = {
        "HOME": str(tmp_path),
        "KAFKA": f"127.0.0.1:{free_port()}",
        "REDIS": redis_url,
        "TRITON": f"127.0.0.1:{free_port()}",
        "PROJECT": f"test_{uuid.uuid4().hex}",
        "API_HOST": "0.0.0.0",  # noqa: S104  # that is the point
        "API_PORT": str(port),
        "API_TOKEN_FILE": str(file),
    }
    apply_features(repo_config(RedisAddress.parse(redis_url), str(tmp_path / "registry.db"), settings["PROJECT"]))
    log = tmp_path / "log.txt"
    environment = {f"FORETASTE_{name}": value for name, value in settings.items()}
    with log.open("wb") as said:
        async with service(environment, port, said), httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
            assert (await client.get("/v1/users/anna")).status_code == 401
            bearer = {"Authorization": f"Bearer {token}", "X-Request-ID": "mine"}
            assert (await client.get("/v1/users/anna", headers=bearer)).status_code == 404
            assert (await client.get("/v1/generations", headers=bearer)).json() == {"generations": []}
            assert (await client.get("/readyz")).json() == {"readiness": "unready"}
            assert (await client.get("/healthz", headers={"host": "any.example"})).status_code == 200
            asked = await client.post(
                "/v1/users", headers=bearer, json={"user_id": "anna", "attributes": {}}, timeout=30
            )
            assert (asked.status_code, asked.json()["detail"]) == (503, "kafka is not available")
            file.write_text(kept.line.replace("shop", "other"))
            await until(lambda: _answers(client, bearer, 401))
    lines = [json.loads(line) for line in log.read_text().splitlines() if '"request_id"' in line]
    assert [line["status"] for line in lines if line["request_id"] == "mine"][:2] == [404, 200]
    assert "anna" not in log.read_text()
    assert token not in log.read_text()


async def _answers(client: httpx.AsyncClient, headers: Mapping[str, str], status: int) -> bool:
    return (await client.get("/v1/generations", headers=headers)).status_code == status


async def ranked(client: httpx.AsyncClient, user: str) -> str:
    response = await client.post("/v1/rank", json={"user_id": user, "items": ["i2", "i1"]})
    assert (response.status_code, response.json()["cause"]) == (200, "ranking_away")
    return str(response.json()["ranking_id"])


async def arrived(connection: KafkaConnection, names: TopicNames, answered: set[str]) -> bool:
    return await impressions(connection, names) == answered


async def impressions(connection: KafkaConnection, names: TopicNames) -> set[str]:
    records = await read_all(connection, names.ranked, PARTITIONS)
    return {UserRanked.model_validate_json(each.value).ranking_id for each in records}
