"""`foretaste generations`: what there is, which one serves, and how to change that by hand."""

import asyncio
import json
import math
from collections.abc import Mapping
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from foretaste import compose
from foretaste.console import console
from foretaste.settings import Settings
from models.generations import catalogue as jobs

generations = typer.Typer(no_args_is_help=True, help="Generations: list them, look at one, choose the one that serves.")

Number = Annotated[int, typer.Argument(min=1, help="A generation.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
GAUCS = {"cold GAUC": "cold.virtual", "warm GAUC": "warm.real"}
COLOURS = {"active": "green", "previous": "cyan", "filling": "yellow"}


@generations.command("list")
def list_(as_json: AsJson = False) -> None:
    """Every generation: its state, what it came from, and what it was worth in its own training's evaluation."""
    entries = asyncio.run(jobs.entries(compose.resolve(Settings())))
    if as_json:
        typer.echo(json.dumps([jobs.entry_as_json(entry) for entry in entries]))
        return
    rows = Table("generation", "state", "created", "base", *GAUCS, "verdict")
    for entry in entries:
        state = Text(entry.state, style=COLOURS.get(entry.state, ""))
        gaucs = [_gauc(entry.metrics, way) for way in GAUCS.values()]
        verdict = entry.damage or entry.verdict or ""
        rows.add_row(str(entry.number), state, entry.created_at or "", _or_none(entry.base), *gaucs, verdict)
    console.print(rows)


@generations.command()
def show(number: Number, as_json: AsJson = False) -> None:
    """All that is known of one: its metrics, what the gate found, and each move of the pointer to it and from it."""
    details = asyncio.run(jobs.details(compose.resolve(Settings()), number))
    if as_json:
        typer.echo(json.dumps(jobs.as_json(details)))
        return
    entry = details.entry
    console.print(
        f"generation {number}, {entry.state}, of {entry.created_at}, from {_or_none(entry.base) or 'nothing'}"
    )
    figures = Table("metric", "value")
    for name, value in entry.metrics.items():
        figures.add_row(name, _figure(value))
    console.print(figures)
    if details.verdict is not None:
        console.print(f"verdict: {entry.verdict}", *details.verdict.reasons, sep="\n  ")
    moves = Table("at", "from", "to", "reason")
    for move in details.moves:
        moves.add_row(move.at, _or_none(move.came_from), str(move.number), move.reason)
    console.print(moves)


@generations.command()
def activate(number: Number, reason: Annotated[str, typer.Option(help="Kept with the move.")] = "by hand") -> None:
    """Point all readers to a generation that Triton answers for."""
    before = asyncio.run(jobs.activate(compose.resolve(Settings()), number, reason))
    console.print(f"generation {number} is active; before: {_or_none(before) or 'none'}")


@generations.command()
def rollback() -> None:
    """Point all readers back to the previous generation, at once: it is still loaded."""
    left, now = asyncio.run(jobs.rollback(compose.resolve(Settings())))
    console.print(f"generation {now} is active again; {left} stays loaded")


@generations.command()
def retire(
    number: Number,
    delete: Annotated[bool, typer.Option("--delete", help="Delete its files too.")] = False,
) -> None:
    """Take a generation out of Triton for good. Its files stay, unless --delete; its number is not given again."""
    asyncio.run(jobs.retire(compose.resolve(Settings()), number, delete=delete))
    console.print(f"generation {number} is retired" + (" and deleted" if delete else ""))


def _gauc(metrics: Mapping[str, float], way: str) -> str:
    """With its 95 % interval where that is known."""
    value, low, high = (metrics.get(f"{way}.gauc{end}", math.nan) for end in ("", "_low", "_high"))
    interval = "" if math.isnan(low) or math.isnan(high) else f" [{low:.4f}, {high:.4f}]"
    return _figure(value) + interval


def _figure(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.4f}"


def _or_none(number: int | None) -> str:
    return "" if number is None else str(number)
