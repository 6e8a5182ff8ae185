"""Whether the ranking service can answer, and how well: each part is asked what a request would ask of it."""

import asyncio
import logging
from collections.abc import Awaitable
from enum import StrEnum

from pydantic import BaseModel

from foretaste.kernel.errors import ForetasteError, Unavailable
from foretaste.kernel.generations import Generation
from foretaste.kernel.ports import Generations, OnlineStore, Towers
from foretaste.kernel.ranking import RankingInput
from foretaste.kernel.running.readiness import ProcessReadiness
from foretaste.kernel.running.store_watch import StoreWatch
from foretaste.kernel.users import Behaviour
from serving.active import ActiveGeneration
from serving.problems import public_detail
from serving.rankings.impressions import BufferedImpressions
from serving.rankings.popularity import KnownPopularity

log = logging.getLogger(__name__)

PART_SECONDS = 0.5
"""That a part has to answer: a probe that waits for longer is taken for a process that hangs."""
EMPTIED = (
    "the store holds no generation any more: it was emptied, or is another one; "
    "bring its file back, or run `foretaste rebuild`, and see docs/operations.md"
)
_NOBODY = "readiness"
"""A user and an item that need not exist."""


class Readiness(StrEnum):
    READY = "ready"
    DEGRADED = "degraded"
    """Requests are answered, by a fallback where the part that is away was needed."""
    UNREADY = "unready"
    """No request would be answered, or what is answered is lost for training for good."""


class PartHealth(BaseModel):
    """One part, as a request would find it; `detail` says what is wrong with it."""

    name: str
    healthy: bool
    detail: str = ""


class ServiceHealth(BaseModel):
    """`generation` is the one that requests are answered with; None if there is none."""

    readiness: Readiness
    generation: int | None
    parts: list[PartHealth]


async def examine(
    store: OnlineStore,
    towers: Towers,
    generations: Generations,
    active: ActiveGeneration,
    impressions: BufferedImpressions | None = None,
    readiness: ProcessReadiness | None = None,
    popularity: KnownPopularity | None = None,
    stores: StoreWatch | None = None,
) -> ServiceHealth:
    """Asks the pointer and all parts at once, the towers by one real inference each; each has `PART_SECONDS`.

    A service that can only degrade still says it can answer: taking it out of rotation would turn worse answers into
    none; `popularity` that is kept is an answer. A defect in the task that sends impressions degrades it until they are
    sent again, and so does what `readiness` holds against the process, a task that ended. A pointer that is gone while
    its generation is known here makes it unready: the store was emptied, and what is answered tells of nobody. What
    `stores` warns of is told, and changes nothing.
    """
    pointed: list[Generation | None] = []
    pointer, (generation, answered) = await asyncio.gather(
        _part("generation", _kept(generations.active(), pointed)), _of_generation(store, towers, active)
    )
    if generation is None:
        return ServiceHealth(readiness=Readiness.UNREADY, generation=None, parts=answered)
    ranking_tower = answered[-1]
    if pointed == [None]:
        log.error("generation: %s", EMPTIED)
        pointer = PartHealth(name="generation", healthy=False, detail=EMPTIED)
    parts, answers = [pointer, *answered], ranking_tower.healthy or pointer.healthy
    if popularity is not None and popularity.of(generation.number) is not None:
        answers = True
    if impressions is not None and impressions.failure is not None:
        parts.append(PartHealth(name="impressions", healthy=False, detail="the last ones were lost; the log says why"))
    if readiness is not None:
        parts += [PartHealth(name=name, healthy=False, detail=why) for name, why in readiness.reasons.items()]
    if stores is not None and stores.warning is not None:
        parts.append(PartHealth(name="store", healthy=True, detail=stores.warning))
    found = Readiness.UNREADY if pointed == [None] else _readiness(parts, answers=answers)
    return ServiceHealth(readiness=found, generation=generation.number, parts=parts)


async def _of_generation(
    store: OnlineStore, towers: Towers, active: ActiveGeneration
) -> tuple[Generation | None, list[PartHealth]]:
    """The generation that requests are answered with, and what answers them; without one, why there is none."""
    try:
        async with asyncio.timeout(PART_SECONDS):
            generation = await active.get()
    except TimeoutError:
        return None, [PartHealth(name="generation", healthy=False, detail=f"no answer within {PART_SECONDS:g} s")]
    except Unavailable as error:
        return None, [PartHealth(name="generation", healthy=False, detail=_logged(error, "generation"))]
    nobody = RankingInput({}, {}, Behaviour(), generation.mean_virtual, [_NOBODY])
    answered = await asyncio.gather(
        _part("online store", store.read([_NOBODY], generation.number)),
        _part("zero-shot tower", towers.virtual_behaviour([{}], generation.number)),
        _part("ranking tower", towers.score([nobody], generation.number)),
    )
    return generation, list(answered)


async def _kept(answer: Awaitable[Generation | None], found: list[Generation | None]) -> None:
    found.append(await answer)


async def _part(name: str, answer: Awaitable[object]) -> PartHealth:
    try:
        async with asyncio.timeout(PART_SECONDS):
            await answer
    except ForetasteError as error:
        return PartHealth(name=name, healthy=False, detail=_logged(error, name))
    except TimeoutError:
        log.warning("%s: no answer within %.1f s", name, PART_SECONDS)
        return PartHealth(name=name, healthy=False, detail=f"no answer within {PART_SECONDS:g} s")
    return PartHealth(name=name, healthy=True)


def _logged(error: ForetasteError, name: str) -> str:
    log.warning("%s: %s", name, error)
    return public_detail(error, name)


def _readiness(parts: list[PartHealth], *, answers: bool) -> Readiness:
    if all(part.healthy for part in parts):
        return Readiness.READY
    return Readiness.DEGRADED if answers else Readiness.UNREADY
