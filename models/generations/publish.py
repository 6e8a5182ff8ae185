"""From a generation's artifact to the one that serves, in an order that never shows anybody half of it."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from features.generations.records import check_same
from foretaste import compose
from foretaste.kernel.errors import ForetasteError, InvalidInput, Unavailable
from foretaste.kernel.ports import Generations
from foretaste.settings import Settings
from models.generations.manifest import generation_record, next_number
from models.generations.repository import is_published, published, withdraw
from models.generations.repository import publish as write

if TYPE_CHECKING:
    from models.generations.in_process import InProcessTowers
    from models.generations.triton import TritonTowers

Reached: TypeAlias = Callable[[int], None]
"""Hears the number of each step once it is done."""
STEPS = 5
"""Of `load`."""


async def load(settings: Settings, number: int, reached: Reached = lambda _: None) -> None:
    """Make a generation ready to be activated; nobody is pointed to it.

    1. its number is free, or its own; 2. its version is written into the repository whole, its files checked by their
    hashes; 3. Triton has loaded it beside the others; 4. its probes, asked through Triton, are answered as in
    training; 5. it is recorded. (6. the pointer is `activate`'s.)

    A failure before 5 withdraws the version, unless it served before. Whatever is killed when, the same call completes
    it. Raises `InvalidInput` for a number that another training has, `DamagedArtifact`, `ParityError` or
    `BadTowerOutput` for one that may not serve, and `Unavailable` for a disk, a Triton or a Redis that is.
    """
    folder = settings.generations / str(number)
    if not folder.is_dir():
        raise InvalidInput("generation", number, f"is not in {settings.generations}")
    record, popularity = await asyncio.to_thread(generation_record, folder)
    async with opened(settings) as (towers, generations):
        known = await generations.get(number)
        if known is not None:
            check_same(record, known)
        reached(1)
        kept = await towers.ready(number) or (known is not None and is_published(number, settings.repository))
        await asyncio.to_thread(write, folder, settings.repository, settings.triton_device)
        reached(2)
        try:
            await _answering(towers, folder, number, reached)
        except ForetasteError:
            if not kept:
                await take_back(towers, number, settings.repository)
            raise
        await generations.record(record, popularity)
        reached(5)


async def activate(settings: Settings, number: int, expected: int | None, reason: str, *, filled: bool = False) -> None:
    """6. The pointer moves from `expected` (None: nowhere) to `number`, by compare-and-set.

    `filled` says that every cold or warming user was re-enriched for it: only then may the watch judge its coverage.
    Raises `InvalidInput` for a generation that is not recorded, and `Unavailable` for one that Triton does not answer
    for, or when the pointer is not at `expected`.
    """
    async with opened(settings) as (towers, generations):
        if await generations.get(number) is None:
            raise InvalidInput("generation", number, "expected a recorded generation: publish it first")
        if not await towers.ready(number):
            raise Unavailable("triton", f"it does not answer for generation {number}: publish it again")
        if not await generations.activate(number, expected, reason, filled=filled):
            raise Unavailable("generation", f"the pointer is not at {expected} any more")


async def publish(settings: Settings, generation: int | None) -> int:
    """Load a generation, the newest where None, and activate it; its number. For what it raises see there."""
    number = newest(settings) if generation is None else generation
    expected = await active_number(settings)
    await load(settings, number)
    await activate(settings, number, expected, "published by hand")
    return number


def newest(settings: Settings) -> int:
    """The highest generation that was written. Raises `InvalidInput` when there is none."""
    number = next_number(settings.generations) - 1
    if number < 1:
        raise InvalidInput("generation", None, f"none in {settings.generations}: run `foretaste train` first")
    return number


async def active_number(settings: Settings) -> int | None:
    """Where the pointer stands."""
    generations = compose.generations(settings)
    try:
        active = await generations.active()
    finally:
        await generations.close()
    return None if active is None else active.number


async def spent(settings: Settings) -> frozenset[int]:
    """Numbers that nothing can be published under any more, or that were passed by: up to the highest ever recorded,
    all that are not recorded now."""
    generations = compose.generations(settings)
    try:
        return frozenset(range(1, await generations.highest() + 1)) - set(await generations.numbers())
    finally:
        await generations.close()


async def take_back(towers: "TritonTowers | InProcessTowers", number: int, repository: Path) -> None:
    """Withdraw a version and make Triton let go of it; the others answer throughout."""
    await asyncio.to_thread(withdraw, number, repository)
    if published(repository):  # else there is nothing that Triton could load in its place
        with suppress(Unavailable):  # it stays in memory until the next load, and nobody is pointed to it
            await towers.unload(number)


@asynccontextmanager
async def opened(settings: Settings) -> AsyncIterator[tuple["TritonTowers | InProcessTowers", Generations]]:
    """The two parts that publishing needs, closed again."""
    towers, generations = compose.towers(settings), compose.generations(settings)
    try:
        yield towers, generations
    finally:
        await towers.close()
        await generations.close()


async def _answering(towers: "TritonTowers | InProcessTowers", folder: Path, number: int, reached: Reached) -> None:
    """Steps 3 and 4."""
    from models.generations.probes import check_served  # noqa: PLC0415  # brings onnxruntime, which few commands need

    await towers.load(number)
    reached(3)
    await check_served(towers, folder, number)
    reached(4)
