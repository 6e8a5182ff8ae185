"""What there is of generations: each with its state, its files, the gate's verdict and the moves of the pointer."""

import asyncio
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from foretaste.kernel.errors import DamagedArtifact, InvalidInput, Unavailable
from foretaste.kernel.generations import Generation, Move, Serving
from foretaste.kernel.ports import TowerAdmin
from models.evaluation.verdict import Verdict, read_verdict, verdict_path
from models.generations.manifest import Manifest, read_manifest
from models.generations.publish import PublishParts

State: TypeAlias = Literal["active", "previous", "filling", "loaded", "recorded", "written"]
"""Of the last three: Triton answers for it, it is recorded but Triton does not, it is a folder alone."""
MOVES = 1000


@dataclass(frozen=True, slots=True)
class GenerationSummary:
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

    def to_dict(self) -> dict[str, Any]:
        """Fit for JSON; nan is null."""
        return {
            "number": self.number,
            "state": self.state,
            "created_at": self.created_at,
            "base": self.base,
            "metrics": {name: None if math.isnan(value) else value for name, value in self.metrics.items()},
            "verdict": self.verdict,
            "damage": self.damage,
        }


@dataclass(frozen=True, slots=True)
class GenerationDetails:
    """All that is known of a generation."""

    summary: GenerationSummary
    manifest: Manifest | None
    verdict: Verdict | None
    moves: list[Move]
    """To it and away from it, newest first."""

    def to_dict(self) -> dict[str, Any]:
        """Fit for JSON; nan is null."""
        manifest, verdict = self.manifest, self.verdict
        return {
            **self.summary.to_dict(),
            "manifest": None if manifest is None else manifest.model_dump(mode="json", exclude={"mean_virtual"}),
            "verdict": None if verdict is None else verdict.model_dump(mode="json"),
            "moves": [
                {"number": move.number, "came_from": move.came_from, "at": move.at, "reason": move.reason}
                for move in self.moves
            ],
        }


async def summaries(parts: PublishParts) -> list[GenerationSummary]:
    """Every generation that is recorded or written, in order of their numbers."""
    serving = await parts.generations.serving()
    recorded = await parts.generations.numbers()
    found = []
    for number in sorted({*recorded, *_written(parts.artifacts)}):
        record = await parts.generations.get(number) if number in recorded else None
        answers = record is not None and await _answers(parts.towers, number)
        state = _state(number, serving, record, answers=answers)
        found.append(await asyncio.to_thread(_summary, parts, number, record, state))  # it reads files
    return found


async def details(parts: PublishParts, number: int) -> GenerationDetails:
    """Raises `InvalidInput` for a number that is neither recorded nor written."""
    summary = next((each for each in await summaries(parts) if each.number == number), None)
    if summary is None:
        raise InvalidInput("generation", number, "is neither recorded nor written")
    manifest, _ = _manifest(parts.artifact(number))
    moves = [move for move in await parts.generations.moves(MOVES) if number in (move.number, move.came_from)]
    return GenerationDetails(summary, manifest, _verdict(parts.home, number), moves)


def _summary(parts: PublishParts, number: int, record: Generation | None, state: State) -> GenerationSummary:
    manifest, damage = _manifest(parts.artifact(number))
    known = record or manifest
    verdict = _verdict(parts.home, number)
    return GenerationSummary(
        number=number,
        state=state,
        created_at=None if known is None else known.created_at,
        base=None if manifest is None else manifest.base,
        metrics={} if known is None else known.metrics,
        verdict=None if verdict is None else verdict.decision + (" (forced)" if verdict.forced else ""),
        damage=damage,
    )


def _state(number: int, serving: Serving, record: Generation | None, *, answers: bool) -> State:
    use = serving.use_of(number)
    if use is not None:
        return "previous" if use == "kept for rollback" else use
    if record is None:
        return "written"
    return "loaded" if answers else "recorded"


async def _answers(towers: TowerAdmin, number: int) -> bool:
    """False, too, where Triton is away: what Redis knows can be shown without it."""
    try:
        return await towers.ready(number)
    except Unavailable:
        return False


def _written(artifacts: Path) -> list[int]:
    folders = artifacts.iterdir() if artifacts.is_dir() else ()
    return [int(folder.name) for folder in folders if folder.name.isdecimal()]


def _manifest(folder: Path) -> tuple[Manifest | None, str | None]:
    """What the folder says of itself, or what is wrong with it; neither where there is none."""
    if not folder.is_dir():
        return None, None
    try:
        return read_manifest(folder), None
    except DamagedArtifact as damage:
        return None, str(damage)


def _verdict(home: Path, number: int) -> Verdict | None:
    path = verdict_path(home, number)
    return read_verdict(path) if path.exists() else None
