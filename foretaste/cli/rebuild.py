"""`foretaste rebuild | import`: the online store filled again, and filled with existing users."""

import asyncio
import json
import time
from collections.abc import Coroutine, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.util import find_spec
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from foretaste import compose
from foretaste.cli.processes import settle_memory
from foretaste.console import console, progress
from foretaste.kernel.leasing import leased
from foretaste.kernel.ports import Report, no_report
from foretaste.settings import Settings

if TYPE_CHECKING:
    from models.data.stored_users import DatasetUsers
    from streams.profiles.rebuild_parts import RebuiltUsers
    from streams.profiles.user_import import ImportedUsers

T = TypeVar("T")
JsonOption = Annotated[bool, typer.Option("--json", help="Print what was done as JSON.")]
MEANINGS = {
    "profiles": "users of the online store are in user-profiles",
    "new": "users of whom nothing was stored",
    "changed": "users whose stored attributes gave way to newer ones",
    "kept": "users whose stored attributes are as new, or newer",
    "erased": "users who are no more",
    "non_finite": "users without virtual behaviour: what the tower makes of them is not finite",
    "unreadable": "records of user-profiles that are none",
    "behaviours": "behaviours",
    "bad_behaviours": "of them dead letters",
    "logged": "behaviours of the training log",
    "items": "registrations of items",
}


def rebuild(
    anew: Annotated[
        bool, typer.Option("--anew", help="Begin at the beginning, whatever an earlier run came to.")
    ] = False,
    profiles: Annotated[
        bool, typer.Option("--profiles", help="Fill user-profiles from the online store instead, after an update say.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Fill an emptied or partly lost online store from user-profiles, user-behaved and the training log."""
    settings, began = compose.resolve(Settings()), time.monotonic()
    with progress() as drawn:
        report = no_report if as_json else drawn
        if profiles:
            recorded = _run(_recorded(settings, report))
            _print({"profiles": recorded, "seconds": round(time.monotonic() - began, 2)}, as_json=as_json)
            return
        generation, found = _run(_rebuilt(settings, report, anew=anew))
    if generation is not None and not as_json:
        console.print(f"generation {generation} is active: Redis knew of none, and this is the newest published one")
    _print({"generation": generation, **asdict(found), "seconds": round(time.monotonic() - began, 2)}, as_json=as_json)


def import_(
    data: Annotated[str, typer.Argument(help="A folder with dataset.yaml, or ml-1m, ml-100k, alimama.")],
    as_of: Annotated[
        datetime | None, typer.Option(help="When the users registered, in UTC; the newest time in the data by default.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Bring existing users and what they did from a data set folder into the online store."""
    from models.data.sources.public import open_dataset
    from models.data.stored_users import DatasetUsers

    settings, began = compose.resolve(Settings()), time.monotonic()
    with progress() as drawn:
        report = no_report if as_json else drawn
        dataset = open_dataset(data, settings.made_home() / "data", report)
        as_of_ms = None if as_of is None else round(as_of.replace(tzinfo=as_of.tzinfo or UTC).timestamp() * 1000)
        users = DatasetUsers(dataset, as_of_ms, round(time.time() * 1000))
        read, name = time.monotonic(), f"{dataset.fingerprint[:16]}-{users.as_of_ms}"
        found = _run(_imported(settings, users, name, report))
    seconds = {"read_seconds": round(read - began, 2), "seconds": round(time.monotonic() - read, 2)}
    _print({**asdict(found), **seconds}, as_json=as_json)


async def _rebuilt(settings: Settings, report: Report, *, anew: bool) -> "tuple[int | None, RebuiltUsers]":
    """The generation that was made active again, if any, and what was brought back."""
    from models.generations.publish import republish

    async with leased(compose.lease(settings, "rebuild"), settings.lease_seconds):
        async with compose.publish_parts(settings) as publishing:
            generation = await republish(publishing)
        async with compose.rebuild(settings, anew=anew) as rebuilding:
            settle_memory()
            return generation, await rebuilding.run(report)


async def _recorded(settings: Settings, report: Report) -> int:
    from streams.profiles.stored_profiles import record_stored
    from streams.topics import TopicNames

    async with compose.parts(settings) as parts:
        return await record_stored(parts, TopicNames(settings.topic_prefix).profiles, report)


async def _imported(settings: Settings, users: "DatasetUsers", name: str, report: Report) -> "ImportedUsers":
    async with (
        leased(compose.lease(settings, "import"), settings.lease_seconds),
        compose.user_import(settings, name) as importing,
    ):
        settle_memory()
        return await importing.run(users, report)


def _run(work: Coroutine[Any, Any, T]) -> T:
    """On uvloop where that is installed: the loop turns for each share of users."""
    if find_spec("uvloop") is None:
        return asyncio.run(work)
    import uvloop

    done: T = uvloop.run(work)
    return done


def _print(found: Mapping[str, object], *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(found))
        return
    for name, count in found.items():
        if count and name in MEANINGS:
            console.print(f"{count:>12} {MEANINGS[name]}", highlight=False)
    console.print(f"in {found['seconds']} s", highlight=False)
