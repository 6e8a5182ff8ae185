"""The ways into the training log: what was served and what users did, kept for training. Only ports."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

from prometheus_client import CollectorRegistry, Counter

from foretaste.kernel.batching import BatchPolicy
from foretaste.kernel.events import DeadLetter, Message, UserBehaved, UserRanked
from foretaste.kernel.ports import Clock, TrainingLog
from streams.decoding import decode_behaved, decode_ranked
from streams.rules import as_logged
from streams.topics import TopicNames
from streams.worker.collector import Collector, CollectorConfig
from streams.worker.dead_letters import DeadLetters
from streams.worker.metrics import Metrics

MAX_RANKING_BYTES = 1_048_576
"""A ranking carries what was shown and all that the towers read."""


@dataclass(frozen=True, slots=True)
class LogConfig:
    """What a deployment decides of the ways into the log."""

    topics: TopicNames = field(default_factory=TopicNames)
    collector: CollectorConfig = field(
        default_factory=lambda: CollectorConfig(BatchPolicy(size=4096, age=2.0), capacity=4096)
    )
    """Large batches: each is a file of the log, and nobody waits for it."""
    max_event_bytes: int = 65536


class LogMetrics:
    """What is counted of the log, beside what every way counts."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.logged = Counter(
            "foretaste_logged", "Events that are durable in the training log", ["kind"], registry=registry
        )
        self.refused = Counter(
            "foretaste_log_refused", "Events that cannot be logged, by why", ["kind", "reason"], registry=registry
        )


class Rankings:
    """Handles batches of `user-ranked` messages, each call one batch.

    1. Every message is decoded.
    2. The good ones are written to the log.
    3. The bad ones become dead letters; on return the messages may be acknowledged.
    Done again, it changes nothing: the log has each ranking once. Raises `Unavailable` when a part is away.
    """

    def __init__(
        self, log: TrainingLog, dead_letters: DeadLetters, metrics: LogMetrics, *, max_bytes: int, now: Clock
    ) -> None:
        self._log = log
        self._dead_letters = dead_letters
        self._metrics = metrics
        self._max_bytes = max_bytes
        self._now = now

    async def __call__(self, messages: Sequence[Message]) -> None:
        """Steps 1 to 3 for one batch."""
        now_ms = round(self._now() * 1000)
        decoded = [decode_ranked(each, now_ms=now_ms, max_bytes=self._max_bytes) for each in messages]  # 1
        good = [each for each in decoded if isinstance(each, UserRanked)]
        await self._log.write_rankings(good)  # 2
        await self.refuse([each for each in decoded if isinstance(each, DeadLetter)])  # 3
        self._metrics.logged.labels("ranking").inc(len(good))

    async def refuse(self, letters: Sequence[DeadLetter]) -> None:
        """Keep them as dead letters."""
        await self._dead_letters.keep(letters)
        for letter in letters:
            self._metrics.refused.labels("ranking", letter.reason).inc()


class BehaviourLog:
    """Handles batches of `user-behaved` messages, as `Rankings` does, each under its identity; but counts a bad one.

    The way of a behaviour reads the same message, and it is that one which keeps it as a dead letter.
    """

    def __init__(self, log: TrainingLog, metrics: LogMetrics, *, max_bytes: int, now: Clock) -> None:
        self._log = log
        self._metrics = metrics
        self._max_bytes = max_bytes
        self._now = now

    async def __call__(self, messages: Sequence[Message]) -> None:
        now_ms = round(self._now() * 1000)
        decoded = [decode_behaved(each, now_ms=now_ms, max_bytes=self._max_bytes) for each in messages]
        good = [
            as_logged(event, message, now_ms)
            for event, message in zip(decoded, messages, strict=True)
            if isinstance(event, UserBehaved)
        ]
        await self._log.write_behaviours(good)
        await self.refuse([each for each in decoded if isinstance(each, DeadLetter)])
        self._metrics.logged.labels("behaviour").inc(len(good))

    async def refuse(self, letters: Sequence[DeadLetter]) -> None:
        """Count them."""
        for letter in letters:
            self._metrics.refused.labels("behaviour", letter.reason).inc()


def log_pipelines(
    log: TrainingLog,
    dead_letters: DeadLetters,
    metrics: Metrics,
    log_metrics: LogMetrics,
    config: LogConfig,
    now: Clock = time.time,
    monotonic: Clock = time.monotonic,
) -> dict[str, Collector]:
    """The ways into the log by topic, for a worker of the consumer group `TopicNames.log_group`."""
    names = config.topics
    rankings = Rankings(log, dead_letters, log_metrics, max_bytes=MAX_RANKING_BYTES, now=now)
    behaviours = BehaviourLog(log, log_metrics, max_bytes=config.max_event_bytes, now=now)
    collector = partial(Collector, monotonic=monotonic, now=now)
    return {
        names.ranked: collector("ranking-log", rankings, rankings.refuse, metrics, config.collector),
        names.behaved: collector("behaviour-log", behaviours, behaviours.refuse, metrics, config.collector),
    }
