"""From single events to batches, with back-pressure, retries and acknowledgements in order."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias, TypeVar

from tenacity import RetryCallState

from foretaste.kernel.batching import BatchPolicy, BatchQueue
from foretaste.kernel.errors import ForetasteError
from foretaste.kernel.events import DeadLetter, Message, Origin, Reason
from foretaste.kernel.ports import Clock
from foretaste.kernel.retrying import FailureStreak, until_it_succeeds
from foretaste.kernel.running.logs import about
from streams.worker.health.store_progress import StoreProgress
from streams.worker.metrics import Metrics

log = logging.getLogger(__name__)

Handler = Callable[[Sequence[Message]], Coroutine[Any, Any, None]]
"""Returns once all effects of the messages are durable. Raising means: not done, and doing it again is harmless."""
Reject = Callable[[Sequence[DeadLetter]], Coroutine[Any, Any, None]]
T = TypeVar("T")
Work: TypeAlias = Callable[[Sequence[T]], Coroutine[Any, Any, None]]
Sleep = Callable[[float], Awaitable[None]]
Acknowledge = Callable[[], object]
"""Called once all effects of an event are durable."""


AWAY_GRACE = 1.0
"""Seconds that a part which is away is waited for when the worker stops."""


@dataclass(frozen=True, slots=True)
class CollectorConfig:
    """How a collector gathers and how patient it is."""

    batch: BatchPolicy = field(default_factory=BatchPolicy)
    capacity: int = 1024
    """Events that may wait before it is `full`."""
    max_backoff: float = 3.0
    """Seconds between two tries at most, while a part is away."""
    longest_batch: float = 0.0
    """Seconds that a batch takes on purpose, since its way has a pace: so much longer nothing may be handled."""
    progress: StoreProgress | None = None
    """Told of each batch, where the store keeps how far it has come."""


class _Entry(NamedTuple):
    message: Message
    acknowledge: Acknowledge
    epoch: int
    read_at: Origin
    """Where the record lay; a replayed message has its first origin instead."""


class Collector:
    """Gathers the events of one way into batches and settles one batch at a time.

    1. `put_nowait` takes an event; a consumer reads no more while the collector is `full`.
    2. A batch closes by its policy: on size, on the age of its first member, or at once where nothing follows.
    3. The handler makes its effects durable. While a part is unavailable, the batch is tried again, for ever.
    4. If the batch is refused for good, its members are handled one by one, and those refused become dead letters.
    5. A store that keeps its `progress` is told of it. One that lost what it had, before a try of 3 or by now, ends the
       collector (`LostTail`). Where its server is another one by now, 3 is done again.
    6. Only now its members are acknowledged, in the order in which they came.

    Batches never overlap and members are acknowledged in order, so that what was acknowledged last is where a partition
    stands.
    """

    def __init__(
        self,
        way: str,
        handler: Handler,
        reject: Reject,
        metrics: Metrics,
        config: CollectorConfig | None = None,
        *,
        monotonic: Clock = time.monotonic,
        now: Clock = time.time,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        config = config or CollectorConfig()
        self._way = way
        self._handler = handler
        self._reject = reject
        self._metrics = metrics
        self._progress = config.progress
        self._now = now
        self._streak = FailureStreak(way, monotonic)
        self._retrying = until_it_succeeds(longest=config.max_backoff, note=self._note_failure, sleep=sleep)
        self._queue: BatchQueue[_Entry] = BatchQueue(config.batch, monotonic, config.capacity)
        self._settling: asyncio.Task[None] | None = None
        self._epoch = 0
        self._stopping = False
        self._finished = asyncio.Event()
        self.longest_batch = config.longest_batch
        """Seconds that a batch takes on purpose."""
        self.settled = 0
        """Events that were acknowledged since the start."""

    @property
    def waits_for(self) -> str | None:
        """Why the batch at work is tried again, or why no partition is begun; None while neither is so."""
        return self._streak.reason or (None if self._progress is None else self._progress.waits_for)

    def put_nowait(self, message: Message, acknowledge: Acknowledge, read_at: Origin | None = None) -> None:
        """Take an event, though `capacity` wait; after `stop` none is taken, and so none acknowledged.

        `read_at` is where its record lay, if not at its origin.
        """
        if self._stopping:
            return
        self._queue.put_nowait(_Entry(message, acknowledge, self._epoch, read_at or message.origin))

    @property
    def full(self) -> bool:
        """`capacity` events wait."""
        return self._queue.full

    async def room(self) -> None:
        """Wait while this is `full`."""
        await self._queue.room()

    async def run(self) -> None:
        """Settle batches until `stop`. An error that is no `ForetasteError` is a defect and ends this."""
        try:
            while not self._queue.ended:
                current = [entry for entry in await self._queue.take() if entry.epoch == self._epoch]
                if current:
                    await self._settled(current)
        finally:
            self._finished.set()

    async def discard(self, grace: float) -> None:
        """The partitions went to another worker: forget what waits, unacknowledged, since that worker reads it again.

        The batch at work gets `grace` seconds to end, so that no two workers write for one user at a time.
        """
        self._epoch += 1
        await self._end_settling(grace)

    async def stop(self, grace: float) -> None:
        """Settle what was taken, within `grace` seconds; what is left then was never acknowledged.

        A part that is away is not waited for longer than `AWAY_GRACE`.
        """
        self._stopping = True
        if self._finished.is_set():
            return
        await self._queue.end()
        if not await self._finishes(grace):
            log.warning("%s: stopped before it was done; what is left is read again at the next start", self._way)
            self._epoch += 1
            await self._end_settling(0)

    async def _finishes(self, grace: float) -> bool:
        """Whether `run` ends within `grace` seconds."""
        ending = asyncio.create_task(self._finished.wait())
        await asyncio.wait({ending}, timeout=min(grace, AWAY_GRACE))
        if not ending.done() and self.waits_for is None:
            await asyncio.wait({ending}, timeout=max(grace - AWAY_GRACE, 0.0))
        ending.cancel()
        return self._finished.is_set()

    async def _settled(self, batch: Sequence[_Entry]) -> None:
        self._settling = asyncio.create_task(self._settle(batch), name=f"settle {self._way}")
        try:
            await asyncio.wait({self._settling})
        finally:
            await self._end_settling(0)
        if not self._settling.cancelled():
            self._settling.result()

    async def _end_settling(self, grace: float) -> None:
        task = self._settling
        if task is None or task.done():
            return
        await asyncio.wait({task}, timeout=grace)
        if task.cancel():
            await asyncio.wait({task})
            self._streak.over()

    async def _settle(self, batch: Sequence[_Entry]) -> None:
        with about(_place(batch)):
            try:
                await self._carried_out(self._handler, [entry.message for entry in batch], batch)
            except ForetasteError as error:
                await self._one_by_one(batch, error)
        self._streak.over()
        now_ms = 1000 * self._now()
        self._metrics.batch_size.labels(self._way).observe(len(batch))
        ages = [max(0.0, now_ms - entry.message.origin.timestamp_ms) / 1000 for entry in batch]
        self._metrics.durable_seconds.observe(self._way, ages)
        for entry in batch:
            entry.acknowledge()
        self.settled += len(batch)

    async def _carried_out(self, work: Work[T], of: Sequence[T], batch: Sequence[_Entry]) -> None:
        """Work is done and the store told of it; once more where the store's server is another one by then."""
        progress, read_at = self._progress, [entry.read_at for entry in batch]
        if progress is None:
            await self._retrying(work, of)
            return

        failed = False

        async def confirmed() -> str:
            nonlocal failed
            server_run = await progress.confirm(after_failure=failed)
            failed = True
            await work(of)
            failed = False
            return server_run

        noted = False
        while not noted:
            server_run: str = await self._retrying(confirmed)
            noted = await self._retrying(progress.note, read_at, server_run)

    async def _one_by_one(self, batch: Sequence[_Entry], error: ForetasteError) -> None:
        if len(batch) == 1:
            letter = DeadLetter(batch[0].message, Reason.INVALID, str(error))
            await self._carried_out(self._reject, [letter], batch)
            return
        for entry in batch:
            with about(_place([entry])):
                try:
                    await self._carried_out(self._handler, [entry.message], [entry])
                except ForetasteError as its_own:
                    await self._one_by_one([entry], its_own)

    def _note_failure(self, state: RetryCallState) -> None:
        self._metrics.retries.labels(self._way).inc()
        self._streak.note(state)


def _place(batch: Sequence[_Entry]) -> str:
    """Where the first was read, and how many there are: what log lines of a batch are about."""
    first = batch[0].message.origin
    place = f"{first.topic}/{first.partition}@{first.offset}"
    return place if len(batch) == 1 else f"{place} and {len(batch) - 1} more"
