"""Whether the ranking service can answer, and how well: each part is asked what a request would ask of it."""

import asyncio
import logging
from collections.abc import Awaitable
from enum import StrEnum

from pydantic import BaseModel

from foretaste.kernel.errors import ForetasteError, Unavailable
from foretaste.kernel.ports import Generations, OnlineStore, Towers
from foretaste.kernel.ranking import RankingInput
from foretaste.kernel.users import Behaviour
from serving.active import ActiveGeneration
from serving.telling import told

log = logging.getLogger(__name__)

_NOBODY = "readiness"
"""A user and an item that need not exist."""


class Readiness(StrEnum):
    READY = "ready"
    DEGRADED = "degraded"
    """Requests are answered, by a fallback where the part that is away was needed."""
    UNREADY = "unready"
    """No request would be answered."""


class Part(BaseModel):
    name: str
    healthy: bool
    detail: str = ""


class Health(BaseModel):
    """`generation` is the one that requests are answered with; None if there is none."""

    readiness: Readiness
    generation: int | None
    parts: list[Part]


async def examine(store: OnlineStore, towers: Towers, generations: Generations, active: ActiveGeneration) -> Health:
    """Asks the parts all at once, the towers by one real inference each.

    A service that can only degrade still says it can answer: taking it out of rotation would turn worse answers into
    none.
    """
    pointer = await _part("generation", generations.active())
    try:
        generation = await active.get()
    except Unavailable as error:
        nothing = Part(name="generation", healthy=False, detail=_told(error, "generation"))
        return Health(readiness=Readiness.UNREADY, generation=None, parts=[nothing])
    nobody = RankingInput({}, {}, Behaviour(), generation.mean_virtual, [_NOBODY])
    parts = await asyncio.gather(
        _part("online store", store.read([_NOBODY], generation.number)),
        _part("zero-shot tower", towers.virtual_behaviour([{}], generation.number)),
        _part("ranking tower", towers.score(nobody, generation.number)),
    )
    ranking_tower = parts[-1]
    return Health(
        readiness=_readiness([pointer, *parts], answers=ranking_tower.healthy or pointer.healthy),
        generation=generation.number,
        parts=[pointer, *parts],
    )


async def _part(name: str, answer: Awaitable[object]) -> Part:
    try:
        await answer
    except ForetasteError as error:
        return Part(name=name, healthy=False, detail=_told(error, name))
    return Part(name=name, healthy=True)


def _told(error: ForetasteError, name: str) -> str:
    log.warning("%s: %s", name, error)
    return told(error, name)


def _readiness(parts: list[Part], *, answers: bool) -> Readiness:
    if all(part.healthy for part in parts):
        return Readiness.READY
    return Readiness.DEGRADED if answers else Readiness.UNREADY
