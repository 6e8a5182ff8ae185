"""The system at a glance: what can be read from this one process, bounded by a look a second."""

import asyncio
import math
import time
from collections.abc import Awaitable
from datetime import UTC, datetime
from typing import TypeVar

from prometheus_client import CollectorRegistry, Metric

from foretaste.kernel.errors import Unavailable
from foretaste.kernel.generations import Generation
from foretaste.kernel.ports import Clock, OnlineStore
from foretaste.kernel.service_ports import EventCounts
from serving.active import ActiveGeneration
from serving.console.bodies import ConsoleOverview, EventsSeen, RankingSeconds, UserCounts
from serving.console.census import UserCensus

RECENT = 1.0
"""Seconds for which everybody is told the same."""
_ANSWERS, _SECONDS = "foretaste_rank_answers", "foretaste_rank_seconds"

Found = TypeVar("Found")


class OverviewReader:
    """Offsets of topics, lag of consumer groups, users by stage, and the rankings of this process.

    Several who ask at once share one look; nothing is looked at while nobody asks. `clock` counts seconds
    monotonically, `now` since the epoch.
    """

    def __init__(
        self,
        store: OnlineStore,
        active: ActiveGeneration,
        counts: EventCounts,
        registry: CollectorRegistry,
        *,
        clock: Clock = time.monotonic,
        now: Clock = time.time,
    ) -> None:
        self._active = active
        self._counts = counts
        self._registry = registry
        self._census = UserCensus(store)
        self._clock = clock
        self._now = now
        self._lock = asyncio.Lock()
        self._seen: ConsoleOverview | None = None
        self._looked_at = 0.0

    async def get(self) -> ConsoleOverview:
        """At most `RECENT` seconds old. A part that is away is named, and never makes an error."""
        async with self._lock:
            if self._seen is None or self._clock() - self._looked_at >= RECENT:
                self._seen = await self._look()
                self._looked_at = self._clock()
            return self._seen

    async def _look(self) -> ConsoleOverview:
        away: list[str] = []
        generation = await _unless_away(self._active.get(), away)
        counts, users = await asyncio.gather(
            _unless_away(self._counts.counts(), away), _unless_away(self._users(generation), away)
        )
        families = {family.name: family for family in self._registry.collect()}
        return ConsoleOverview(
            at=datetime.fromtimestamp(self._now(), UTC),
            generation=None if generation is None else generation.number,
            events={
                name: EventsSeen(events=each.events, unhandled=each.unhandled) for name, each in (counts or {}).items()
            },
            users=users,
            answers=_answers(families.get(_ANSWERS)),
            ranking_seconds=_seconds(families.get(_SECONDS)),
            away=sorted(set(away)),
        )

    async def _users(self, generation: Generation | None) -> UserCounts | None:
        return None if generation is None else await self._census.look(generation)


async def _unless_away(answer: Awaitable[Found], away: list[str]) -> Found | None:
    try:
        return await answer
    except Unavailable as error:
        away.append(error.part)
        return None


def _answers(family: Metric | None) -> dict[str, int]:
    found: dict[str, int] = {}
    for sample in () if family is None else family.samples:
        if sample.name == f"{_ANSWERS}_total":
            served_by = sample.labels["served_by"]
            found[served_by] = found.get(served_by, 0) + int(sample.value)
    return found


def _seconds(family: Metric | None) -> RankingSeconds:
    """All labels together. Prometheus's buckets each count the ones below them too."""
    below: dict[float, int] = {}
    for sample in () if family is None else family.samples:
        if sample.name == f"{_SECONDS}_bucket":
            upper = float(sample.labels["le"])
            below[upper] = below.get(upper, 0) + int(sample.value)
    bounds = sorted(below)
    counts = [below[upper] - (below[bounds[at - 1]] if at else 0) for at, upper in enumerate(bounds)]
    return RankingSeconds(upper=[upper for upper in bounds if math.isfinite(upper)], counts=counts)
