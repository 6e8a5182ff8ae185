"""The only composition root: settings in, wired parts out. Everything else takes what it needs as arguments.

Imports stand inside the functions, so that a command loads what it runs and nothing else: a worker needs no torch,
training no Faust.
"""

import asyncio
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

from foretaste.kernel.errors import Unavailable
from foretaste.kernel.ports import Events, Generations, Lease, OnlineStore, TowerAdmin, Towers
from foretaste.settings import Settings
from foretaste.stack.machine import IN_PROCESS
from foretaste.stack.record import running_stack
from foretaste.stack.stack import EMBEDDED_KAFKA

if TYPE_CHECKING:
    from fastapi import FastAPI
    from prometheus_client import CollectorRegistry

    from features.feast_api import RepoConfig
    from features.log.feast_log import FeastTrainingLog
    from features.redis.address import RedisAddress
    from models.generations.publish import PublishParts
    from models.refresh.learn import LogLearner
    from models.refresh.parts import RefreshParts
    from serving.active import ActiveGeneration
    from serving.impressions import ImpressionPolicy
    from serving.metrics import RankingMetrics
    from serving.ranking import Ranking
    from streams.parts import SignUpParts
    from streams.reenrichment import Reenrichment
    from streams.worker.app import AppConfig
    from streams.worker.connection import KafkaConnection
    from streams.worker.runner import StreamWorker

UNHURRIED = 0.5
"""Seconds that what is served may take until the log and the watch read it."""


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
    from streams.worker.connection import KafkaConnection

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
    from streams.worker.producer import KafkaEvents

    return KafkaEvents(kafka_connection(settings), idempotent=settings.kafka_idempotent)


def feast_config(settings: Settings) -> "RepoConfig":
    from features.repo_config import repo_config

    registry = settings.registry or str(settings.home / "registry.db")
    return repo_config(_redis(settings), registry, settings.project, settings.training_log, settings.feature_store)


def store(settings: Settings) -> OnlineStore:
    """The fast form where the online store is Redis, unless a setting turns it off; else Feast's own way."""
    from features.repo_config import is_fast_redis

    config = feast_config(settings)
    if settings.online_store == "auto" and is_fast_redis(config):
        from features.online.redis_store import RedisStore

        return RedisStore(config, timeout=settings.redis_timeout)
    from features.online.feast_store import FeastStore

    return FeastStore(config, timeout=settings.redis_timeout)


def generations(settings: Settings) -> Generations:
    from features.generations.pointer import RedisGenerations

    return RedisGenerations(_redis(settings), prefix=settings.project, timeout=settings.redis_timeout)


def training_log(settings: Settings) -> "FeastTrainingLog":
    from features.log.feast_log import FeastTrainingLog

    return FeastTrainingLog(feast_config(settings))


def lease(settings: Settings, name: str) -> Lease:
    """The right to do what one process does at a time."""
    from features.generations.lease import RedisLease

    return RedisLease(
        _redis(settings),
        name,
        seconds=settings.lease_seconds,
        prefix=settings.project,
        timeout=settings.redis_timeout,
    )


def towers(settings: Settings) -> TowerAdmin:
    address = _address("triton", settings.triton)
    if address == IN_PROCESS:
        from models.generations.in_process import InProcessTowers

        return InProcessTowers(settings.repository)
    from models.generations.triton import TritonTowers

    return TritonTowers(address, timeout=settings.triton_timeout, ssl=settings.triton_ssl)


@asynccontextmanager
async def parts(settings: Settings) -> AsyncIterator["SignUpParts"]:
    """All four ports, wired and closed again."""
    from streams.parts import SignUpParts

    async with AsyncExitStack() as stack:
        opened: list[OnlineStore | Towers | Generations | Events] = []
        found = SignUpParts(store(settings), towers(settings), generations(settings), events(settings))
        opened += [found.store, found.towers, found.generations, found.events]
        for part in opened:
            stack.push_async_callback(part.close)
        yield found


