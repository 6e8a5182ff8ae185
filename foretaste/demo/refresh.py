"""A refresh of both towers while sign-ups and rankings go on."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from foretaste.demo.background_traffic import BackgroundTraffic, TrafficResult, running_traffic
from foretaste.demo.context import DemoContext
from foretaste.demo.interactions import InteractionResult
from foretaste.kernel.errors import ForetasteError
from foretaste.kernel.generations import Generation
from foretaste.kernel.ports import Events
from models.refresh.records import RefreshOutcome, RefreshRecord

if TYPE_CHECKING:
    from models.evaluation.verdict import Verdict

AFTERWARDS = 2.0
"""Seconds for which the traffic goes on once the refresh is over."""
PATIENCE = 10.0
"""Seconds in which all users who signed up meanwhile must have virtual behaviour of the active generation."""
LOOK_EVERY = 0.1
READ_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class RefreshPorts:
    """The functions and settings that the demo's refresh needs from the composition root."""

    refresh: Callable[[float], Awaitable[RefreshRecord]]
    """Runs what `foretaste cotrain --once` runs, on the log since a time (seconds since the epoch)."""
    verdict_of: "Callable[[int], Verdict]"
    open_events: Callable[[], Events]
    """Opens the producer of another process; it must pickle."""
    settles: float
    """Seconds after which the outcome of a ranking is known and in the log."""


@dataclass(frozen=True, slots=True)
class DemoRefresh:
    """The result of the refresh, and of the traffic during it."""

    outcome: RefreshOutcome
    detail: str
    """The sentence of the run record, or of the error."""
    record: RefreshRecord | None
    """None where it failed."""
    verdict: "Verdict | None"
    """None where nothing was judged."""
    during: TrafficResult
    active: Generation
    """The generation that serves afterwards."""
    enriched: int
    """Number of users who signed up during the refresh and have virtual behaviour of the active generation."""

    @property
    def swapped(self) -> bool:
        return (
            self.outcome is RefreshOutcome.SWAPPED
            and self.record is not None
            and self.record.number == self.active.number
        )


async def refresh_under_traffic(
    context: DemoContext, traffic: BackgroundTraffic, ports: RefreshPorts, interactions: InteractionResult
) -> DemoRefresh:
    """Refresh both towers while traffic goes on.

    1. The traffic begins. 2. Once the log of the interactions has settled, the refresh runs, whatever its outcome.
    3. The traffic goes on for `AFTERWARDS`, and ends. 4. The users who signed up meanwhile are read.

    Raises `Unavailable` when a part is away, and `ForetasteError` when the traffic's process died.
    """
    with running_traffic(traffic) as stop:  # 1
        await asyncio.sleep(max(interactions.ended + ports.settles - time.time(), 0.0))
        record, outcome, detail = await _run_refresh(ports, interactions.started)  # 2
        await asyncio.sleep(AFTERWARDS)
        during = await asyncio.to_thread(stop)  # 3
    gated = record is not None and record.outcome in {RefreshOutcome.SWAPPED, RefreshOutcome.REFUSED}
    verdict = ports.verdict_of(record.number) if gated and record is not None and record.number is not None else None
    active = await context.parts.generations.active() or context.generation
    enriched = await _enriched(context, during.newcomers, active)  # 4
    return DemoRefresh(outcome, detail, record, verdict, during, active, enriched)


async def _run_refresh(ports: RefreshPorts, since: float) -> tuple[RefreshRecord | None, RefreshOutcome, str]:
    """Run the refresh; a failed one is a row of the demo's table and does not end the demo."""
    try:
        record = await ports.refresh(since)
    except ForetasteError as error:
        return None, RefreshOutcome.FAILED, str(error)
    return record, record.outcome, record.detail


async def _enriched(context: DemoContext, user_ids: Sequence[str], generation: Generation) -> int:
    """Number of users with virtual behaviour of `generation`: as soon as all have it, or after `PATIENCE`."""
    given_up = time.monotonic() + PATIENCE
    while True:
        found = 0
        for begin in range(0, len(user_ids), READ_AT_ONCE):
            read = await context.parts.store.read(user_ids[begin : begin + READ_AT_ONCE], generation.number)
            found += sum(generation.virtual_of(user) is not None for user in read)
        if found == len(user_ids) or time.monotonic() > given_up:
            return found
        await asyncio.sleep(LOOK_EVERY)
