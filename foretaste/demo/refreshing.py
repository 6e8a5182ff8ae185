"""A refresh of both towers while sign-ups and rankings go on."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from foretaste.demo.acting import Acted
from foretaste.demo.stage import Stage
from foretaste.demo.traffic import During, Traffic, in_background
from foretaste.kernel.errors import ForetasteError
from foretaste.kernel.generations import Generation
from foretaste.kernel.ports import Events
from models.refresh.records import Outcome, RunRecord

if TYPE_CHECKING:
    from models.evaluation.verdict import Verdict

AFTERWARDS = 2.0
"""Seconds for which the traffic goes on once the refresh is over."""
PATIENCE = 10.0
"""Seconds in which everybody who signed up meanwhile must have virtual behaviour of the active generation."""
LOOK_EVERY = 0.1
READ_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class Refreshing:
    """What a refresh needs of the composition root."""

    refresh: Callable[[float], Awaitable[RunRecord]]
    """What `foretaste cotrain --once` runs, given since when it learns from the log (seconds since the epoch)."""
    verdict_of: "Callable[[int], Verdict]"
    open_events: Callable[[], Events]
    """For another process: it travels by pickle."""
    settles: float
    """Seconds after which the outcome of a ranking is known and in the log."""


@dataclass(frozen=True, slots=True)
class Refreshed:
    """What came of the refresh, and of the traffic meanwhile."""

    outcome: Outcome
    said: str
    record: RunRecord | None
    """None where it failed."""
    verdict: "Verdict | None"
    """None where nothing was judged."""
    during: During
    active: Generation
    """The one that serves afterwards."""
    enriched: int
    """Who signed up meanwhile and has virtual behaviour of the active generation."""

    @property
    def swapped(self) -> bool:
        return self.outcome is Outcome.SWAPPED and self.record is not None and self.record.number == self.active.number


async def refresh_under(stage: Stage, traffic: Traffic, refreshing: Refreshing, acted: Acted) -> Refreshed:
    """1. The traffic begins. 2. Once the log of what was acted has settled, the refresh runs, whatever its end.
    3. The traffic goes on for `AFTERWARDS`, and ends. 4. Who signed up meanwhile is looked at.

    Raises `Unavailable` when a part is away, and `ForetasteError` when the traffic's process died.
    """
    with in_background(traffic) as stop:  # 1
        await asyncio.sleep(max(acted.ended + refreshing.settles - time.time(), 0.0))
        record, outcome, said = await _ended(refreshing, acted.began)  # 2
        await asyncio.sleep(AFTERWARDS)
        during = await asyncio.to_thread(stop)  # 3
    judged = record is not None and record.outcome in {Outcome.SWAPPED, Outcome.REFUSED}
    verdict = (
        refreshing.verdict_of(record.number) if judged and record is not None and record.number is not None else None
    )
    active = await stage.parts.generations.active() or stage.generation
    enriched = await _enriched(stage, during.newcomers, active)  # 4
    return Refreshed(outcome, said, record, verdict, during, active, enriched)


async def _ended(refreshing: Refreshing, since: float) -> tuple[RunRecord | None, Outcome, str]:
    """A refresh that fails is a row of the table, not the end of it."""
    try:
        record = await refreshing.refresh(since)
    except ForetasteError as error:
        return None, Outcome.FAILED, str(error)
    return record, record.outcome, record.said


async def _enriched(stage: Stage, user_ids: Sequence[str], generation: Generation) -> int:
    """How many can be read with virtual behaviour of `generation`: all of them, or those after `PATIENCE`."""
    given_up = time.monotonic() + PATIENCE
    while True:
        found = 0
        for begin in range(0, len(user_ids), READ_AT_ONCE):
            read = await stage.parts.store.read(user_ids[begin : begin + READ_AT_ONCE], generation.number)
            found += sum(generation.virtual_of(user) is not None for user in read)
        if found == len(user_ids) or time.monotonic() > given_up:
            return found
        await asyncio.sleep(LOOK_EVERY)