def ranking(
    settings: Settings, found: "SignUpParts", metrics: "RankingMetrics", showing: "ImpressionPolicy | None" = None
) -> tuple["Ranking", "ActiveGeneration"]:
    """The ranking way, and what it knows of the active generation; without `showing`, nothing is noted for training."""
    from serving.active import ActiveGeneration
    from serving.ranking import Ranking

    active = ActiveGeneration(found.generations, time.monotonic)
    way = Ranking(
        found.store,
        found.towers,
        found.generations,
        active,
        metrics,
        time.monotonic,
        policy=showing,
        max_candidates=settings.max_candidates,
    )
    return way, active


@asynccontextmanager
async def api(settings: Settings, found: "SignUpParts", registry: "CollectorRegistry") -> AsyncIterator["FastAPI"]:
    """The ranking service; at the end, what it noted for training is sent. Who opened the parts closes them."""
    from serving.api import build_api
    from serving.health import ServiceHealth, examine
    from serving.impressions import BufferedImpressions, ImpressionPolicy
    from serving.metrics import RankingMetrics
    from streams.codec import JSON
    from streams.topics import TopicNames

    metrics = RankingMetrics(registry)
    impressions = BufferedImpressions(found.events, TopicNames(settings.topic_prefix).ranked, JSON.encode, metrics)
    way, active = ranking(settings, found, metrics, ImpressionPolicy(impressions, settings.shown))

    async def health() -> ServiceHealth:
        return await examine(found.store, found.towers, found.generations, active, impressions)

    try:
        yield build_api(way, health, registry, impressions=impressions)
    finally:
        await impressions.close()


def worker(settings: Settings, found: "SignUpParts", registry: "CollectorRegistry") -> "StreamWorker":
    """One worker of the users' ways."""
    from foretaste.kernel.batching import BatchPolicy
    from streams.pipelines import PipelinesConfig, user_pipelines
    from streams.topics import TopicNames
    from streams.worker.collector import CollectorConfig
    from streams.worker.metrics import Metrics
    from streams.worker.runner import StreamWorker

    names = TopicNames(settings.topic_prefix)
    config = PipelinesConfig(
        topics=names,
        collector=CollectorConfig(batch=BatchPolicy(settings.batch_size, settings.batch_age)),
        max_event_bytes=settings.max_event_bytes,
        unknown_items=settings.unknown_items,
        reenrich_rate=settings.reenrich_rate,
    )
    ways = partial(user_pipelines, found, Metrics(registry), config)
    return StreamWorker(kafka_connection(settings), names.group, ways, _app_config(settings))


def log_worker(settings: Settings, found: "SignUpParts", registry: "CollectorRegistry") -> "StreamWorker":
    """One of those that write the training log."""
    from streams.topics import TopicNames
    from streams.training_log import LogConfig, LogMetrics, log_pipelines
    from streams.worker.dead_letters import DeadLetters
    from streams.worker.metrics import Metrics
    from streams.worker.runner import StreamWorker

    names, metrics = TopicNames(settings.topic_prefix), Metrics(registry)
    letters = DeadLetters(found.events, names.dead_letters, metrics)
    config = LogConfig(topics=names, max_event_bytes=settings.max_event_bytes)
    ways = partial(log_pipelines, training_log(settings), letters, metrics, LogMetrics(registry), config)
    return StreamWorker(kafka_connection(settings), names.log_group, ways, _app_config(settings, UNHURRIED))


def watch_worker(settings: Settings, found: "SignUpParts", registry: "CollectorRegistry") -> "StreamWorker":
    """The watch over what is served."""
    from streams.topics import TopicNames
    from streams.watch.monitor import Monitor, WatchConfig, watch_pipelines
    from streams.watch.prometheus import WatchGauges
    from streams.worker.metrics import Metrics
    from streams.worker.runner import StreamWorker

    config = WatchConfig(
        topics=TopicNames(settings.topic_prefix),
        outcome=settings.outcome_window,
        guard=settings.guard_minutes * 60,
    )
    monitor = Monitor(found.store, found.towers, found.generations, config)
    registry.register(WatchGauges(monitor.snapshot))
    ways = partial(watch_pipelines, monitor, Metrics(registry), config)
    return StreamWorker(kafka_connection(settings), config.group, ways, _app_config(settings, UNHURRIED))


