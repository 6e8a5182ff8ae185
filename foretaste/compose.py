"""The only composition root: settings in, wired parts out. Everything else takes what it needs as arguments.

Imports stand inside the functions, so that a command loads what it runs and nothing else: a worker needs no torch,
training no Faust.
"""

import ssl
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

from foretaste.errors import Unavailable
from foretaste.ports import Events, Generations, OnlineStore, Towers
from foretaste.settings import Settings
from foretaste.stack.machine import IN_PROCESS
from foretaste.stack.record import running_stack
from foretaste.stack.stack import EMBEDDED_KAFKA

if TYPE_CHECKING:
    from fastapi import FastAPI
    from feast import RepoConfig
    from prometheus_client import CollectorRegistry

    from models.in_process import InProcessTowers
    from models.triton import TritonTowers
    from serving.active import ActiveGeneration
    from serving.ranking import Ranking
    from streams.connection import KafkaConnection
    from streams.parts import Parts
    from streams.worker import StreamWorker


def resolve(settings: Settings) -> Settings:
    """Each address that is not set is taken from the stack that runs in `settings.home`.

    Raises `Unavailable` naming the variable when a part has no address either way.
    """
    record = running_stack(settings.home)
    running = record.addresses if record is not None else {}
    found = {part: getattr(settings, part) or running.get(part) for part in ("kafka", "redis", "triton")}
    for part, address in found.items():
        if address is None:
            hint = f"no stack runs in {settings.home}: start one with `foretaste up`, or set FORETASTE_{part.upper()}"
            raise Unavailable(part, hint)
    return settings.model_copy(update={**found, **(EMBEDDED_KAFKA if settings.kafka is None else {})})


def kafka_connection(settings: Settings) -> "KafkaConnection":
    """How every Kafka client of this process connects."""
    from streams.connection import KafkaConnection

    password = settings.kafka_password
    return KafkaConnection(
        bootstrap=_address("kafka", settings.kafka),
        security_protocol=settings.kafka_security_protocol,
        sasl_mechanism=settings.kafka_sasl_mechanism,
        username=settings.kafka_username,
        password=password.get_secret_value() if password else None,
        ssl_context=_ssl_context(settings),
    )


def events(settings: Settings) -> Events:
    from streams.kafka import KafkaEvents

    return KafkaEvents(kafka_connection(settings), idempotent=settings.kafka_idempotent)


def feast_config(settings: Settings) -> "RepoConfig":
    from features.redis_address import RedisAddress
    from features.repo_config import repo_config

    address = RedisAddress.parse(_address("redis", settings.redis), cluster=settings.redis_cluster)
    return repo_config(address, settings.registry or str(settings.home / "registry.db"), settings.project)


def store(settings: Settings) -> OnlineStore:
    from features.online import FeastOnlineStore

    return FeastOnlineStore(feast_config(settings), timeout=settings.redis_timeout)


def generations(settings: Settings) -> Generations:
    from features.generations import RedisGenerations
    from features.redis_address import RedisAddress

    address = RedisAddress.parse(_address("redis", settings.redis), cluster=settings.redis_cluster)
    return RedisGenerations(address, prefix=settings.project, timeout=settings.redis_timeout)


def towers(settings: Settings) -> "TritonTowers | InProcessTowers":
    address = _address("triton", settings.triton)
    if address == IN_PROCESS:
        from models.in_process import InProcessTowers

        return InProcessTowers(settings.repository)
    from models.triton import TritonTowers

    return TritonTowers(address, timeout=settings.triton_timeout, ssl=settings.triton_ssl)


@asynccontextmanager
async def parts(settings: Settings) -> AsyncIterator["Parts"]:
    """All four ports, wired and closed again."""
    from streams.parts import Parts

    async with AsyncExitStack() as stack:
        opened: list[OnlineStore | Towers | Generations | Events] = []
        found = Parts(store(settings), towers(settings), generations(settings), events(settings))
        opened += [found.store, found.towers, found.generations, found.events]
        for part in opened:
            stack.push_async_callback(part.close)
        yield found


def ranking(settings: Settings, found: "Parts", registry: "CollectorRegistry") -> tuple["Ranking", "ActiveGeneration"]:
    """The ranking way, and what it knows of the active generation."""
    from serving.active import ActiveGeneration
    from serving.metrics import RankingMetrics
    from serving.ranking import Ranking

    active = ActiveGeneration(found.generations, time.monotonic)
    way = Ranking(
        found.store,
        found.towers,
        found.generations,
        active,
        RankingMetrics(registry),
        time.monotonic,
        max_candidates=settings.max_candidates,
    )
    return way, active


def api(settings: Settings, found: "Parts", registry: "CollectorRegistry") -> "FastAPI":
    """The ranking service; who opened the parts closes them."""
    from serving.api import build_api
    from serving.health import Health, examine

    way, active = ranking(settings, found, registry)

    async def health() -> Health:
        return await examine(found.store, found.towers, found.generations, active)

    return build_api(way, health, registry)


def worker(settings: Settings, found: "Parts", registry: "CollectorRegistry") -> "StreamWorker":
    """One worker of both ways."""
    from streams.app import AppConfig
    from streams.batching import BatchPolicy
    from streams.collector import CollectorConfig
    from streams.metrics import Metrics
    from streams.topics import TopicNames
    from streams.worker import StreamWorker, WorkerConfig

    config = WorkerConfig(
        topics=TopicNames(settings.topic_prefix),
        collector=CollectorConfig(batch=BatchPolicy(settings.batch_size, settings.batch_age)),
        app=AppConfig(
            folder=settings.home,
            fetch_wait=settings.kafka_fetch_wait,
            session_timeout=settings.kafka_session_timeout,
            heartbeat_interval=settings.kafka_session_timeout / 5,
        ),
        max_event_bytes=settings.max_event_bytes,
        unknown_items=settings.unknown_items,
    )
    return StreamWorker(kafka_connection(settings), found, Metrics(registry), config)


def _address(part: str, address: str | None) -> str:
    if address is None:
        raise Unavailable(part, f"no address: set FORETASTE_{part.upper()}, or start `foretaste up`")
    return address


def _ssl_context(settings: Settings) -> ssl.SSLContext | None:
    if not settings.kafka_security_protocol.endswith("SSL"):
        return None
    context = ssl.create_default_context(cafile=settings.kafka_ca_file)
    if settings.kafka_cert_file is not None:
        context.load_cert_chain(settings.kafka_cert_file, settings.kafka_key_file)
    return context
