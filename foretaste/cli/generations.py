"""`foretaste generations`: what there is, which one serves, and how to change that by hand."""

import asyncio
import json
import math
from collections.abc import Awaitable, Callable, Mapping
from typing import Annotated, TypeVar

import typer
from rich.table import Table
from rich.text import Text

from foretaste import compose
from foretaste.console import console
from foretaste.settings import Settings
from models.generations import catalogue
from models.generations import publish as publishing
from models.generations.publish import PublishParts

generations = typer.Typer(no_args_is_help=True, help="Generations: list them, look at one, choose the one that serves.")

Number = Annotated[int, typer.Argument(min=1, help="A generation.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
GAUCS = {"cold GAUC": "cold.virtual", "warm GAUC": "warm.real"}
COLOURS = {"active": "green", "previous": "cyan", "filling": "yellow"}


T = TypeVar("T")


def _on_parts(use: Callable[[PublishParts], Awaitable[T]]) -> T:
    """What `use` gives on the opened parts."""

    async def run() -> T:
        async with compose.publish_parts(compose.resolve(Settings())) as parts:
            return await use(parts)

    return asyncio.run(run())


@generations.command("list")
def list_(as_json: AsJson = False) -> None:
    """Every generation: its state, what it came from, and what it was worth in its own training's evaluation."""
    summaries = _on_parts(catalogue.summaries)
    if as_json:
        typer.echo(json.dumps([each.to_dict() for each in summaries]))
        return
    rows = Table("generation", "state", "created", "base", *GAUCS, "verdict")
    for each in summaries:
        state = Text(each.state, style=COLOURS.get(each.state, ""))
        gaucs = [_gauc(each.metrics, source) for source in GAUCS.values()]
        verdict = each.damage or each.verdict or ""
        rows.add_row(str(each.number), state, each.created_at or "", _or_none(each.base), *gaucs, verdict)
    console.print(rows)


@generations.command()
def show(number: Number, as_json: AsJson = False) -> None:
    """All that is known of one: its metrics, what the gate found, and each move of the pointer to it and from it."""
    details = _on_parts(lambda parts: catalogue.details(parts, number))
    if as_json:
        typer.echo(json.dumps(details.to_dict()))
        return
    summary = details.summary
    console.print(
        f"generation {number}, {summary.state}, of {summary.created_at}, from {_or_none(summary.base) or 'nothing'}"
    )
    figures = Table("metric", "value")
    for name, value in summary.metrics.items():
        figures.add_row(name, _figure(value))
    console.print(figures)
    if details.verdict is not None:
        console.print(f"verdict: {summary.verdict}", *details.verdict.reasons, sep="\n  ")
    moves = Table("at", "from", "to", "reason")
    for move in details.moves:
        moves.add_row(move.at, _or_none(move.came_from), str(move.number), move.reason)
    console.print(moves)


@generations.command()
def activate(number: Number, reason: Annotated[str, typer.Option(help="Kept with the move.")] = "by hand") -> None:
    """Point all readers to a generation that Triton answers for."""

    async def moved(parts: PublishParts) -> int | None:
        expected = await publishing.active_number(parts.generations)
        await publishing.activate(parts, number, expected, reason)
        return expected

    before = _on_parts(moved)
    console.print(f"generation {number} is active; before: {_or_none(before) or 'none'}")


@generations.command()
def rollback() -> None:
    """Point all readers back to the previous generation, at once: it is still loaded."""
    left, now = _on_parts(lambda parts: publishing.rollback(parts, "rollback by hand"))
    console.print(f"generation {now} is active again; {left} stays loaded")


@generations.command()
def retire(
    number: Number,
    delete: Annotated[bool, typer.Option("--delete", help="Delete its files too.")] = False,
) -> None:
    """Take a generation out of Triton for good. Its files stay, unless --delete; its number is not given again."""
    _on_parts(lambda parts: publishing.retire(parts, number, delete=delete))
    console.print(f"generation {number} is retired" + (" and deleted" if delete else ""))


def publish(
    generation: Annotated[int | None, typer.Argument(help="The newest where absent.")] = None,
) -> None:
    """Load a generation into Triton beside the others, then make it the active one."""
    Settings().made_home()
    number = _on_parts(lambda parts: publishing.publish(parts, generation))
    console.print(f"generation {number} is active")


def _gauc(metrics: Mapping[str, float], way: str) -> str:
    """With its 95 % interval where that is known."""
    value, low, high = (metrics.get(f"{way}.gauc{end}", math.nan) for end in ("", "_low", "_high"))
    interval = "" if math.isnan(low) or math.isnan(high) else f" [{low:.4f}, {high:.4f}]"
    return _figure(value) + interval


def _figure(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.4f}"


def _or_none(number: int | None) -> str:
    return "" if number is None else str(number)
