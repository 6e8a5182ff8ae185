"""From a generation's files to the one that serves, in an order that never shows anybody half of it."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from foretaste.kernel.errors import ForetasteError, InvalidInput, Unavailable
from foretaste.kernel.files import remove_whole
from foretaste.kernel.generations import check_same
from foretaste.kernel.ports import Generations, TowerAdmin
from models.generations.manifest import generation_record, next_number
from models.generations.repository import is_published, published, withdraw, write_version

Reached: TypeAlias = Callable[[int], None]
"""Hears the number of each step of `load` once it is done."""
STEPS = 5
"""Of `load`."""


@dataclass(frozen=True, slots=True)
class PublishParts:
    """What publishing works on; whoever opened the two ports closes them."""

    towers: TowerAdmin
    generations: Generations
    home: Path
    """The folder of all that training leaves: generations, verdicts, records of refreshes."""
    repository: Path
    """Triton's model repository."""
    device: Literal["cpu", "gpu"] = "cpu"
    """Where Triton runs the towers."""

    @property
    def artifacts(self) -> Path:
        """The folder of the generations' files, one folder a number."""
        return self.home / "generations"

    def artifact(self, number: int) -> Path:
        """The folder of one generation's files."""
        return self.artifacts / str(number)


async def load(parts: PublishParts, number: int, reached: Reached = lambda _: None) -> None:
    """Make a generation ready to be activated; nobody is pointed to it.

    1. its number is free, or its own; 2. its version is written into the repository whole, its files checked by their
    hashes; 3. Triton has loaded it beside the others; 4. its probes, asked through Triton, are answered as in
    training; 5. it is recorded. (6. the pointer is moved by `activate`.)

    A failure before 5 withdraws the version, unless it served before. After a kill at any step the same call completes
    it. Raises `InvalidInput` for a number that another training has, `DamagedArtifact`, `ParityError` or
    `BadTowerOutput` for one that may not serve, and `Unavailable` for a disk, a Triton or a Redis that is.
    """
    folder = parts.artifact(number)
    if not folder.is_dir():
        raise InvalidInput("generation", number, f"is not in {parts.artifacts}")
    record, popularity = await asyncio.to_thread(generation_record, folder)
    known = await parts.generations.get(number)
    if known is not None:
        check_same(record, known)
    reached(1)
    kept = await parts.towers.ready(number) or (known is not None and is_published(number, parts.repository))
    await asyncio.to_thread(write_version, folder, parts.repository, parts.device)
    reached(2)
    try:
        await _answering(parts.towers, folder, number, reached)
    except ForetasteError:
        if not kept:
            await take_back(parts, number)
        raise
    await parts.generations.record(record, popularity)
    reached(5)


async def _answering(towers: TowerAdmin, folder: Path, number: int, reached: Reached) -> None:
    """Steps 3 and 4 of `load`."""
    from models.generations.probes import check_served  # noqa: PLC0415  # brings onnxruntime, which few commands need

    await towers.load(number)
    reached(3)
    await check_served(towers, folder, number)
    reached(4)


async def activate(
    parts: PublishParts, number: int, expected: int | None, reason: str, *, filled: bool = False
) -> None:
    """6. The pointer moves from `expected` (None: nowhere) to `number`, by compare-and-set.

    `filled` says that every cold or warming user was re-enriched for it: only then may the watch judge its coverage.
    Raises `InvalidInput` for a generation that is not recorded, and `Unavailable` for one that Triton does not answer
    for, or when the pointer is not at `expected`.
    """
    if await parts.generations.get(number) is None:
        raise InvalidInput("generation", number, "expected a recorded generation: publish it first")
    if not await parts.towers.ready(number):
        raise Unavailable("triton", f"it does not answer for generation {number}: publish it again")
    if not await parts.generations.activate(number, expected, reason, filled=filled):
        raise Unavailable("generation", f"the pointer is not at {expected} any more")


async def publish(parts: PublishParts, generation: int | None, reason: str = "published by hand") -> int:
    """Load a generation, the newest where None, and activate it; its number. Raises what `load` and `activate` raise,
    and `InvalidInput` where there is no generation."""
    number = next_number(parts.artifacts) - 1 if generation is None else generation
    if number < 1:
        raise InvalidInput("generation", generation, f"none in {parts.artifacts}: run `foretaste train` first")
    expected = await active_number(parts.generations)
    await load(parts, number)
    await activate(parts, number, expected, reason)
    return number


