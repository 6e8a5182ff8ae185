"""What the commands on generations do, on the wired parts; nothing here prints."""

import asyncio
import math
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from foretaste.kernel.errors import DamagedArtifact, InvalidInput, Unavailable
from foretaste.kernel.files import remove_whole
from foretaste.kernel.generations import Generation, Move, Serving
from foretaste.settings import Settings
from models.evaluation.verdict import Verdict, read_verdict, verdict_path
from models.generations import publish as publishing
from models.generations.manifest import Manifest, read_manifest
from models.generations.repository import is_published

State: TypeAlias = Literal["active", "previous", "filling", "loaded", "recorded", "written"]
"""Of the last three: Triton answers for it, it is recorded but Triton does not, it is a folder alone."""
MOVES = 1000


@dataclass(frozen=True, slots=True)
class Entry:
    """A generation as the list shows it; `metrics` are those of its own training."""

    number: int
    state: State
    created_at: str | None
    base: int | None
    metrics: Mapping[str, float]
    verdict: str | None
    """What the gate decided, where it was asked."""
    damage: str | None = None
    """What is wrong with its files."""


@dataclass(frozen=True, slots=True)
class Details:
    """All that is known of a generation."""

    entry: Entry
    manifest: Manifest | None
    verdict: Verdict | None
    moves: list[Move]
    """To it and away from it, newest first."""


async def entries(settings: Settings) -> list[Entry]:
    """Every generation that is recorded or written, in order of their numbers."""
    async with publishing.opened(settings) as (towers, generations):
        serving = await generations.serving()
        recorded = await generations.numbers()
        found = []
        for number in sorted({*recorded, *_written(settings.generations)}):
            record = await generations.get(number) if number in recorded else None
            answers = record is not None and await _answers(towers.ready(number))
            found.append(_entry(settings, number, record, _state(number, serving, record, answers=answers)))
    return found


async def details(settings: Settings, number: int) -> Details:
    """Raises `InvalidInput` for a number that is neither recorded nor written."""
    entry = next((entry for entry in await entries(settings) if entry.number == number), None)
    if entry is None:
        raise InvalidInput("generation", number, "is neither recorded nor written")
    async with publishing.opened(settings) as (_, generations):
        moves = await generations.moves(MOVES)
    manifest, _ = _manifest(settings.generations / str(number))
    own = [move for move in moves if number in (move.number, move.came_from)]
    return Details(entry, manifest, _verdict(settings, number), own)


async def activate(settings: Settings, number: int, reason: str = "activated by hand") -> int | None:
    """Point all readers to a generation that Triton answers for; the number they were pointed to before."""
    expected = await publishing.active_number(settings)
    await publishing.activate(settings, number, expected, reason)
    return expected


async def rollback(settings: Settings, reason: str = "rollback by hand") -> tuple[int, int]:
    """Point all readers back to the previous generation, which is still loaded: the number left, and the one now.

    Raises `InvalidInput` where there is none.
    """
    async with publishing.opened(settings) as (_, generations):
        serving = await generations.serving()
    if serving.active is None or serving.previous is None:
        raise InvalidInput("generation", serving.previous, "there is no previous one to roll back to")
    await publishing.activate(settings, serving.previous, serving.active.number, reason)
    return serving.active.number, serving.previous


async def retire(settings: Settings, number: int, *, delete: bool) -> None:
    """Take a generation out of use for good.

    1. its record goes, and with it the way to activate it; 2. its version goes from the repository, and Triton lets go
    of it; 3. with `delete`, its artifact goes. Killed between two, the same call completes it. Raises `InvalidInput`
    for one that is in use, or of which nothing is left.
    """
    folder = settings.generations / str(number)
    async with publishing.opened(settings) as (towers, generations):
        if await generations.get(number) is not None:
            await generations.retire(number)
        elif not is_published(number, settings.repository) and not (delete and folder.is_dir()):
            raise InvalidInput("generation", number, "expected a recorded generation")
        await publishing.take_back(towers, number, settings.repository)
    if delete:
        await asyncio.to_thread(remove_whole, folder)


def as_json(details: Details) -> dict[str, Any]:
    """Fit for JSON; nan is null."""
    manifest, verdict = details.manifest, details.verdict
    return {
        **entry_as_json(details.entry),
        "manifest": None if manifest is None else manifest.model_dump(mode="json", exclude={"mean_virtual"}),
        "verdict": None if verdict is None else verdict.model_dump(mode="json"),
        "moves": [
            {"number": move.number, "came_from": move.came_from, "at": move.at, "reason": move.reason}
            for move in details.moves
        ],
    }


def entry_as_json(entry: Entry) -> dict[str, Any]:
    """Fit for JSON; nan is null."""
    return {
        "number": entry.number,
        "state": entry.state,
        "created_at": entry.created_at,
        "base": entry.base,
        "metrics": {name: None if math.isnan(value) else value for name, value in entry.metrics.items()},
        "verdict": entry.verdict,
        "damage": entry.damage,
    }


def _entry(settings: Settings, number: int, record: Generation | None, state: State) -> Entry:
    manifest, damage = _manifest(settings.generations / str(number))
    known = record or manifest
    verdict = _verdict(settings, number)
    return Entry(
        number=number,
        state=state,
        created_at=None if known is None else known.created_at,
        base=None if manifest is None else manifest.base,
        metrics={} if known is None else known.metrics,
        verdict=None if verdict is None else verdict.decision + (" (forced)" if verdict.forced else ""),
        damage=damage,
    )


def _state(number: int, serving: Serving, record: Generation | None, *, answers: bool) -> State:
    used: dict[int | None, State] = {
        serving.filling.number if serving.filling else None: "filling",
        serving.previous: "previous",
        serving.active.number if serving.active else None: "active",
    }
    if number in used:
        return used[number]
    if record is None:
        return "written"
    return "loaded" if answers else "recorded"


async def _answers(ready: Awaitable[bool]) -> bool:
    """No, too, where Triton is away: what Redis knows can be shown without it."""
    try:
        return await ready
    except Unavailable:
        return False


def _written(generations: Path) -> list[int]:
    folders = generations.iterdir() if generations.is_dir() else ()
    return [int(folder.name) for folder in folders if folder.name.isdecimal()]


def _manifest(folder: Path) -> tuple[Manifest | None, str | None]:
    """What the folder says of itself, or what is wrong with it; neither where there is none."""
    if not folder.is_dir():
        return None, None
    try:
        return read_manifest(folder), None
    except DamagedArtifact as damage:
        return None, str(damage)


def _verdict(settings: Settings, number: int) -> Verdict | None:
    path = verdict_path(settings.home, number)
    return read_verdict(path) if path.exists() else None
