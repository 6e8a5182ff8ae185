"""The learning way: one refresh of both towers, from the training log to the moved pointer.

This is what `foretaste cotrain` does. It reads top to bottom; `parts.py` beside it says what it works on.
"""

import threading
from functools import partial

from foretaste.kernel.errors import ForetasteError, InvalidInput, Unavailable
from foretaste.kernel.leasing import leased
from foretaste.kernel.ports import Report, no_report, reported
from foretaste.kernel.values import DAY_SECONDS
from models.generations import publish
from models.generations.manifest import read_manifest
from models.refresh.course import RefreshCourse, recorded
from models.refresh.expiry import delete_refused
from models.refresh.parts import RefreshParts, RefreshRequest
from models.refresh.records import CountsBasis, CountsFrom, RefreshOutcome, RefreshRecord, UnfinishedRefresh, refresh_id


async def refresh(parts: RefreshParts, request: RefreshRequest, report: Report = no_report) -> RefreshRecord:
    """One refresh; once it has started, a record is kept of it, whatever its end.

    1. Hold the lease: one refresh at a time.
    2. Begin, from the active generation on, once the log has what Kafka has by now; or resume a refresh that was
       killed, with its own window and base, where the request is the same and the pointer has not moved since. Where
       somebody who was erased is in the active generation's counts, the log is counted anew (`recount.py`). Files of
       candidates that were refused long ago are deleted.
    3. Learn: the log of the window is read, joined with the outcome of each ranking, and the candidate is trained,
       from its last checkpoint on where there is one, and exported with a parity check.
    4. Judge it by the newest rankings, which it has not learned from. A candidate that the gate refuses ends here.
    5. Publish: load it beside the others, and compare it with the training towers through Triton.
    6. Re-enrich: sign-ups get virtual behaviour of both generations, and so does every cold or warming user.
    7. Activate: the pointer moves, by compare-and-set.
    8. Retire generations that are neither in use nor within those kept; with a part away they stay for the next
       refresh to retire.

    After a kill between any two steps the active generation serves on, and the next refresh with the same request
    completes this one; so it does after an error that is retriable. After any other error the next one begins anew.
    Raises `LeaseHeld`, `LeaseLost`, and what its steps raise.
    """
    async with leased(parts.lease, parts.config.lease_seconds) as lost:  # 1 hold the lease
        run = await _begin_or_resume(parts, request)  # 2 begin or resume
        await delete_refused(parts, besides=run.number)
        with recorded(parts, run, lost) as course:
            await _complete(parts, request, course, lost, report)
        return course.record


async def _complete(
    parts: RefreshParts, request: RefreshRequest, course: RefreshCourse, lost: threading.Event, report: Report
) -> None:
    """Steps 3 to 8; `lost` is set when the lease is gone."""
    with course.step("learn"):
        learned = await parts.learner.learn(request, course.run, lost, report)  # 3 learn
    course.learned(learned.number, learned.record)
    if learned.number is None:
        return course.end(RefreshOutcome.NOTHING, learned.reason)
    with course.step("gate"), reported(report, "gate"):
        verdict = await parts.learner.judge(request, course.run, learned)  # 4 judge
    if not verdict.admits:
        return course.end(RefreshOutcome.REFUSED, "; ".join(verdict.reasons))
    number = learned.number
    with course.step("publish"):
        await publish.load(parts.publish, number, lambda step: report("publish", step, publish.STEPS))  # 5 publish
    with course.step("re-enrich"):
        coverage = await parts.reenrich(number, report)  # 6 re-enrich
    detail = f"{'; '.join(verdict.reasons)}; {coverage.users} users looked at, {coverage.missing} without its vector"
    with course.step("swap"), reported(report, "swap"):
        reason = f"refresh {course.run.id}: {detail}"
        await publish.activate(parts.publish, number, course.run.base, reason, filled=True)  # 7 activate
    course.end(RefreshOutcome.SWAPPED, f"generation {number} is active: {detail}")
    with course.step("retire"):
        try:
            await publish.retire_old(parts.publish, parts.config.keep, partial(report, "retire"))  # 8 retire
        except ForetasteError as error:  # the swap is done all the same, and the next refresh retires them
            course.detail += f"; older generations are not retired yet: {error}"
    return None


async def _begin_or_resume(parts: RefreshParts, request: RefreshRequest) -> UnfinishedRefresh:
    """The refresh to resume, or a new one. Raises `Unavailable` where the log stays behind what Kafka has by now: an
    act that comes to the log after its window was read would be learned as none, and a ranking never."""
    now = parts.clock()
    base = await publish.active_number(parts.publish.generations)
    unfinished = parts.records.unfinished()
    if unfinished is not None and await _is_resumed(parts, request, unfinished, base):
        return unfinished
    parts.records.forget()
    unlogged = await parts.unlogged()
    if unlogged:
        raise Unavailable("training log", f"{unlogged} events wait to be written: is `foretaste log` at work?")
    basis = await _basis(parts, request, base)  # now, since an erasure may have come to the log meanwhile
    since_ms = _window_start(parts, request, base, now, basis)
    until_ms = round((now - parts.config.log_settles) * 1000)
    if since_ms >= until_ms:
        problem = (
            f"generation {base} has learned what lies before it, and it is {until_ms} ms: a clock is behind the log"
        )
        raise InvalidInput("window", since_ms, problem)
    run = UnfinishedRefresh(
        id=refresh_id(now),
        base=base,
        since_ms=since_ms,
        until_ms=until_ms,
        requested=request.requested,
        counts=basis.counts,
        erased={digest.hex(): at_ms for digest, at_ms in basis.erased.items()},
    )
    return parts.records.keep(run)


async def _basis(parts: RefreshParts, request: RefreshRequest, base: int | None) -> CountsBasis:
    return await parts.learner.basis(None if request.plan.cold else base)


async def _is_resumed(
    parts: RefreshParts, request: RefreshRequest, unfinished: UnfinishedRefresh, base: int | None
) -> bool:
    """Whether the unfinished refresh is the one that is requested, and nobody was erased whom its candidate counted."""
    if (unfinished.base, unfinished.requested) != (base, request.requested):
        return False
    if unfinished.counts != (await _basis(parts, request, base)).counts:
        return False
    return unfinished.number is None or (await parts.learner.basis(unfinished.number)).counts is CountsFrom.BASE


def _window_start(
    parts: RefreshParts, request: RefreshRequest, base: int | None, now: float, basis: CountsBasis
) -> int:
    """Where the window begins (epoch milliseconds): as requested, else where what is counted ends."""
    if request.window_days is not None:
        return round((now - request.window_days * DAY_SECONDS) * 1000)
    if base is None or request.plan.cold:
        return 0
    if basis.since_ms is not None:
        return basis.since_ms
    return read_manifest(parts.publish.artifact(base)).split_ms