async def rollback(parts: PublishParts, reason: str, expected: int | None = None) -> tuple[int, int]:
    """Point all readers back to the previous generation, which is still loaded: the number left, and the one now.

    Raises `InvalidInput` where there is none, and where another than `expected` is active.
    """
    serving = await parts.generations.serving()
    active = None if serving.active is None else serving.active.number
    if expected not in (None, active):
        raise InvalidInput("expected", expected, f"generation {active} is active")
    if serving.active is None or serving.previous is None:
        raise InvalidInput("generation", serving.previous, "there is no previous one to roll back to")
    await activate(parts, serving.previous, serving.active.number, reason)
    return serving.active.number, serving.previous


async def retire(parts: PublishParts, number: int, *, delete: bool) -> None:
    """Take a generation out of use for good.

    1. its record goes, and with it the way to activate it; 2. its version goes from the repository, and Triton lets go
    of it; 3. with `delete`, its files go. After a kill between two, the same call completes it. Raises `InvalidInput`
    for one that is in use, or of which nothing is left.
    """
    folder = parts.artifact(number)
    if await parts.generations.get(number) is not None:
        await parts.generations.retire(number)
    elif not is_published(number, parts.repository) and not (delete and folder.is_dir()):
        raise InvalidInput("generation", number, "expected a recorded generation")
    await take_back(parts, number)
    if delete:
        await asyncio.to_thread(remove_whole, folder)


async def retire_old(parts: PublishParts, keep: int, retired: Callable[[int, int], None]) -> None:
    """Retire all generations but those in use and the newest `keep`; `retired(done, total)` hears of each.

    Versions older than the active one that are not recorded, which a killed run left, are withdrawn first.
    """
    serving = await parts.generations.serving()
    recorded = await parts.generations.numbers()
    active = serving.active.number if serving.active is not None else 0
    for number in set(published(parts.repository)) - set(recorded):
        if number < active:
            await take_back(parts, number)
    unused = [number for number in recorded if serving.use_of(number) is None][: max(len(recorded) - keep, 0)]
    for done, number in enumerate(unused):
        retired(done, len(unused))
        await retire(parts, number, delete=False)
        retired(done + 1, len(unused))


async def take_back(parts: PublishParts, number: int) -> None:
    """Withdraw a version and make Triton let go of it; the others answer throughout."""
    await asyncio.to_thread(withdraw, number, parts.repository)
    if published(parts.repository):  # else there is nothing that Triton could load in its place
        with suppress(Unavailable):  # it stays in memory until the next load, and nobody is pointed to it
            await parts.towers.unload(number)


async def active_number(generations: Generations) -> int | None:
    """The number of the active generation."""
    active = await generations.active()
    return None if active is None else active.number


async def free_number(generations: Generations) -> tuple[int, int | None]:
    """The number above every one that was ever recorded, and the active one's, whose slot a candidate must not use.

    1 and None where nobody answers: publishing refuses a number that another training has.
    """
    try:
        return await generations.highest() + 1, await active_number(generations)
    except Unavailable:
        return 1, None


async def spent_numbers(generations: Generations) -> frozenset[int]:
    """Numbers under which nothing can be published any more: up to the highest ever recorded, all that are not
    recorded now."""
    return frozenset(range(1, await generations.highest() + 1)) - set(await generations.numbers())


async def republish(parts: PublishParts) -> int | None:
    """Record every published generation again and activate the newest, where none is active: Redis was emptied.

    Its number; None where one is active, or none is published. Older ones whose files are not here any more are left
    out. What was cut short is gone on with. Raises what `load` and `activate` raise.
    """
    if await active_number(parts.generations) is not None:
        return None
    numbers = [number for number in published(parts.repository) if is_published(number, parts.repository)]
    if not numbers:
        return None
    newest = numbers.pop()
    for number in numbers:
        if parts.artifact(number).is_dir():
            await load(parts, number)
    await load(parts, newest)
    await activate(parts, newest, None, "the newest published one, after Redis was emptied")
    return newest
