"""Whether a worker takes what waits for it: one that does not says so, and ends itself after a while."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Set
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from foretaste.kernel.errors import ForetasteError, Unavailable
from foretaste.kernel.ports import Clock
from foretaste.kernel.running.readiness import ProcessReadiness
from streams.worker.connection import KafkaConnection
from streams.worker.lag import LOOK_BYTES, LOOK_MS, Position, look
from streams.worker.reading import beside_the_workers, stop

_KAFKA = "kafka"
"""The subject of a look that nobody answered."""
_START = "start"
"""The subject of a start that takes long."""
ENDING_SECONDS = 1.0
"""For which what hangs is waited for once it is given up: it may not even end."""


class Stalled(ForetasteError):
    """A worker took nothing for too long though events wait for it: it ends, and whoever runs it starts it anew."""


@dataclass(frozen=True, slots=True)
class StallConfig:
    """How patient a worker is with itself. Times are in seconds."""

    quiet: float = 30.0
    """Without an event handled while some wait: from then on it is not ready."""
    ends_after: float = 120.0
    """The same: then it ends itself."""
    look_every: float = 10.0


class HandledEvents(Protocol):
    """A way of a worker (`Collector`), as far as its progress goes."""

    @property
    def settled(self) -> int:
        """Events that were acknowledged since the start."""
        ...

    @property
    def waits_for(self) -> str | None:
        """Why the batch at work is tried again; None while it is not."""
        ...

    @property
    def longest_batch(self) -> float:
        """Seconds that a batch takes on purpose."""
        ...


async def seen_through(
    starting: Coroutine[Any, Any, object], what: str, readiness: ProcessReadiness, config: StallConfig
) -> None:
    """Waits for a step of a worker's start, which comes before a `StallWatch` has anything to look at.

    One that takes `config.quiet` seconds makes the worker not ready, for the reason that `what` was not done; after
    `config.ends_after` seconds it is given up, and `Stalled` is raised. What it raises itself, this raises.
    """
    step = asyncio.create_task(starting, name=what)
    try:
        done, _ = await asyncio.wait({step}, timeout=config.quiet)
        if not done:
            readiness.unready(_START, f"{what} for {config.quiet:g} s")
            done, _ = await asyncio.wait({step}, timeout=max(0.0, config.ends_after - config.quiet))
        if not done:
            raise Stalled(f"{what} for {config.ends_after:g} s")
        readiness.ready(_START)
        step.result()
    finally:
        if step.cancel():
            await asyncio.wait({step}, timeout=ENDING_SECONDS)


class HeldPartitions(Protocol):
    """How far a group has come in some partitions (Kafka)."""

    async def positions(self, partitions: Set[TopicPartition]) -> Mapping[TopicPartition, Position]:
        """Raises `Unavailable` when nobody answers."""
        ...

    async def close(self) -> None: ...


class _LookAtRest(NamedTuple):
    """A look that found nothing waiting."""

    listed: Mapping[TopicPartition, int]
    """The ends before it."""
    found: Mapping[TopicPartition, Position]


class KafkaPartitions:
    """The `HeldPartitions` of `group`, seen by a consumer that is no member of it. A look takes `timeout` at most.

    Where nothing waited, the same partitions are not looked into again while their listed ends stay: an idle worker
    would spend more on its looks than on all else. A listed end is below the real one on Tansu, which counts a batch
    as one record, but it moves with each.
    """

    def __init__(self, connection: KafkaConnection, group: str, *, timeout: float = 10.0) -> None:
        self._connection = connection
        self._group = group
        self._timeout = timeout
        self._started: AIOKafkaConsumer | None = None
        self._at_rest: _LookAtRest | None = None

    async def positions(self, partitions: Set[TopicPartition]) -> Mapping[TopicPartition, Position]:
        try:
            async with asyncio.timeout(self._timeout):
                consumer = await self._consumer()
                listed: Mapping[TopicPartition, int] | None = None
                if consumer.assignment() == partitions:  # of others the client may not know the leaders
                    listed = await consumer.end_offsets(list(partitions))
                    if self._at_rest is not None and self._at_rest.listed == listed:
                        return self._at_rest.found
                consumer.assign(list(partitions))  # anew each time, which forgets the ends seen last time
                found = await look(consumer, list(partitions))
                consumer.pause(*partitions)
        except (KafkaError, TimeoutError) as error:
            await self.close()
            raise Unavailable(_KAFKA, f"{self._connection.bootstrap}: {error!r}") from error
        nothing_waits = all(at.done == at.end for at in found.values())
        self._at_rest = _LookAtRest(listed, found) if nothing_waits and listed is not None else None
        return found

    async def close(self) -> None:
        self._at_rest = None
        consumer, self._started = self._started, None
        if consumer is not None:
            await stop(consumer)

    async def _consumer(self) -> AIOKafkaConsumer:
        if self._started is None:
            consumer = beside_the_workers(
                self._connection, self._group, fetch_max_wait_ms=LOOK_MS, max_partition_fetch_bytes=LOOK_BYTES
            )
            self._started = consumer
            await consumer.start()
        return self._started


@dataclass(slots=True)
class _Progress:
    settled: int
    since: float
    """When it was last seen to move, or nothing waited."""
    held: Set[TopicPartition] = field(default_factory=frozenset)


class StallWatch:
    """Looks at the ways of one worker, by topic, again and again.

    1. A way that handled an event since the last look is well, and nobody is asked.
    2. A way that waits for a part that is away (`waits_for`) makes the worker not ready, with that reason. It is never
       ended for it: that would bring nothing back.
    3. Of the others, the partitions that this worker holds are looked at. Where events wait in one and none was
       handled for `quiet` seconds, the worker is not ready; after `ends_after` seconds `Stalled` is raised. Both are
       longer for a way with a pace, by its `longest_batch`.
    4. Where Kafka does not answer, the worker is not ready with that reason, and no way is blamed.

    A worker that holds no partition of a topic, or gets others, begins anew. `clock` never falls.
    """

    def __init__(
        self,
        ways: Mapping[str, HandledEvents],
        assignment: Callable[[], Set[TopicPartition]],
        partitions: HeldPartitions,
        readiness: ProcessReadiness,
        config: StallConfig,
        *,
        clock: Clock = time.monotonic,
        sleep: Callable[[float], Awaitable[Any]] = asyncio.sleep,
    ) -> None:
        self._ways = ways
        self._assignment = assignment
        self._partitions = partitions
        self._readiness = readiness
        self._config = config
        self._clock = clock
        self._sleep = sleep
        self._seen: dict[str, _Progress] = {}

    async def run(self) -> None:
        """Look until cancelled; raises `Stalled`."""
        try:
            while True:
                await self._sleep(self._config.look_every)
                await self.look()
        except asyncio.CancelledError:
            for subject in (_KAFKA, *self._ways):
                self._readiness.ready(subject)
            raise
        finally:
            await self._partitions.close()

    async def look(self) -> None:
        """One look: see the class."""
        held = self._assignment()
        quiet = {topic: progress for topic in self._ways if (progress := self._without_progress(topic, held))}
        waiting: Mapping[TopicPartition, Position] = {}
        if quiet:
            try:
                waiting = await self._partitions.positions({each for each in held if each.topic in quiet})
            except Unavailable as error:
                self._readiness.unready(_KAFKA, str(error))
                return
            self._readiness.ready(_KAFKA)
        for topic, progress in quiet.items():
            self._judge(topic, progress, {each: at for each, at in waiting.items() if each.topic == topic})

    def _without_progress(self, topic: str, held: Set[TopicPartition]) -> _Progress | None:
        """What is known of a way that may be stalled; None where it is well, or waits for a part."""
        way, mine = self._ways[topic], frozenset(each for each in held if each.topic == topic)
        known = self._seen.get(topic)
        if way.waits_for is not None:
            self._readiness.unready(topic, way.waits_for)
        elif known is not None and mine and known.held == mine and known.settled == way.settled:
            return known
        else:
            self._readiness.ready(topic)
        self._seen[topic] = _Progress(way.settled, self._clock(), mine)
        return None

    def _judge(self, topic: str, progress: _Progress, positions: Mapping[TopicPartition, Position]) -> None:
        behind = {each: at for each, at in positions.items() if at.done < at.end}
        if not behind:
            progress.since = self._clock()
            self._readiness.ready(topic)
            return
        seconds, longer = self._clock() - progress.since, self._ways[topic].longest_batch
        if seconds < self._config.quiet + longer:
            self._readiness.ready(topic)
            return
        first = min(behind)
        reason = (
            f"nothing was handled for {seconds:.0f} s though {sum(at.end - at.done for at in behind.values())} events "
            f"wait in {len(behind)} partitions, first {topic}/{first.partition}@{behind[first].done}"
        )
        self._readiness.unready(topic, reason)
        if seconds >= self._config.ends_after + longer:
            raise Stalled(f"{topic}: {reason}")
