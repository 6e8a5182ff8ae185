"""The stream workers, wired."""

from functools import partial
from typing import TYPE_CHECKING

from foretaste.compose.ports import kafka_connection, training_log
from foretaste.settings import Settings

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

    from foretaste.kernel.running.readiness import ProcessReadiness
    from streams.parts import SignUpParts
    from streams.worker.consumer import ConsumerConfig
    from streams.worker.health.stalling import StallConfig
    from streams.worker.runner import StreamWorker

BACKGROUND_FETCH_WAIT, BACKGROUND_IDLE_WAIT = 0.5, 10.0
"""Seconds that what is served may take until the log and the watch read it, and the same after a quiet while."""


def worker(
    settings: Settings, found: "SignUpParts", registry: "CollectorRegistry", readiness: "ProcessReadiness | None" = None
) -> "StreamWorker":
    """One worker of the users' ways."""
    from foretaste.kernel.batching import BatchPolicy
    from foretaste.kernel.running.durability import OffsetStore
    from foretaste.kernel.running.steady_clock import SteadyClock
    from streams.pipelines import PipelinesConfig, user_pipelines
    from streams.topics import TopicNames
    from streams.worker.collector import CollectorConfig
    from streams.worker.health.store_progress import StoreProgress
    from streams.worker.metrics import Metrics
    from streams.worker.runner import StreamWorker

    names = TopicNames(settings.topic_prefix)
    config = PipelinesConfig(
        topics=names,
        collector=CollectorConfig(batch=BatchPolicy(settings.batch_size, settings.batch_age, at_once=True)),
        max_event_bytes=settings.max_event_bytes,
        unknown_items=settings.unknown_items,
        reenrich_rate=settings.reenrich_rate,
    )
    metrics = Metrics(registry)
    progress = None
    if isinstance(found.store, OffsetStore):
        progress = StoreProgress(found.store, metrics.lost_tails, readiness)
    ways = partial(user_pipelines, found, metrics, config, now=SteadyClock(), progress=progress)
    connection, membership = kafka_connection(settings), _membership(settings)
    return StreamWorker(connection, names.group, ways, membership, _stalling(settings), readiness, progress)


def log_worker(
    settings: Settings, found: "SignUpParts", registry: "CollectorRegistry", readiness: "ProcessReadiness | None" = None
) -> "StreamWorker":
    """One of those that write the training log."""
    from foretaste.kernel.running.steady_clock import SteadyClock
    from streams.topics import TopicNames
    from streams.training_log import LogConfig, LogMetrics, log_pipelines
    from streams.worker.dead_letters import DeadLetters
    from streams.worker.metrics import Metrics
    from streams.worker.runner import StreamWorker

    names, metrics = TopicNames(settings.topic_prefix), Metrics(registry)
    letters = DeadLetters(found.events, names.dead_letters, metrics)
    config = LogConfig(topics=names, max_event_bytes=settings.max_event_bytes)
    ways = partial(
        log_pipelines, training_log(settings), letters, metrics, LogMetrics(registry), config, now=SteadyClock()
    )
    return StreamWorker(
        kafka_connection(settings),
        names.log_group,
        ways,
        _membership(settings, BACKGROUND_FETCH_WAIT, BACKGROUND_IDLE_WAIT),
        _stalling(settings),
        readiness,
    )


def watch_worker(
    settings: Settings, found: "SignUpParts", registry: "CollectorRegistry", readiness: "ProcessReadiness | None" = None
) -> "StreamWorker":
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
    return StreamWorker(
        kafka_connection(settings),
        config.group,
        ways,
        _membership(settings, BACKGROUND_FETCH_WAIT, BACKGROUND_IDLE_WAIT),
        _stalling(settings),
        readiness,
    )


def _stalling(settings: Settings) -> "StallConfig":
    from streams.worker.health.stalling import StallConfig

    return StallConfig(ends_after=settings.stall_seconds)


def _membership(settings: Settings, fetch_wait: float = 0.0, idle_wait: float = 0.0) -> "ConsumerConfig":
    """The waits (seconds) are what a way that nobody waits for can bear: they spare a broker that is asked again."""
    from streams.worker.consumer import ConsumerConfig

    return ConsumerConfig(
        kind=settings.consumer,
        folder=settings.home,
        fetch_wait=max(settings.kafka_fetch_wait, fetch_wait),
        idle_fetch_wait=max(settings.kafka_idle_fetch_wait or settings.kafka_fetch_wait, idle_wait),
        grace=settings.stop_seconds,
        session_timeout=settings.kafka_session_timeout,
        heartbeat_interval=settings.kafka_session_timeout / 3,
    )
