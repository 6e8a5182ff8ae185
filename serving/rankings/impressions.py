"""What users got to see, noted for training: sent on behind the answers, which never wait for it."""

import asyncio
import logging
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Protocol

from foretaste.kernel.batching import BatchPolicy, BatchQueue
from foretaste.kernel.errors import InvalidInput
from foretaste.kernel.events import UserRanked
from foretaste.kernel.ports import Clock, Events
from foretaste.kernel.retrying import FailureStreak, until_it_succeeds
from foretaste.kernel.running.logs import about_nothing
from foretaste.kernel.users import UserFeatures
from foretaste.kernel.values import Scalar, utc_time
from serving.metrics import RankingMetrics
from serving.rankings.exploring import Exploration
from serving.requests import RankResponse

log = logging.getLogger(__name__)


ENCODED_AT_ONCE = 8
"""Impressions of a batch, before answers have their turn again: all 64 are more than a millisecond."""


class Impression(Protocol):
    """An answer that a user got to see."""

    def event(self) -> UserRanked:
        """As training learns from it."""
        ...


class Impressions(Protocol):
    """Where impressions are noted for training."""

    def note(self, impression: Impression) -> None:
        """Never waits and never fails."""
        ...


@dataclass(frozen=True, slots=True)
class AnsweredRanking:
    """An answer and what it was made from, by reference: to note one costs a request next to nothing."""

    response: RankResponse
    context: Mapping[str, Scalar]
    features: UserFeatures
    warm_after: int
    """Of the generation that served."""
    shown: int
    """How many items, from the best on, the user gets to see."""
    at: float
    """Seconds since the epoch."""
    vouched: bool = False
    """The caller says that the user is real: without attributes, they are empty and not unknown."""

    def event(self) -> UserRanked:
        """As `user-ranked` carries it. By popularity no generation served, so none is named."""
        response, behaviour = self.response, self.features.behaviour.acts
        registered_ms = self.features.registered_ms
        shown = response.ranked[: self.shown]
        # all of it was checked where it came in, and a second time costs more than everything else here
        return UserRanked.model_construct(
            ranking_id=response.ranking_id,
            user_id=response.user_id,
            at=datetime.fromtimestamp(self.at, UTC),
            items=tuple(each["item_id"] for each in shown),
            scores=tuple(each["score"] for each in shown),
            context=self.context,
            attributes={} if self.vouched and self.features.attributes is None else self.features.attributes,
            behaviour_items=tuple(behaviour.items),
            behaviour_actions=tuple(behaviour.actions),
            behaviour_times=tuple(behaviour.times),
            served_by=response.served_by,
            fallback=response.fallback,
            cause=response.cause,
            reason=response.reason,
            zero_shot_generation=response.zero_shot_generation,
            ranking_generation=response.ranking_generation,
            warm_after=None if response.ranking_generation is None else self.warm_after,
            registered_at=None if registered_ms is None else utc_time(registered_ms),
            probabilities=tuple(response.probabilities or ())[: len(shown)],
        )


class NoImpressions:
    """Keeps none: for a ranking that nobody gets to see."""

    def note(self, impression: Impression) -> None:
        """Nothing is kept."""


def _new_id() -> str:
    return uuid.uuid4().hex


@dataclass(frozen=True, slots=True)
class ImpressionPolicy:
    """What becomes of an answer that was given."""

    impressions: Impressions = field(default_factory=NoImpressions)
    shown: int = 20
    """How many items a user is taken to see where the request does not say; 0: none."""
    now: Clock = time.time
    """Seconds since the epoch."""
    new_id: Callable[[], str] = _new_id
    exploration: Exploration = field(default_factory=Exploration)

    def shown_of(self, requested: int | None) -> int:
        """How many items the user gets to see of a request that says so, or does not."""
        return self.shown if requested is None else requested


@dataclass(frozen=True, slots=True)
class ImpressionBuffer:
    """How impressions are buffered."""

    batch: BatchPolicy = field(default_factory=lambda: BatchPolicy(size=64, age=0.2))
    """One request to Kafka for each would cost more than the answers."""
    capacity: int = 10_000
    """In memory, at most."""
    longest_pause: float = 5.0
    """Seconds between two tries at most, while Kafka is away."""


