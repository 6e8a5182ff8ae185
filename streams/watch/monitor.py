"""The watch: rankings and acts as they happen, against what the active generation was trained on.

A generation that goes wrong right after it took over is taken back; see `streams.watch.rollback` for when.
"""

import logging
import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial

import numpy as np
from pydantic import BaseModel

from foretaste.kernel.batching import BatchPolicy
from foretaste.kernel.errors import InvalidInput, Unavailable
from foretaste.kernel.events import DeadLetter, Message, UserBehaved, UserErased, UserRanked
from foretaste.kernel.generations import Generation, Move
from foretaste.kernel.ports import Clock, Generations, OnlineStore, Towers
from foretaste.kernel.profile import Profile, read_profile
from foretaste.kernel.values import NO_ACTS
from streams.decoding import readable
from streams.topics import TopicNames
from streams.watch.replay import answered_by, blamed
from streams.watch.rollback import LEAST_BLAMED, evidence, lost_coverage
from streams.watch.rollback import faults as faults_of
from streams.watch.windows import WINDOW_SECONDS, Figures, MonitorWindow, Takeover, succeed
from streams.worker.collector import Collector, CollectorConfig
from streams.worker.metrics import Metrics

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class WatchConfig:
    """What a deployment decides of its watch. Times are in seconds."""

    topics: TopicNames = field(default_factory=TopicNames)
    collector: CollectorConfig = field(default_factory=lambda: CollectorConfig(BatchPolicy(size=256, age=0.25)))
    outcome: float = 1800.0
    """From an impression until it counts as not acted on."""
    guard: float = 900.0
    """After the pointer moved, in which a generation is guarded."""
    refresh: float = 1.0
    """How old the watch's knowledge of the pointer may be, and how long it waits until it judges again."""
    sample_every: float = 30.0
    """Between looks at the stored virtual behaviour of some users."""

    @property
    def group(self) -> str:
        """The watch's consumer group."""
        return f"{self.topics.prefix}foretaste-watch"


class Snapshot(BaseModel):
    """What the watch knows at one instant."""

    at: float
    """Seconds since the epoch."""
    active: int | None
    previous: int | None
    figures: Figures | None
    """None before the first generation."""
    unreadable: int
    """Events that could not be read, since the start; other ways make dead letters of them."""
    rollbacks: int
    """Since the start."""
    last_rollback: str | None
    """Why, in numbers."""


