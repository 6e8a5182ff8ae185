"""What users got to see, noted for training: sent on behind the answers, which never wait for it."""

import asyncio
import logging
import time
import uuid
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice
from typing import Protocol

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type
from tenacity.wait import wait_random_exponential

from foretaste.kernel.errors import InvalidInput, Unavailable
from foretaste.kernel.events import UserRanked
from foretaste.kernel.ports import Clock, Events
from foretaste.kernel.users import UserFeatures
from foretaste.kernel.values import Attributes
from serving.metrics import RankingMetrics
from serving.requests import RankResponse

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Served:
    """An answer and what it was made from, by reference: to note one costs a request next to nothing."""

    response: RankResponse
    context: Attributes
    features: UserFeatures
    warm_after: int
    """Of the generation that served."""
    shown: int
    """How many items, from the best on, the user gets to see."""
    at: float
    """Seconds since the epoch."""

    def event(self) -> UserRanked:
        """As `user-ranked` carries it. By popularity no generation served, so none is named."""
        response, behaviour = self.response, self.features.behaviour
        shown = response.ranked[: self.shown]
        # all of it was checked where it came in, and a second time costs more than everything else here
        return UserRanked.model_construct(
            ranking_id=response.ranking_id,
            user_id=response.user_id,
            at=datetime.fromtimestamp(self.at, UTC),
            items=tuple(each.item_id for each in shown),
            scores=tuple(each.score for each in shown),
            context=self.context,
            attributes=self.features.attributes,
            behaviour_items=tuple(behaviour.items),
            behaviour_actions=tuple(behaviour.actions),
            behaviour_times=tuple(behaviour.times),
            served_by=response.served_by,
            fallback=response.fallback,
            reason=response.reason,
            zero_shot_generation=response.zero_shot_generation,
            ranking_generation=response.ranking_generation,
            warm_after=None if response.ranking_generation is None else self.warm_after,
        )


class Impressions(Protocol):
    """Where what was shown is noted."""

    def note(self, served: Served) -> None:
        """Never waits and never fails."""
        ...


class NoImpressions:
    """Keeps none: for a ranking that nobody gets to see."""

    def note(self, served: Served) -> None:
        """Nothing is kept."""


def _new_id() -> str:
    return uuid.uuid4().hex


@dataclass(frozen=True, slots=True)
class Showing:
    """What becomes of an answer that was given."""

    impressions: Impressions = field(default_factory=NoImpressions)
    shown: int = 20
    """How many items a user is taken to see where the request does not say; 0: none."""
    now: Clock = time.time
    """Seconds since the epoch."""
    new_id: Callable[[], str] = _new_id


class BufferedImpressions:
    """A bounded buffer in memory, sent to `topic` by one task in batches.

    1. `note` puts an answer into the buffer; where it holds `capacity`, the answer is dropped and counted.
    2. The task, made at the first note in the loop that it then belongs to, waits until there are `batch` of them or
       the oldest is `age` seconds old, and sends them: one request to Kafka for each would cost more than the answers.
       While Kafka is away they are sent again, for ever, with growing pauses of at most `max_backoff` seconds.
    3. They leave the buffer once they are durable. One that Kafka will never take (too large) is dropped and counted.
    4. `close` gives the rest some seconds; what is left then is dropped and counted, and so is what comes later.
    A process that is killed loses what is in its buffer: an answer is not held back for training's sake.
    """

    def __init__(
        self,
        events: Events,
        topic: str,
        metrics: RankingMetrics,
        *,
        capacity: int = 10_000,
        batch: int = 64,
        age: float = 0.2,
        now: Clock = time.time,
        max_backoff: float = 5.0,
    ) -> None:
        self._events = events
        self._topic = topic
        self._metrics = metrics
        self._capacity = capacity
        self._batch = batch
        self._age = age
        self._now = now
        self._buffer: deque[Served] = deque()
        self._some = asyncio.Event()
        self._enough = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._closing = False
        self._retrying = AsyncRetrying(
            retry=retry_if_exception_type(Unavailable),
            wait=wait_random_exponential(multiplier=0.1, max=max_backoff),
            before_sleep=self._tell,
            reraise=True,
        )

    def note(self, served: Served) -> None:
        if self._closing or len(self._buffer) >= self._capacity:
            self._metrics.impressions_lost(1)
            return
        self._buffer.append(served)
        self._some.set()
        if len(self._buffer) >= self._batch:
            self._enough.set()
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._drain(), name="impressions")

    async def close(self, grace: float = 5.0) -> None:
        """Send what is noted, within `grace` seconds. Close this before the events that it sends through."""
        self._closing = True
        task, self._task = self._task, None
        if task is None:
            return
        self._some.set()
        self._enough.set()
        await asyncio.wait({task}, timeout=grace)
        if task.cancel():
            await asyncio.wait({task})
            log.warning("impressions: %d were not sent within %.1f s, and are lost", len(self._buffer), grace)
        self._metrics.impressions_lost(len(self._buffer))
        self._buffer.clear()
        if not task.cancelled():
            task.result()

    async def _drain(self) -> None:
        while self._buffer or not self._closing:
            if not self._buffer:
                self._some.clear()
                await self._some.wait()
                continue
            await self._gathered()
            oldest = list(islice(self._buffer, self._batch))
            await self._send([each.event() for each in oldest])
            for _ in oldest:
                self._buffer.popleft()

    async def _gathered(self) -> None:
        """Until a batch is full, it is old enough, or this ends."""
        if len(self._buffer) < self._batch and not self._closing:
            self._enough.clear()
            with suppress(TimeoutError):
                # a clock that was set back holds nothing up for longer than `age`
                wait = min(self._age, self._buffer[0].at + self._age - self._now())
                await asyncio.wait_for(self._enough.wait(), wait)

    async def _send(self, events: Sequence[UserRanked]) -> None:
        try:
            await self._retrying(self._events.send_all, self._topic, [_keyed(each) for each in events])
        except InvalidInput as error:
            if len(events) == 1:
                log.warning("impressions: one is lost, of user %r: %s", events[0].user_id, error)
                self._metrics.impressions_lost(1)
                return
            for each in events:
                await self._send([each])
            return
        self._metrics.impressions_kept(len(events))

    def _tell(self, state: RetryCallState) -> None:
        if state.attempt_number == 1 and state.outcome is not None:
            log.warning("impressions: %d wait for Kafka: %s", len(self._buffer), state.outcome.exception())


def _keyed(event: UserRanked) -> tuple[bytes, bytes]:
    return event.user_id.encode(), event.model_dump_json().encode()
