"""One user's ranking beside the same one without virtual behaviour. Nothing of it is noted for training."""

import time
from collections.abc import Sequence

import numpy as np

from foretaste.kernel.errors import BadTowerOutput, InvalidInput
from foretaste.kernel.generations import Generation
from foretaste.kernel.ports import Clock, OnlineStore, Towers
from foretaste.kernel.ranking import RankingInput, account_age_ms
from foretaste.kernel.values import FloatArray
from serving.active import ActiveGeneration
from serving.console.bodies import ComparedItem, ComparedRankings
from serving.rankings.explaining import log_odds


class Comparison:
    """Scores a user's candidates twice in one call: as stored, and with the mean virtual behaviour of all users.

    The mean is what a ranking falls back to where there is no virtual behaviour, so all else stays as it is: the user's
    attributes, and what behaviour there is.
    """

    def __init__(self, store: OnlineStore, towers: Towers, active: ActiveGeneration, now: Clock = time.time) -> None:
        self._store = store
        self._towers = towers
        self._active = active
        self._now = now

    async def compare(self, user_id: str, items: Sequence[str]) -> ComparedRankings | None:
        """None for a user without current virtual behaviour. Raises `InvalidInput` for an item that comes twice, and
        what the store and the towers raise."""
        if len(set(items)) < len(items):
            twice = next(item for place, item in enumerate(items) if item in items[:place])
            raise InvalidInput("items", twice, "expected each candidate once")
        generation = await self._active.get()
        (user,) = await self._store.read([user_id], generation.number)
        virtual = generation.virtual_of(user)
        if virtual is None:
            return None
        age_ms = account_age_ms(user.registered_ms, round(self._now() * 1000))
        inputs = [
            RankingInput(user.attributes or {}, {}, user.behaviour, vectors, items, age_ms)
            for vectors in (virtual.vectors, generation.mean_virtual)
        ]
        scores = await self._towers.score(inputs, generation.number)
        own, without = (_checked(each, items, generation) for each in scores)
        lifts = log_odds(own) - log_odds(without)
        return ComparedRankings(
            user_id=user_id,
            generation=generation.number,
            stage=generation.stage(len(user.behaviour.acts)),
            ranked=[
                ComparedItem(item_id=items[at], score=float(own[at]), without=float(without[at]), lift=float(lifts[at]))
                for at in np.argsort(-own, kind="stable").tolist()
            ],
        )


def _checked(scores: FloatArray, items: Sequence[str], generation: Generation) -> FloatArray:
    if scores.shape != (len(items),) or not np.isfinite(scores).all():
        raise BadTowerOutput(f"generation {generation.number}: scores {scores.shape} for {len(items)} items")
    return scores
