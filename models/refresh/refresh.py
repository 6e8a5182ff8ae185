"""One refresh of both towers, from the training log to the swapped pointer: what `foretaste cotrain` does."""

import asyncio
import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

from foretaste import compose
from foretaste.console import Report
from foretaste.kernel.errors import ForetasteError, InvalidInput, Unavailable
from foretaste.kernel.leasing import leased
from foretaste.settings import Settings
from models.generations import catalogue as generation_jobs
from models.generations import publish as publishing
from models.generations.repository import published
from models.refresh import learn as learning
from models.refresh.learn import RefreshOrder
from models.refresh.records import Learning, Outcome, RunRecord, Runs, Unfinished, run_id

log = logging.getLogger(__name__)

DAY = 86_400.0
LOG_PATIENCE = 30.0
"""Seconds for the writers of the training log to come to where Kafka was when a refresh began."""


@dataclass(slots=True)
class _Course:
    """What is known of a run so far, and of its end, which nothing that comes later changes."""

    run: Unfinished
    began: float
    outcome: Outcome = Outcome.FAILED
    said: str = "a defect ended it"
    told: Learning | None = None
    over: bool = False
    """There is nothing for the next run to go on with."""
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        began = time.monotonic()
        try:
            yield
        finally:
            self.seconds[name] = round(time.monotonic() - began, 3)

    def end(self, outcome: Outcome, said: str) -> None:
        self.outcome, self.said, self.over = outcome, said, True

    def fail(self, error: ForetasteError) -> None:
        """What cannot succeed later is not gone on with."""
        if not self.over:
            self.said, self.over = str(error), not error.retriable

    def stop(self, said: str) -> None:
        if not self.over:
            self.said = said


async def refresh(settings: Settings, order: RefreshOrder, report: Report) -> RunRecord:
    """One refresh; once it has begun, a record is kept of it, whatever its end.

    1. The lease is taken: one refresh at a time.
    2. A run that was killed is gone on with, with its own window and base, where the same is asked for and the pointer
       has not moved since; else one begins, from the active generation on, once the log has what Kafka has by now.
    3. The log of its window is read, joined with what came of each ranking, and the candidate is trained, from its last
       checkpoint on where there is one, and exported with a parity check.
    4. The gate judges it by the newest rankings, which it has not learned from. Where it is not admitted, this ends.
    5. It is published: loaded beside the others, and compared with the training towers through Triton.
    6. It fills: sign-ups get virtual behaviour of both, and every cold or warming user is re-enriched.
    7. The pointer moves, by compare-and-set.
    8. Generations that are neither active, nor the one before, nor within those kept, are retired; with a part away
       they stay for the next refresh to retire.

    Killed between any two, the active generation serves on, and the next run of the same order completes this one; so
    it does after an error that is retriable, and after any other it begins anew. Raises `LeaseHeld`, `LeaseLost`, and
    what its steps raise.
    """
    runs, began = Runs(settings.home / "runs"), time.time()
    async with leased(compose.lease(settings, "refresh"), settings.lease_seconds) as lost:  # 1
        course = _Course(await _begun(settings, order, runs, began), began)  # 2
        try:
            await _carried_out(settings, order, course, runs, lost, report)
        except ForetasteError as error:
            course.fail(error)
            raise
        except asyncio.CancelledError:
            course.stop("its lease was lost" if lost.is_set() else "it was stopped")
            raise
        finally:
            record = _recorded(course)
            _keep(record, runs, lost, over=course.over)
    return record


async def _carried_out(
    settings: Settings, order: RefreshOrder, course: _Course, runs: Runs, lost: threading.Event, report: Report
) -> None:
    """Steps 3 to 8."""
    with course.step("learn"):
        learned = await asyncio.to_thread(learning.learn, settings, order, course.run, lost, report)  # 3
    course.told = learned.told
    if learned.number is None:
        return course.end(Outcome.NOTHING, learned.said)
    number, base = learned.number, course.run.base
    course.run = runs.keep(course.run.model_copy(update={"number": number, "learning": learned.told}))
    with course.step("gate"):
        report("gate", 0, 1)
        verdict = await asyncio.to_thread(learning.judged, settings, order, course.run, learned)  # 4
        report("gate", 1, 1)
    if not verdict.admits:
        return course.end(Outcome.REFUSED, "; ".join(verdict.reasons))
    with course.step("publish"):
        await publishing.load(settings, number, lambda step: report("publish", step, publishing.STEPS))  # 5
    with course.step("re-enrich"):
        coverage = await compose.reenriched(settings, number, report)  # 6
    said = f"{'; '.join(verdict.reasons)}; {coverage.users} users looked at, {coverage.missing} without its vector"
    with course.step("swap"):
        report("swap", 0, 1)
        await publishing.activate(settings, number, base, f"refresh {course.run.id}: {said}", filled=True)  # 7
        report("swap", 1, 1)
    course.end(Outcome.SWAPPED, f"generation {number} is active: {said}")
    with course.step("retire"):
        try:
            await _retire_others(settings, report)  # 8
        except ForetasteError as error:  # the swap is done all the same, and the next refresh retires them
            course.said += f"; older generations are not retired yet: {error}"


async def _begun(settings: Settings, order: RefreshOrder, runs: Runs, now: float) -> Unfinished:
    """The run to go on with, or a new one."""
    base = await publishing.active_number(settings)
    there = runs.unfinished()
    if there is not None and (there.base, there.asked) == (base, order.asked):
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
    await _check_logged(settings)
    return runs.keep(Unfinished(id=run_id(now), base=base, since_ms=since_ms, until_ms=until_ms, asked=order.asked))


async def _check_logged(settings: Settings) -> None:
    """An act that comes to the log after its window was read would be learned as none, and a ranking never.

    Raises `Unavailable` where the log stays behind what Kafka has by now.
    """
    left = await compose.log_unwritten(settings, LOG_PATIENCE)
    if left:
        problem = f"{left} events have waited {LOG_PATIENCE:g} s to be written: is `foretaste log` at work?"
        raise Unavailable("training log", problem)


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


def _keep(record: RunRecord, runs: Runs, lost: threading.Event, *, over: bool) -> None:
    """1. The record is written; 2. a run that is over is forgotten.

    Without the lease nothing is forgotten, and nothing written of a run that another refresh has brought to its end. A
    disk that takes no record changes no end: it is said aloud.
    """
    there = runs.unfinished()
    if lost.is_set() and (there is None or there.id != record.id):
        return
    try:
        runs.record(record)
    except Unavailable as error:
        log.warning("there is no record of refresh %s: %s", record.id, error)
    if over and not lost.is_set():
        runs.forget()


def _recorded(course: _Course) -> RunRecord:
    run = course.run
    return RunRecord(
        id=run.id,
        outcome=course.outcome,
        said=course.said,
        base=run.base,
        number=run.number,
        since_ms=run.since_ms,
        until_ms=run.until_ms,
        begun=datetime.fromtimestamp(course.began, UTC).isoformat(timespec="seconds"),
        seconds=round(time.time() - course.began, 3),
        steps=course.seconds,
        learning=course.told,
    )