class BufferedImpressions:
    """A bounded buffer in memory, sent to `topic` by one task in batches.

    1. `note` puts an answer into the buffer; where that is full, the answer is dropped and counted.
    2. The task, made at the first note in the loop that it then belongs to, takes a batch, closed on size or age.
    3. Each becomes an event and `encode` its bytes; one that cannot be written is dropped and counted alone.
    4. The batch is sent. While Kafka is away it is sent again, for ever, with growing pauses. One that Kafka will never
       take (too large) is dropped and counted alone.
    5. They leave the buffer once they are durable.
    6. `close` gives the rest some seconds; what is left then is dropped and counted, and so is what comes later.
    A process that is killed loses what is in its buffer: an answer is not held back for training's sake.

    Any other error is a defect and ends the task: that is logged and counted, what is in the buffer is lost, and
    `failure` holds the error until a later batch is durable. The next note starts a new task.
    """

    def __init__(
        self,
        events: Events,
        topic: str,
        encode: Callable[[UserRanked], bytes],
        metrics: RankingMetrics,
        buffer: ImpressionBuffer | None = None,
        clock: Clock = time.monotonic,
    ) -> None:
        buffer = buffer or ImpressionBuffer()
        self._events = events
        self._topic = topic
        self._encode = encode
        self._metrics = metrics
        self._capacity = buffer.capacity
        self._clock = clock
        self._policy = buffer.batch
        self._queue: BatchQueue[Impression] = BatchQueue(buffer.batch, clock)
        self._buffered = 0
        self._task: asyncio.Task[None] | None = None
        self._closing = False
        self._streak = FailureStreak("impressions", clock)
        self._retrying = until_it_succeeds(longest=buffer.longest_pause, note=self._streak.note)
        self.failure: BaseException | None = None
        """What ended the last task; None once a batch after it is durable."""

    def note(self, impression: Impression) -> None:
        if self._closing or self._buffered >= self._capacity:
            self._metrics.impressions_lost(1)
            return
        self._buffered += 1
        self._queue.put_nowait(impression)
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(
                self._drain(), name="impressions", context=about_nothing()
            )
            self._task.add_done_callback(self._ended)

    async def close(self, grace: float = 3.0) -> None:
        """Send what is noted, within `grace` seconds. Close this before the events that it sends through.

        Closing again does nothing.
        """
        self._closing = True
        task, self._task = self._task, None
        if task is None:
            return
        await self._queue.end()
        await asyncio.wait({task}, timeout=grace)
        if task.cancel():
            await asyncio.wait({task})
            log.warning("impressions: %d were not sent within %.1f s, and are lost", self._buffered, grace)
            self._lose_all()

    def _ended(self, task: "asyncio.Task[None]") -> None:
        """It ends when it is closed, and else by a defect alone."""
        if task.cancelled() or (error := task.exception()) is None:
            return
        self.failure = error
        self._metrics.impressions_failed(failed=True)
        log.error("impressions: a defect ended the task that sends them, %d are lost", self._buffered, exc_info=error)
        self._lose_all()
        self._task, self._queue = None, BatchQueue(self._policy, self._clock)

    def _lose_all(self) -> None:
        self._metrics.impressions_lost(self._buffered)
        self._buffered = 0

    async def _drain(self) -> None:
        while not self._queue.ended:
            batch = await self._queue.take()
            keyed = []
            for place, impression in enumerate(batch, 1):
                if (each := self._keyed(impression)) is not None:
                    keyed.append(each)
                if place % ENCODED_AT_ONCE == 0:
                    await asyncio.sleep(0)
            if keyed:
                await self._send(keyed)

    def _keyed(self, impression: Impression) -> tuple[bytes, bytes] | None:
        event = impression.event()
        try:
            return event.user_id.encode(errors="backslashreplace"), self._encode(event)
        except InvalidInput as error:
            self._lose(error)
            return None

    async def _send(self, keyed: Sequence[tuple[bytes, bytes]]) -> None:
        try:
            await self._retrying(self._events.send_all, self._topic, keyed)
        except InvalidInput as error:
            if len(keyed) == 1:
                self._lose(error)
                return
            for each in keyed:
                await self._send([each])
            return
        self._streak.over()
        if self.failure is not None:
            self.failure = None
            self._metrics.impressions_failed(failed=False)
        self._buffered -= len(keyed)
        self._metrics.impressions_kept(len(keyed))

    def _lose(self, error: InvalidInput) -> None:
        log.warning("impressions: one is lost: %s", error)
        self._buffered -= 1
        self._metrics.impressions_lost(1)