@asynccontextmanager
async def publish_parts(settings: Settings) -> AsyncIterator["PublishParts"]:
    """What publishing works on, closed again."""
    from models.generations.publish import PublishParts

    towers_, generations_ = towers(settings), generations(settings)
    try:
        yield PublishParts(towers_, generations_, settings.home, settings.repository, settings.triton_device)
    finally:
        await towers_.close()
        await generations_.close()


@asynccontextmanager
async def refresh_parts(settings: Settings) -> AsyncIterator["RefreshParts"]:
    """What a refresh works on, closed again."""
    from models.refresh.parts import RefreshConfig, RefreshParts
    from models.refresh.records import RefreshRecords

    async with (
        parts(settings) as found,
        publish_parts(settings) as publishing,
        _reenrichment(settings, found) as reenrichment,
    ):
        yield RefreshParts(
            lease=lease(settings, "refresh"),
            records=RefreshRecords(settings.home / "runs"),
            unlogged=partial(_unlogged, settings),
            learner=learner(settings, found.generations),
            publish=publishing,
            reenrich=lambda number, report: reenrichment.run(number, partial(report, "re-enrich")),
            config=RefreshConfig(settings.lease_seconds, settings.log_settles, settings.keep),
        )


def learner(settings: Settings, found: Generations) -> "LogLearner":
    """What learns from the training log."""
    from models.refresh.learn import LearnConfig, LogLearner

    config = LearnConfig(settings.outcome_window, settings.held_out, settings.gate_tolerance)
    return LogLearner(training_log(settings), found, settings.home, config)


async def _unlogged(settings: Settings) -> int:
    """Rankings and behaviours in Kafka by now that have not reached the training log within `log_patience`."""
    from streams.topics import TopicNames
    from streams.worker.lag import KafkaBacklog, unhandled

    names = TopicNames(settings.topic_prefix)

    async def of(topic: str) -> int:
        backlog = KafkaBacklog(kafka_connection(settings), names.log_group, topic)
        try:
            return await unhandled(backlog, settings.log_patience)
        finally:
            await backlog.close()

    return sum(await asyncio.gather(of(names.ranked), of(names.behaved)))


@asynccontextmanager
async def _reenrichment(settings: Settings, found: "SignUpParts") -> AsyncIterator["Reenrichment"]:
    from features.generations.progress import RedisProgress
    from streams.reenrichment import Reenrichment, ReenrichmentConfig
    from streams.topics import TopicNames
    from streams.worker.lag import KafkaBacklog

    names = TopicNames(settings.topic_prefix)
    progress = RedisProgress(_redis(settings), prefix=settings.project, timeout=settings.redis_timeout)
    backlog = KafkaBacklog(kafka_connection(settings), names.group, names.reenrich)
    config = ReenrichmentConfig(tolerated=settings.reenrich_tolerated)
    try:
        yield Reenrichment(found, progress, backlog, topic=names.reenrich, config=config)
    finally:
        await backlog.close()
        await progress.close()


async def create_topics(settings: Settings) -> None:
    """All topics, explicitly, with their partitions."""
    from streams.topics import TopicNames
    from streams.worker.topic_admin import create_topics as create

    names = TopicNames(settings.topic_prefix)
    await create(kafka_connection(settings), names, partitions=settings.partitions, replication=settings.replication)


def apply_features(settings: Settings) -> None:
    """`feast apply` of the feature repository."""
    from features.repo_config import apply_features as apply

    apply(feast_config(settings))


def _app_config(settings: Settings, fetch_wait: float = 0.0) -> "AppConfig":
    """`fetch_wait` (seconds) is what a way that nobody waits for can bear: it spares a broker that is asked again."""
    from streams.worker.app import AppConfig

    return AppConfig(
        folder=settings.home,
        fetch_wait=max(settings.kafka_fetch_wait, fetch_wait),
        grace=settings.stop_seconds,
        session_timeout=settings.kafka_session_timeout,
        heartbeat_interval=settings.kafka_session_timeout / 5,
    )


def _redis(settings: Settings) -> "RedisAddress":
    from features.redis.address import RedisAddress

    return RedisAddress.parse(_address("redis", settings.redis), cluster=settings.redis_cluster)


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