class Monitor:
    """Handles batches of `user-ranked` (`rankings`), of `user-behaved` (`acts`) and of `user-erased` (`erasures`).

    1. The events are decoded; what cannot be read is passed over.
    2. The active generation and its last move are read, unless that was done within `refresh` seconds and the events
       name no other generation. Raises `Unavailable`; nothing was counted yet, so that doing it again is harmless.
    3. The events are counted, as of their own times, and those that could not be read.
    4. At times, the stored virtual behaviour of some of these users is looked at.
    5. Within the guard after a move, the rules say whether the generation is suspected: of faults, or of a lost
       coverage where it had been filled.
    6. The newest rankings that went wrong are replayed. It is to blame for faults where it fails what the previous
       generation answers; for a lost coverage it is enough that the previous one answers.
    7. If it is to blame the pointer goes back, by compare-and-set.

    What fails because a part is away is tried again: 4 after `sample_every` seconds, 5 to 7 after `refresh` seconds,
    with the next batch. One watch sees all partitions; of several, each judges by the part that it sees. What it
    counted is lost when it stops: then 6 alone tells what was wrong before the move, and coverage is not judged.
    """

    def __init__(
        self,
        store: OnlineStore,
        towers: Towers,
        generations: Generations,
        config: WatchConfig | None = None,
        now: Clock = time.time,
    ) -> None:
        self._store = store
        self._towers = towers
        self._generations = generations
        self._config = config or WatchConfig()
        self._now = now
        self._window: MonitorWindow | None = None
        self._previous: int | None = None
        self._refreshed_at = self._sampled_at = self._judged_at = -math.inf
        self._unreadable = self._rollbacks = 0
        self._last_rollback: str | None = None

    async def rankings(self, messages: Sequence[Message]) -> None:
        """Steps 1 to 7 for a batch of `user-ranked`."""
        events = readable(messages, UserRanked)  # 1
        await self._refresh(event.ranking_generation for event in events)  # 2
        now = self._now()
        self._unreadable += len(messages) - len(events)  # 3
        if self._window is None:
            return
        oldest = now - WINDOW_SECONDS
        for event in events:
            at = min(event.at.timestamp(), now)
            if at > oldest:
                self._window.ranked(event, at)
        self._window.settle(now)
        await self._sample(self._window, now)  # 4
        await self._judge(self._window, now)  # 5 to 7

    async def acts(self, messages: Sequence[Message]) -> None:
        """Steps 1 to 3 for a batch of `user-behaved`."""
        events = readable(messages, UserBehaved)  # 1
        await self._refresh()  # 2
        now = self._now()
        self._unreadable += len(messages) - len(events)  # 3
        if self._window is not None:
            for event in (each for each in events if each.action not in NO_ACTS):
                self._window.acted(event, min(event.at.timestamp(), now))

    async def erasures(self, messages: Sequence[Message]) -> None:
        """Forget the users of a batch of `user-erased`."""
        if self._window is not None:
            for event in readable(messages, UserErased):
                self._window.forget(event.user_id)

    def snapshot(self) -> Snapshot:
        """As of now; it changes nothing."""
        now, window = self._now(), self._window
        return Snapshot(
            at=now,
            active=None if window is None else window.generation.number,
            previous=self._previous,
            figures=None if window is None else window.figures(now),
            unreadable=self._unreadable,
            rollbacks=self._rollbacks,
            last_rollback=self._last_rollback,
        )

    async def _refresh(self, named: Iterable[int | None] = ()) -> None:
        """Unless it is fresh, and the generations `named` by events are none but the active one."""
        now, window = self._now(), self._window
        fresh = now - self._refreshed_at < self._config.refresh
        if fresh and window is not None and set(named) <= {None, window.generation.number}:
            return
        serving = await self._generations.serving()
        moves = await self._generations.moves(1)
        if serving.active is None:
            return
        move = moves[0] if moves else None
        if move is not None and move.number != serving.active.number:
            return  # it moved between the two reads: they are made again
        self._refreshed_at, self._previous = now, serving.previous
        takeover = None if move is None else _takeover(move)
        if self._window is None or (self._window.generation.digest, self._window.takeover) != (
            serving.active.digest,
            takeover,
        ):
            later = MonitorWindow(serving.active, _profile(serving.active), takeover, self._config.outcome)
            self._window = succeed(self._window, later, now)

    async def _sample(self, window: MonitorWindow, now: float) -> None:
        if now - self._sampled_at < self._config.sample_every or not window.newest:
            return
        self._sampled_at = now
        try:
            users = await self._store.read(list(dict.fromkeys(window.newest)), window.generation.number)
        except Unavailable as error:
            log.info("watch: the stored virtual behaviour was not looked at: %s", error)
            return
        stored = [found.vectors for user in users if (found := window.generation.virtual_of(user)) is not None]
        norms = np.linalg.norm(np.array(stored, dtype=np.float64).reshape(len(stored), -1), axis=1) if stored else None
        window.virtual_norm = None if norms is None else float(norms.mean())

    async def _judge(self, window: MonitorWindow, now: float) -> None:
        previous = self._previous
        if (
            previous is None
            or not window.guarded(now, self._config.guard)
            or now - self._judged_at < self._config.refresh
        ):
            return
        after, before = window.counts(now), window.before
        faults = faults_of(after, before)  # 5
        coverage = lost_coverage(after, before) if window.filled else None
        if faults is None and coverage is None:
            return
        self._judged_at = now
        number, suspected = window.generation.number, "; ".join(filter(None, (faults, coverage)))
        try:
            reasons = await self._proven(window, previous, faults, coverage)  # 6
            if reasons:
                await self._go_back(window, previous, "; ".join([*reasons, evidence(after, before)]))  # 7
            else:
                log.info("generation %d is not to blame: %s; replayed, %d is no better", number, suspected, previous)
        except Unavailable as error:
            log.warning(
                "generation %d seems to go wrong, and cannot be rolled back yet (%s): %s", number, error, suspected
            )
        except InvalidInput as error:
            window.decided = True
            log.error("generation %d seems to go wrong, and cannot be rolled back: %s; %s", number, error, suspected)  # noqa: TRY400  # the message says it all

    async def _proven(
        self, window: MonitorWindow, previous: int, faults: str | None, coverage: str | None
    ) -> list[str]:
        """Those suspicions that hold once the rankings were replayed on both generations."""
        earlier = await self._generations.get(previous)
        if earlier is None:
            raise InvalidInput("generation", previous, "is not recorded any more")
        found = []
        if faults is not None:
            count = await blamed(self._towers, window.failed, window.generation, earlier)
            if count >= LEAST_BLAMED:
                found.append(f"{faults}; replayed, generation {previous} answers {count} that it fails")
        if coverage is not None and await answered_by(self._towers, window.uncovered, earlier) >= LEAST_BLAMED:
            found.append(coverage)
        return found

    async def _go_back(self, window: MonitorWindow, previous: int, reason: str) -> None:
        number, move = window.generation.number, f"rolled back by the watch: {reason}"
        moved = await self._generations.activate(previous, expected=number, reason=move)
        window.decided = True
        self._refreshed_at = -math.inf
        if moved:
            self._rollbacks += 1
            self._last_rollback = move
            log.error("generation %d was rolled back to %d: %s", number, previous, reason)


def watch_pipelines(
    monitor: Monitor,
    metrics: Metrics,
    config: WatchConfig,
    now: Clock = time.time,
    monotonic: Clock = time.monotonic,
) -> dict[str, Collector]:
    """The watch's collectors, by topic, for a worker of the group `config.group`."""

    async def dropped(letters: Sequence[DeadLetter]) -> None:
        metrics.dropped.labels("watch", "refused").inc(len(letters))
        log.warning("watch: %d events were refused: %s", len(letters), letters[0].detail)

    names = config.topics
    collector = partial(Collector, monotonic=monotonic, now=now)
    return {
        names.ranked: collector("watch-ranked", monitor.rankings, dropped, metrics, config.collector),
        names.behaved: collector("watch-behaved", monitor.acts, dropped, metrics, config.collector),
        names.erased: collector("watch-erased", monitor.erasures, dropped, metrics, config.collector),
    }


def _takeover(move: Move) -> Takeover:
    return Takeover(datetime.fromisoformat(move.at).timestamp(), move.came_from, move.filled)


def _profile(generation: Generation) -> Profile | None:
    try:
        return read_profile(generation.profile)
    except InvalidInput as error:
        log.warning("generation %d: drift is not measured, its profile cannot be read: %s", generation.number, error)
        return None
