"""`python -m benchmarks refresh`: a dataset replayed by week, with generations refreshed on the log of each."""

import json
import shlex
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.machine import machine
from benchmarks.refresh.figures import replay_figures
from benchmarks.refresh.replay import ReplayPlan, replay
from benchmarks.refresh.report import draw, show, to_json, write
from foretaste.console import console, errors
from foretaste.kernel.errors import InvalidInput
from foretaste.settings import Settings
from models.data.sources.public import PUBLIC_DATA, fetch, open_dataset
from models.refresh.prepare import RefreshPlan
from models.study.page import file_name
from models.training.config import TrainingConfig


def refresh(  # noqa: PLR0913, PLR0917  # a command's options
    data: Annotated[str, typer.Option("--data", help="ml-1m, ml-100k, or a dataset folder.")] = "ml-1m",
    weeks: Annotated[int | None, typer.Option(min=2, help="At most; by default as many as hold new users.")] = None,
    negatives: Annotated[int, typer.Option(min=1, help="Shown beside each item that was acted on.")] = 4,
    since: Annotated[
        str | None, typer.Option("--from", help="When generation 1 ends, 2000-08-15 say; by default the data's split.")
    ] = None,
    until: Annotated[str | None, typer.Option(help="Nothing that comes later is read.")] = None,
    cold: Annotated[
        str, typer.Option(help="Weeks also ranked by a generation trained on all data before them; -1 is the last.")
    ] = "2,-1",
    rounds: Annotated[int, typer.Option(min=1, help="Of each such training and the refresh beside it, timed.")] = 3,
    resamples: Annotated[int, typer.Option(min=1, help="Bootstrap draws of the users, for the intervals.")] = 1000,
    threads: Annotated[int, typer.Option(min=1, help="Of torch.")] = 1,
    out: Annotated[Path, typer.Option(help="Folder of the figures and the chart.")] = Path("results"),
    home: Annotated[Path | None, typer.Option(help="Keep generation 1 there, and find it again.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as one JSON object.")] = False,
) -> None:
    """Replay a dataset by week: what refreshed generations are worth to new users, and how long a refresh takes.

    Generation 1 learns from what lies before the split. Each week is ranked, then logged, and refreshes the newest.
    """
    settings, facts = Settings(), machine()
    folder = fetch(data, settings.home / "data", report=_print_step) if data in PUBLIC_DATA else Path(data)
    dataset = open_dataset(data, settings.home / "data", _print_step)
    plan = ReplayPlan(
        since_ms=_instant("from", since),
        until_ms=_instant("until", until),
        weeks=weeks,
        negatives=negatives,
        training=TrainingConfig(device="cpu", threads=threads),
        refresh=RefreshPlan(catalogue=folder),
        cold_weeks=_numbers(cold),
        rounds=rounds,
        resamples=resamples,
    )
    command = _command(
        {"data": data, "weeks": weeks, "negatives": negatives, "from": since, "until": until, "cold": cold}
        | {"rounds": rounds, "resamples": resamples, "threads": threads, "out": out}
    )
    result = replay(dataset, plan, _print_step, home)
    figures = replay_figures(result.scores, plan.resamples)
    found = to_json(result, figures, plan, facts, command)
    name = file_name(dataset.description.name)
    write(found, out / f"refresh-{name}.json")
    draw(figures, out / f"refresh-{name}.svg")
    if as_json:
        typer.echo(json.dumps(found, allow_nan=False))
    else:
        show(console, found)
        console.print(f"the figures and the chart are {out / f'refresh-{name}'}.json and .svg", highlight=False)


def _instant(option: str, text: str | None) -> int | None:
    """A day or an instant in UTC as epoch milliseconds. Raises `InvalidInput` naming the option."""
    if text is None:
        return None
    try:
        instant = datetime.fromisoformat(text)
    except ValueError as error:
        raise InvalidInput(option, text, f"expected a day or a time such as 2000-08-15: {error}") from error
    return round((instant if instant.tzinfo else instant.replace(tzinfo=UTC)).timestamp() * 1000)


def _numbers(text: str) -> tuple[int, ...]:
    """The numbers of a text such as 2,-1. Raises `InvalidInput` for another text."""
    try:
        return tuple(int(part) for part in text.split(",") if part.strip())
    except ValueError as error:
        raise InvalidInput("cold", text, "expected numbers of weeks, such as 2,-1") from error


def _command(options: dict[str, Any]) -> str:
    """The command line that makes the same figures again."""
    given = [f"--{name}={value}" for name, value in options.items() if value is not None]
    return shlex.join(["python", "-m", "benchmarks", "refresh", *given])


def _print_step(step: str, done: int, total: int | None) -> None:
    errors.print(f"{step}: {done} of {total}" if total else step)
