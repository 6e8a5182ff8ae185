"""One refresh of both towers, from the training log to the swapped pointer: what `foretaste cotrain` does."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

from foretaste import compose, generation_jobs, learning, publishing
from foretaste.console import Report
from foretaste.errors import ForetasteError, InvalidInput
from foretaste.learning import Learned, RefreshOrder
from foretaste.ports import Lease
from foretaste.runs import Outcome, RunRecord, Runs, Unfinished, run_id
from foretaste.settings import Settings
from models.publish import published

DAY = 86_400.0


class LeaseHeld(ForetasteError):
    """Another refresh is at work."""

    retriable = True


class LeaseLost(ForetasteError):
    """Another refresh may have begun meanwhile: this one has stopped, and moved nothing."""

    retriable = True


@dataclass(slots=True)
class _Timer:
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        began = time.monotonic()
        try:
            yield
        finally:
            self.seconds[name] = round(time.monotonic() - began, 3)


async def refresh(settings: Settings, order: RefreshOrder, report: Report) -> RunRecord:
    """One refresh; what came of it is kept as a record, whatever its end.

    1. The lease is taken: one refresh at a time.
    2. A run that was killed is gone on with, with its own window and base, unless the pointer has moved since; else one
       begins, from the active generation on.
    3. The log of its window is read, joined with what came of each ranking, and the candidate is trained, from its last
       checkpoint on where there is one, and exported with a parity check.
    4. The gate judges it by the newest rankings, which it has not learned from. Where it is not admitted, this ends.
    5. It is published: loaded beside the others, and compared with the training towers through Triton.
    6. It fills: sign-ups get virtual behaviour of both, and every cold or warming user is re-enriched.
    7. The pointer moves, by compare-and-set.
    8. Generations that are neither active, nor the one before, nor within those kept, are retired.

    Killed between any two, the active generation serves on, and the next run completes this one. Raises `LeaseHeld`,
    `LeaseLost`, and what its steps raise.
    """
    runs, began, timer = Runs(settings.home / "runs"), time.time(), _Timer()
    async with _leased(settings) as lost:  # 1
        run = await _begun(settings, order, runs, began)  # 2
        try:
            outcome, said, run, learned = await _carried_out(settings, order, run, runs, timer, lost, report)
        except ForetasteError as error:
            runs.record(_record(run, began, timer, Outcome.FAILED, str(error)))
            raise
        record = _record(run, began, timer, outcome, said, learned)
        runs.record(record)
        runs.forget()
    return record


async def _carried_out(
    settings: Settings,
    order: RefreshOrder,
    run: Unfinished,
    runs: Runs,
    timer: _Timer,
    lost: threading.Event,
    report: Report,
) -> tuple[Outcome, str, Unfinished, Learned | None]:
    """Steps 3 to 8."""
    with timer.step("learn"):
        learned = await asyncio.to_thread(learning.learn, settings, order, run, runs, lost, report)  # 3
    if learned.number is None:
        return Outcome.NOTHING, learned.said, run, learned
    number, run = learned.number, runs.keep(run.model_copy(update={"number": learned.number}))
    with timer.step("gate"):
        report("gate", 0, 1)
        verdict = await asyncio.to_thread(learning.judged, settings, order, run, learned)  # 4
        report("gate", 1, 1)
    if not verdict.admits:
        return Outcome.REFUSED, "; ".join(verdict.reasons), run, learned
    with timer.step("publish"):
        await publishing.load(settings, number, lambda step: report("publish", step, publishing.STEPS))  # 5
    with timer.step("re-enrich"):
        coverage = await compose.reenriched(settings, number, report)  # 6
    said = f"{'; '.join(verdict.reasons)}; {coverage.users} users looked at, {coverage.missing} without its vector"
    with timer.step("swap"):
        report("swap", 0, 1)
        await publishing.activate(settings, number, run.base, f"refresh {run.id}: {said}", filled=True)  # 7
        report("swap", 1, 1)
    with timer.step("retire"):
        await _retire_others(settings, report)  # 8
    return Outcome.SWAPPED, f"generation {number} is active: {said}", run, learned


async def _begun(settings: Settings, order: RefreshOrder, runs: Runs, now: float) -> Unfinished:
    """The run to go on with, or a new one."""
    base = await publishing.active_number(settings)
    there = runs.unfinished()
    if there is not None and (there.base, there.cold, there.seed) == (base, order.plan.cold, order.plan.seed):
        return there
    runs.forget()
    since_ms = 0
    if order.window_days is not None:
        since_ms = round((now - order.window_days * DAY) * 1000)
    elif base is not None and not order.plan.cold:
        since_ms = learning.learned_until_ms(settings, base)
    until_ms = round((now - settings.log_settles) * 1000)
    if since_ms >= until_ms:
        problem = (
            f"generation {base} has learned what lies before it, and it is {until_ms} ms: a clock is behind the log"
        )
        raise InvalidInput("window", since_ms, problem)
    return runs.keep(
        Unfinished(
            id=run_id(now), base=base, since_ms=since_ms, until_ms=until_ms, cold=order.plan.cold, seed=order.plan.seed
        )
    )


async def _retire_others(settings: Settings, report: Report) -> None:
    """Versions older than the active one that are not recorded are what a killed run left: they go first."""
    async with publishing.opened(settings) as (towers, generations):
        serving = await generations.serving()
        recorded = await generations.numbers()
        active = serving.active.number if serving.active is not None else 0
        for number in set(published(settings.repository)) - set(recorded):
            if number < active:
                await publishing.take_back(towers, number, settings.repository)
    filling = serving.filling.number if serving.filling is not None else None
    used = {active, serving.previous, filling}
    others = [number for number in recorded if number not in used][: max(len(recorded) - settings.keep, 0)]
    for done, number in enumerate(others):
        report("retire", done, len(others))
        await generation_jobs.retire(settings, number, delete=False)
        report("retire", done + 1, len(others))


@asynccontextmanager
async def _leased(settings: Settings) -> AsyncIterator[threading.Event]:
    """Inside, the lease is held and renewed; the event is set when it is lost, which ends what is inside."""
    lease = compose.lease(settings, "refresh")
    lost = threading.Event()
    try:
        if not await lease.take():
            raise LeaseHeld("another refresh is at work: its lease ends when it does, or some time after it died")
        try:
            async with asyncio.TaskGroup() as group:
                renewing = group.create_task(_renew(lease, settings.lease_seconds / 3, lost))
                try:
                    yield lost
                finally:
                    renewing.cancel()
        except ExceptionGroup as several:
            raise several.exceptions[0] from None
        finally:
            lost.set()  # whatever ended this, a thread that still trains ends too
            await lease.give_back()
    finally:
        await lease.close()


async def _renew(lease: Lease, every: float, lost: threading.Event) -> None:
    while True:
        await asyncio.sleep(every)
        if not await lease.renew():
            lost.set()
            raise LeaseLost("the lease went to another refresh: this one has stopped, and moved nothing")


def _record(
    run: Unfinished, began: float, timer: _Timer, outcome: Outcome, said: str, learned: Learned | None = None
) -> RunRecord:
    return RunRecord(
        id=run.id,
        outcome=outcome,
        said=said,
        base=run.base,
        number=run.number,
        since_ms=run.since_ms,
        until_ms=run.until_ms,
        begun=datetime.fromtimestamp(began, UTC).isoformat(timespec="seconds"),
        seconds=round(time.time() - began, 3),
        steps=timer.seconds,
        learning=None if learned is None else learned.told,
    )
