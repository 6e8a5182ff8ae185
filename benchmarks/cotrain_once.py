"""How long `foretaste cotrain --once` takes from its start to the swapped pointer, on a log as large as a dataset's.

    python -m benchmarks cotrain-once --json

A stack of its own in a temporary folder, with a worker, the writer of the log, the watch and the ranking service.
Generation 1 is trained for one epoch on what lies before the data's split; all users are in the store, and what
happened after the split is the training log: the rankings of `benchmarks.refresh.week_log`, moved to end now.
"""

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

import pyarrow.compute as pc
import typer

from benchmarks.machine import machine
from benchmarks.own_stack import own_settings
from benchmarks.refresh.week_log import WEEK_MS, Week, log_of
from benchmarks.swap.generations import attributes_of, write_generations
from foretaste import compose, embedded
from foretaste.console import errors
from foretaste.kernel.errors import ForetasteError
from foretaste.kernel.events import UserBehaved, UserRanked
from foretaste.kernel.ports import Logged
from foretaste.kernel.users import EnrichedUser, VirtualBehaviour
from foretaste.settings import Settings
from foretaste.stack.environment import ensure_triton_environment
from foretaste.stack.stack import Stack, plan
from models.data.dataset import Dataset
from models.data.sources.public import open_dataset
from models.data.split import split_by_time
from models.generations import publish as publishing
from models.refresh.records import RefreshRecord
from models.training.config import TrainingConfig

FIRST, SECOND = 1, 2
AT_ONCE = 4096
LONGEST = 900.0
"""Seconds that one refresh may take."""


def cotrain_once(
    data: Annotated[str, typer.Option(help="ml-1m, ml-100k, or a dataset folder.")] = "ml-1m",
    weeks: Annotated[int, typer.Option(min=1, help="Of the data after their split, which the log holds.")] = 12,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Time `foretaste cotrain --once`, from its start to the moved pointer, on a log as large as a dataset's."""
    facts, settings = machine(), Settings()
    dataset = open_dataset(data, settings.home / "data", _print_step)
    environment = ensure_triton_environment(settings.home, _print_step)
    with tempfile.TemporaryDirectory(prefix="foretaste-cotrain-") as folder, ExitStack() as opened:
        own = own_settings(settings.model_copy(update={"home": Path(folder)}))
        config = TrainingConfig(device="cpu").with_epochs(1)
        write_generations(dataset, config, own.generations, FIRST, 0, _print_step)
        brought = {"kafka": own.kafka} if own.kafka else {}
        stack = opened.enter_context(Stack(own.home, plan(own.home, brought, triton_environment=environment)))
        own = compose.resolve(own)
        embedded.prepare(own)
        asyncio.run(_publish(own))
        asyncio.run(_store_users(own, dataset))
        since_ms = split_by_time(dataset).instant_ms
        errors.print("writing the log")
        asyncio.run(_write_log(own, log_of(dataset, Week(1, since_ms, since_ms + weeks * WEEK_MS), 4, 0)))
        embedded.start_processes(stack, own)
        errors.print("cotrain --once")
        record, seconds = _refreshed(own, stack)
        active = asyncio.run(_active(own))
    found = _figures(record, seconds, len(dataset.users), active)
    text = "\n".join(f"{name:20} {value}" for name, value in found.items())
    typer.echo(json.dumps({"machine": facts, "data": data, "weeks": weeks, **found}) if as_json else text)


def _print_step(step: str, done: int, total: int | None) -> None:
    if done == total:
        errors.print(f"{step}: done")


async def _publish(settings: Settings) -> None:
    async with compose.publish_parts(settings) as parts:
        await publishing.publish(parts, FIRST)


async def _active(settings: Settings) -> int | None:
    async with compose.publish_parts(settings) as parts:
        return await publishing.active_number(parts.generations)


async def _store_users(settings: Settings, dataset: Dataset) -> None:
    """Write all users, with virtual behaviour of generation 1."""
    names, rows = dataset.users["user_id"].tolist(), attributes_of(dataset)
    at_ms = round(time.time() * 1000) - 1
    async with compose.parts(settings) as parts:
        for start in range(0, len(names), AT_ONCE):
            own = rows[start : start + AT_ONCE]
            vectors = await parts.towers.virtual_behaviour(own, FIRST)
            enriched = zip(names[start : start + AT_ONCE], own, vectors, strict=True)
            await parts.store.write_enriched(
                [
                    EnrichedUser(str(name), each, VirtualBehaviour(FIRST, vector), at_ms)
                    for name, each, vector in enriched
                ]
            )


async def _write_log(settings: Settings, logged: Logged) -> None:
    """Write the log as the log's writers do, with all times moved so that the newest is a minute old."""
    log = compose.training_log(settings)
    newest: Any = pc.max(logged.rankings["at"])
    moved = timedelta(seconds=time.time() - 60 - newest.as_py().timestamp())
    for table in logged.rankings.to_batches(AT_ONCE):
        await log.write_rankings([_ranked(row, moved) for row in table.to_pylist()])
    for table in logged.behaviours.to_batches(AT_ONCE):
        rows = table.to_pylist()
        await log.write_behaviours([UserBehaved.model_construct(**{**row, "at": row["at"] + moved}) for row in rows])


def _ranked(row: dict[str, Any], moved: timedelta) -> UserRanked:
    decoded = {name: json.loads(row[name]) for name in ("context", "attributes")}
    return UserRanked.model_construct(**{**row, **decoded, "at": row["at"] + moved})


def _refreshed(settings: Settings, stack: Stack) -> tuple[RefreshRecord, float]:
    """The record that `foretaste cotrain --once` prints, and the seconds that its process took."""
    shared = {"FORETASTE_PROJECT": settings.project, "FORETASTE_TOPIC_PREFIX": settings.topic_prefix}
    command = [sys.executable, "-m", "foretaste", "cotrain", "--once", "--device", "cpu", "--json"]
    started = time.monotonic()
    ended = subprocess.run(  # noqa: S603  # this very command
        command, env={**os.environ, **stack.variables, **shared}, stdout=subprocess.PIPE, timeout=LONGEST, check=False
    )
    seconds = time.monotonic() - started
    if not ended.stdout:
        raise ForetasteError(f"the refresh ended with status {ended.returncode}, and printed nothing")
    return RefreshRecord.model_validate_json(ended.stdout.splitlines()[-1]), seconds


def _figures(record: RefreshRecord, seconds: float, users: int, active: int | None) -> dict[str, Any]:
    learned = record.learning
    return {
        "outcome": record.outcome,
        "detail": record.detail,
        "seconds": round(seconds, 1),
        "under_five_minutes": active == SECOND and seconds < 300,
        "active": active,
        "users": users,
        "rankings": learned and learned.rankings,
        "impressions": learned and learned.impressions,
        "training_steps": learned and learned.steps,
        "steps": {name: round(each, 2) for name, each in record.steps.items()},
    }
