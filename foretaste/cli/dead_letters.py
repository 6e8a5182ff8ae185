"""`foretaste dead-letters`: what could not be processed; look at it, and send it again once the cause is mended."""

import asyncio
import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from foretaste import compose
from foretaste.console import console
from foretaste.kernel.errors import InvalidInput
from foretaste.kernel.events import Reason
from foretaste.settings import Settings

if TYPE_CHECKING:
    from streams.worker.dead_letter_reader import KeptLetter
    from streams.worker.dead_letter_replay import Kept, ReplayChoice

dead_letters = typer.Typer(help="Events that could not be processed; without a command, the newest.")

LimitOption = Annotated[int, typer.Option(min=1, help="Newest of each partition, at most.")]
JsonOption = Annotated[bool, typer.Option("--json", help="A line of JSON each, with the whole event.")]
ReasonOption = Annotated[list[Reason] | None, typer.Option("--reason", help="Only those with this reason; repeatable.")]


@dead_letters.callback(invoke_without_command=True)
def newest(context: typer.Context, limit: LimitOption = 100, as_json: JsonOption = False) -> None:
    """Events that could not be processed; without a command, the newest."""
    if context.invoked_subcommand is None:
        _print(asyncio.run(_letters(Settings(), limit)), as_json=as_json)


@dead_letters.command("list")
def list_letters(limit: LimitOption = 100, reason: ReasonOption = None, as_json: JsonOption = False) -> None:
    """Show dead letters: place, origin, reason, attempts, detail and the event as it came."""
    letters = asyncio.run(_letters(Settings(), limit))
    _print([each for each in letters if not reason or each.letter.reason in reason], as_json=as_json)


@dead_letters.command()
def show(place: Annotated[str, typer.Argument(help="As `list` names it: 0@12.")]) -> None:
    """Show one dead letter, whole, as JSON."""
    for each in asyncio.run(_letters(Settings(), None)):
        if each.place == place:
            typer.echo(json.dumps(_told(each), indent=2))
            return
    raise InvalidInput("place", place, "no dead letter lies there")


@dead_letters.command()
def replay(
    places: Annotated[list[str] | None, typer.Argument(help="As `list` names them; all where none is given.")] = None,
    reason: ReasonOption = None,
    attempts: Annotated[int, typer.Option(min=1, help="A letter that was replayed so often is left alone.")] = 3,
) -> None:
    """Send dead letters to their topics again, each once; what dies again is a letter with one attempt more."""
    from streams.worker.dead_letter_replay import ReplayChoice

    choice = ReplayChoice(reason or (), places or (), attempts)
    sent, left = asyncio.run(_replayed(Settings(), choice))
    console.print(f"{sent} replayed")
    for why, count in left.items():
        console.print(f"{count} left: {why}")


async def _letters(settings: Settings, limit: int | None) -> "list[KeptLetter]":
    from streams.topics import TopicNames
    from streams.worker.dead_letter_reader import kept_letters

    names = TopicNames(settings.topic_prefix)
    connection = compose.kafka_connection(compose.resolve(settings))
    return await kept_letters(connection, names.dead_letters, names.replays, limit)


async def _replayed(settings: Settings, choice: "ReplayChoice") -> "tuple[int, dict[Kept, int]]":
    from streams.topics import TopicNames
    from streams.worker.dead_letter_reader import check_topic
    from streams.worker.dead_letter_replay import replay as send_again

    resolved, names = compose.resolve(settings), TopicNames(settings.topic_prefix)
    await check_topic(compose.kafka_connection(resolved), names.replays)
    chosen = choice.chosen(await _letters(settings, None))
    events = compose.events(resolved)
    try:
        origins = set(names.all()) - {names.dead_letters, names.replays}
        return await send_again(events, chosen, names.replays, origins, choice.attempts)
    finally:
        await events.close()


def _told(each: "KeptLetter") -> dict[str, object]:
    message = each.letter.message
    return {
        "place": each.place,
        "origin": asdict(message.origin),
        "reason": each.letter.reason,
        "detail": each.letter.detail,
        "attempts": message.attempts,
        "replayed": each.replayed,
        "key": None if message.key is None else message.key.decode(errors="backslashreplace"),
        "event": (message.value or b"").decode(errors="backslashreplace"),
    }


def _print(letters: "list[KeptLetter]", *, as_json: bool) -> None:
    if as_json:
        for each in letters:
            typer.echo(json.dumps(_told(each)))
        return
    rows = Table("place", "origin", "reason", "attempts", "replayed", "detail", "event")
    for each in letters:
        message, origin = each.letter.message, each.letter.message.origin
        rows.add_row(
            each.place,
            f"{origin.topic}/{origin.partition}@{origin.offset}",
            each.letter.reason,
            str(message.attempts),
            "yes" if each.replayed else "",
            each.letter.detail,
            (message.value or b"").decode(errors="backslashreplace")[:120],
        )
    console.print(rows)
