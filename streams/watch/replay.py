"""Rankings that went wrong, replayed on two generations: which of them is to blame."""

import asyncio
from collections.abc import Iterable

import numpy as np

from foretaste.kernel.errors import ForetasteError
from foretaste.kernel.events import UserRanked
from foretaste.kernel.generations import Generation
from foretaste.kernel.ports import Towers
from foretaste.kernel.ranking import RankingInput, account_age_ms
from foretaste.kernel.users import Behaviour
from streams.rules import to_ms


async def blamed(towers: Towers, rankings: Iterable[UserRanked], active: Generation, previous: Generation) -> int:
    """How many of these the active generation fails now while the previous one answers them.

    What both fail or both answer is no generation's fault: Triton was away, or a part of the features was.
    """
    replayed = list(rankings)
    well = await _answers(towers, replayed, active)
    failed = [ranking for ranking, answered in zip(replayed, well, strict=True) if not answered]
    return await answered_by(towers, failed, previous)


async def answered_by(towers: Towers, rankings: Iterable[UserRanked], generation: Generation) -> int:
    """How many of these both towers of a generation answer as they should: in the right shapes, finite."""
    return sum(await _answers(towers, list(rankings), generation))


async def _answers(towers: Towers, rankings: list[UserRanked], generation: Generation) -> list[bool]:
    return await asyncio.gather(*(_answer(towers, ranking, generation) for ranking in rankings))


async def _answer(towers: Towers, ranking: UserRanked, generation: Generation) -> bool:
    """Virtual behaviour is made anew (eq. 8); the mean stands for it where no attributes were known."""
    behaviour = Behaviour(ranking.behaviour_items, ranking.behaviour_actions, ranking.behaviour_times)
    virtual = generation.mean_virtual[None]
    try:
        if ranking.attributes is not None:
            virtual = await towers.virtual_behaviour([ranking.attributes], generation.number)
        if virtual.shape != (1, *generation.virtual_shape) or not np.isfinite(virtual).all():
            return False
        registered_ms = None if ranking.registered_at is None else to_ms(ranking.registered_at)
        age_ms = account_age_ms(registered_ms, to_ms(ranking.at))
        request = RankingInput(ranking.attributes or {}, ranking.context, behaviour, virtual[0], ranking.items, age_ms)
        (scores,) = await towers.score([request], generation.number)
    except ForetasteError:
        return False
    return scores.shape == (len(ranking.items),) and bool(np.isfinite(scores).all())
