"""`foretaste cotrain`: refresh both towers from the training log, once or again and again."""

import asyncio
import json
import os
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias

import typer

from foretaste import compose
from foretaste.console import console, errors, progress
from foretaste.kernel.errors import ForetasteError, InvalidInput
from foretaste.kernel.ports import Report, no_report
from foretaste.kernel.running.logs import write_logs
from foretaste.settings import Settings
from models.refresh.schedule import Cron, Every, Schedule

if TYPE_CHECKING:
    from models.refresh.parts import RefreshRequest
    from models.refresh.records import RefreshRecord

Device: TypeAlias = Literal["auto", "cpu", "cuda"]
REFUSED = 3
"""Exit status where the gate did not admit the candidate, or there was nothing to learn."""


def cotrain(  # noqa: PLR0913, PLR0917  # a command's options
    once: Annotated[bool, typer.Option("--once", help="One refresh.")] = False,
    every: Annotated[str | None, typer.Option(help="One after another, so often: 90s, 30m, 6h, 1d.")] = None,
    cron: Annotated[str | None, typer.Option(help="When a cron expression says: '0 */6 * * *', in UTC.")] = None,
    cold: Annotated[bool, typer.Option("--cold", help="Learn anew, not from the active generation on.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Publish whatever the gate says; it is recorded.")] = False,
    days: Annotated[
        float | None, typer.Option(help="Of the log; by default what the active generation has not learned.")
    ] = None,
    catalogue: Annotated[
        Path | None, typer.Option(help="A dataset folder that tells the attributes of new items.")
    ] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Passes over the window.")] = None,
    device: Annotated[Device, typer.Option(help="What to train on.")] = "auto",
    compiled: Annotated[bool, typer.Option("--compile", help="Compile the ranking tower: pays in long runs.")] = False,
    seed: Annotated[int, typer.Option(min=0, help="Of every random draw.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the record of each run as JSON.")] = False,
) -> None:
    """Refresh both towers from the training log: train, judge, publish, re-enrich, swap. Several GPUs: torchrun."""
    from models.refresh.parts import RefreshRequest
    from models.refresh.prepare import RefreshPlan
    from models.training.processes import is_one_of_several

    plan = RefreshPlan(cold=cold, catalogue=catalogue, device=device, epochs=epochs, seed=seed)
    request = RefreshRequest(plan, window_days=days, force=force, compile=compiled)
    if days is not None and days <= 0:
        raise InvalidInput("days", days, "must be above 0")
    schedule = _schedule(once=once, every=every, cron=cron)
    if is_one_of_several(os.environ) and schedule is not None:
        raise InvalidInput("once", once, "torchrun's processes make one refresh: give --once, and schedule torchrun")
    settings = compose.resolve(Settings())
    settings.made_home()
    write_logs()
    stand_back()
    if is_one_of_several(os.environ) and os.environ.get("RANK") != "0":
        asyncio.run(_accompany(settings, request))
    elif schedule is None:
        _end(_run(settings, request, as_json=as_json))
    else:
        _repeat(settings, request, schedule, as_json=as_json)


def stand_back() -> None:
    """What serves goes first: before this process, and before its session unless others, a terminal say, share it."""
    from foretaste.stack.guard import lower_session
    from models.runtime.priority import NICENESS, yield_to_what_serves

    if os.getsid(0) == os.getpid():
        lower_session(NICENESS)
    yield_to_what_serves()


def _repeat(settings: Settings, request: "RefreshRequest", schedule: Schedule, *, as_json: bool) -> None:
    """Until Ctrl-C. A refresh that failed is said aloud, and the next one goes on with it."""
    while True:
        started = datetime.now(UTC)
        try:
            _run(settings, request, as_json=as_json)
        except ForetasteError as error:
            errors.print(f"error {error}")
        due = schedule.after(started, datetime.now(UTC))
        if not as_json:
            console.print(f"the next refresh begins at {due:%Y-%m-%d %H:%M:%S} UTC", highlight=False)
        time.sleep(max((due - datetime.now(UTC)).total_seconds(), 0.0))


def _run(settings: Settings, request: "RefreshRequest", *, as_json: bool) -> "RefreshRecord":
    if as_json:
        record = asyncio.run(_refreshed(settings, request, no_report))
        typer.echo(json.dumps(record.model_dump(mode="json")))
        return record
    with progress() as report:
        record = asyncio.run(_refreshed(settings, request, report))
    console.print(f"{record.outcome} after {record.seconds:.1f} s: {record.detail}", highlight=False)
    for notice in record.learning.notices if record.learning is not None else ():
        console.print(notice, highlight=False)
    return record


async def _refreshed(settings: Settings, request: "RefreshRequest", report: Report) -> "RefreshRecord":
    from models.refresh.refresh import refresh

    async with compose.refresh_parts(settings) as parts:
        return await refresh(parts, request, report)


async def _accompany(settings: Settings, request: "RefreshRequest") -> None:
    """In a process that torchrun started beside the first one."""
    async with (
        compose.publish_parts(settings) as parts,
        compose.learner(settings, parts.generations) as learner,
    ):
        await learner.accompany(request)


def _end(record: "RefreshRecord") -> None:
    from models.refresh.records import RefreshOutcome

    if record.outcome is not RefreshOutcome.SWAPPED:
        raise typer.Exit(REFUSED)


def _schedule(*, once: bool, every: str | None, cron: str | None) -> Schedule | None:
    """None: once. Raises `InvalidInput` unless exactly one of the three is asked for."""
    if sum((once, every is not None, cron is not None)) != 1:
        raise InvalidInput(
            "once, every, cron", (once, every, cron), "give one of --once, --every 6h, --cron '0 3 * * *'"
        )
    if every is not None:
        return Every.parse(every)
    return None if cron is None else Cron.parse(cron)
