"""A ranking request from user and candidates to the ordered list, over ports alone."""

import asyncio
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np

from foretaste.kernel.errors import BadTowerOutput, InvalidInput, Unavailable
from foretaste.kernel.events import oversized_integer
from foretaste.kernel.generations import Generation
from foretaste.kernel.ports import Clock, Generations, OnlineStore, Towers
from foretaste.kernel.ranking import Cause, Source
from foretaste.kernel.users import ReenrichedUser, UserFeatures, VirtualBehaviour
from foretaste.kernel.values import FloatArray
from serving.active import ActiveGeneration
from serving.metrics import RankingMetrics
from serving.problems import public_detail
from serving.rankings.answers import popular_answer, scored_answer
from serving.rankings.breaker import PartBreakers
from serving.rankings.explaining import explained
from serving.rankings.impressions import AnsweredRanking, ImpressionPolicy
from serving.rankings.popularity import KnownPopularity
from serving.rankings.tastes import (
    FallbackReason,
    KnownUsers,
    UserTaste,
    known_taste,
    mean_taste,
    reason_of_tower,
    reason_to_repair,
)
from serving.rankings.tower_input import registered_ahead, tower_input
from serving.requests import RankRequest, RankResponse, check_candidates

READ_SHARE, TOWERS_SHARE = 0.4, 0.9
"""Of the seconds of a ranking: until when the store may answer, and until when the towers may; the rest is for the
popularity."""
_NO_ANSWER = (Unavailable, BadTowerOutput, InvalidInput)
"""Of a tower. The request was checked before, so what a tower refuses is a matter between it and what is stored."""


_ZERO_SHOT = (Cause.ZERO_SHOT_AWAY, Cause.ZERO_SHOT_WRONG_SHAPE, Cause.ZERO_SHOT_REFUSED)
_RANKING = (Cause.RANKING_AWAY, Cause.RANKING_WRONG_SHAPE, Cause.RANKING_REFUSED)


@dataclass(frozen=True, slots=True)
class RankingLimits:
    """What one request may ask for, and how long its answer may wait for parts."""

    candidates: int = 1000
    seconds: float = 0.25


class Ranking:
    """The way of a ranking request. A new user never makes an error; a part that is away costs quality.

    | behaviour seen           | virtual behaviour stored | computed on the spot | neither                    |
    |--------------------------|--------------------------|----------------------|----------------------------|
    | none (cold)              | virtual                  | read_repaired        | fallback to mean behaviour |
    | below `warm_after`       | blended                  | read_repaired        | fallback to mean behaviour |
    | from `warm_after` (warm) | real                     | real                 | real                       |

    The tower itself takes or weighs what it is given (eqs. 9 and 10), so the last two rows pass the real behaviour too.
    Without the ranking tower the candidates go by popularity. A tower that answers with the wrong shape, or with what
    is not finite, or that refuses what is stored, is as good as away; so is a part that has not answered within its
    share of the time, and one that hangs is left alone for a moment. `clock` counts seconds monotonically. Without
    `policy`, nothing is noted for training.
    """

    def __init__(
        self,
        store: OnlineStore,
        towers: Towers,
        generations: Generations,
        active: ActiveGeneration,
        metrics: RankingMetrics,
        clock: Clock,
        *,
        policy: ImpressionPolicy | None = None,
        limits: RankingLimits | None = None,
    ) -> None:
        self._store = store
        self._towers = towers
        self._generations = generations
        self._active = active
        self._metrics = metrics
        self.clock = clock
        self._policy = policy or ImpressionPolicy()
        self._limits = limits or RankingLimits()
        self.popularity = KnownPopularity(generations, clock)
        """For whoever runs this: `KnownPopularity.run` is to run beside it."""
        self._breakers = PartBreakers(clock)

    def check(self, request: RankRequest, within: str = "") -> None:
        """Raises `InvalidInput` that names what is wrong with the candidates; `within` stands before the field."""
        check_candidates(request.items, self._limits.candidates, f"{within}items")
        wrong = oversized_integer(f"{within}context", request.context)
        if wrong is not None:
            raise wrong

    async def rank(self, requests: Sequence[RankRequest], asked_at: float | None = None) -> list[RankResponse]:
        """The candidates of each request in order; all requests share each step, and the time since `asked_at` (now).

        1. The active generation, known for half a second at most; everything below is pinned to it.
        2. One read of the users: attributes, behaviour, virtual behaviour.
        3. What stands for the behaviour: see the class. What was computed on the spot is written back.
        4. One call of the ranking tower; by popularity where it is away.
        5. Best first, or as is drawn; equal scores keep the order of the request. Unknown items are marked.
        6. An answer that is to be explained gets what moved its first items.
        7. Each answer gets its number, and what its user gets to see is noted for training, which takes no time.

        Raises `Unavailable` when there is no generation yet, or not even the popularity can be had.
        """
        return await self.answer(requests, await self.know([request.user_id for request in requests], asked_at))

    async def generation(self) -> Generation:
        """The generation that a ranking would be answered with now."""
        return await self._active.get()

    async def know(self, user_ids: Sequence[str], asked_at: float | None = None) -> KnownUsers:
        """Steps 1 to 3 of `rank`."""
        began = self.clock() if asked_at is None else asked_at
        async with self._breakers.pointer.within(self._limits.seconds):
            generation = await self._active.get()
        self.popularity.of(generation.number)  # while Redis answers
        users, away = await self._read(user_ids, generation, began)
        return KnownUsers(generation, users, await self._tastes(users, away, generation, began), began)

    async def answer(
        self, requests: Sequence[RankRequest], known: KnownUsers, ranking_ids: Sequence[str] | None = None
    ) -> list[RankResponse]:
        """Steps 4 to 7 of `rank`, for the users of `know` in their order; new numbers where none are given."""
        generation, users, tastes, began = known.generation, known.users, known.tastes, known.began
        responses = await self._scored(requests, users, tastes, generation, began)
        for request, response in zip(requests, responses, strict=True):
            self._policy.exploration.order(response, self._policy.shown_of(request.shown))
        await self._mark_unknown(responses, generation, began)
        for each in zip(requests, users, tastes, responses, strict=True):
            await self._explain(*each, generation, began)
        seconds = self.clock() - began
        ids = ranking_ids or [self._policy.new_id() for _ in requests]
        for request, response, features, ranking_id in zip(requests, responses, users, ids, strict=True):
            response.ranking_id = ranking_id
            self._note(request, response, features, generation)
            self._metrics.answered(response, seconds)
        return responses

    async def _read(
        self, user_ids: Sequence[str], generation: Generation, began: float
    ) -> tuple[list[UserFeatures], FallbackReason | None]:
        """The features of each user; empty ones, and why, where the store is away."""
        try:
            async with self._breakers.store.within(self._left(began, READ_SHARE)):
                return await self._store.read(user_ids, generation.number), None
        except Unavailable as error:
            return [UserFeatures(each) for each in user_ids], FallbackReason(Cause.STORE_AWAY, public_detail(error))

    async def _tastes(
        self, users: Sequence[UserFeatures], away: FallbackReason | None, generation: Generation, began: float
    ) -> list[UserTaste]:
        tastes: list[UserTaste | None] = [known_taste(features, away, generation) for features in users]
        places = [place for place, taste in enumerate(tastes) if taste is None]
        repaired = await self._repaired([users[place] for place in places], generation, began) if places else []
        of_place = dict(zip(places, repaired, strict=True))
        return [taste or of_place[place] for place, taste in enumerate(tastes)]

    async def _repaired(self, users: Sequence[UserFeatures], generation: Generation, began: float) -> list[UserTaste]:
        """The virtual behaviour computed from the attributes (eq. 8), and written back for the next request."""
        missing = [reason_to_repair(features, generation) for features in users]
        try:
            async with self._breakers.zero_shot.within(self._left(began)):
                attributes = [features.attributes or {} for features in users]
                answer = await self._towers.virtual_behaviour(attributes, generation.number)
            _check_shape(answer, (len(users), *generation.virtual_shape))
        except _NO_ANSWER as error:
            why = reason_of_tower(error, "the zero-shot tower", _ZERO_SHOT)
            return [
                mean_taste(generation, FallbackReason(why.cause, f"{each.reason}; {why.reason}")) for each in missing
            ]
        tastes, made = [], []
        for features, why, vectors in zip(users, missing, answer, strict=True):
            if np.isfinite(vectors).all():
                made.append((features, VirtualBehaviour(generation.number, vectors)))
                tastes.append(UserTaste(vectors, Source.READ_REPAIRED, generation.number, why=why))
            else:
                reason = f"{why.reason}; the zero-shot tower's is not finite"
                tastes.append(mean_taste(generation, FallbackReason(Cause.ZERO_SHOT_NOT_FINITE, reason)))
        await self._write_back(made, generation, began)
        return tastes

    async def _write_back(
        self, made: Sequence[tuple[UserFeatures, VirtualBehaviour]], generation: Generation, began: float
    ) -> None:
        """Never over what another generation in use made: the next one, filling, or one that took over just now.

        What one out of use left in the slot is written over. The virtual behaviour alone: attributes are the sign-up
        way's, and where it wrote others since they were read, the store takes nothing made from the old ones.
        """
        try:
            async with self._breakers.store.within(self._left(began)):
                others = {held.generation for features, _ in made if (held := features.virtual) is not None}
                in_use: Collection[int] = ()
                if others - {generation.number}:  # as of now: what started filling since is not to be written over
                    in_use = (await self._generations.serving()).in_use.keys() - {generation.number}
                await self._store.write_virtual(
                    [
                        ReenrichedUser.after(features, virtual)
                        for features, virtual in made
                        if features.virtual is None or features.virtual.generation not in in_use
                    ]
                )
        except Unavailable:
            self._metrics.repairs_lost(len(made))

    async def _scored(
        self,
        requests: Sequence[RankRequest],
        users: Sequence[UserFeatures],
        tastes: Sequence[UserTaste],
        generation: Generation,
        began: float,
    ) -> list[RankResponse]:
        """The answers of the ranking tower, or by popularity."""
        now_ms = self._now_ms()
        inputs = [tower_input(*each, now_ms) for each in zip(requests, users, tastes, strict=True)]
        self._metrics.registered_ahead(registered_ahead(users, inputs))
        try:
            async with self._breakers.ranking.within(self._left(began)):
                scores = await self._towers.score(inputs, generation.number)
            for request, own in zip(requests, scores, strict=True):
                _check_shape(own, (len(request.items),))
        except _NO_ANSWER as error:
            why = reason_of_tower(error, "the ranking tower", _RANKING)
            return await self._by_popularity(requests, users, generation, why, began)
        odd = [place for place, own in enumerate(scores) if not np.isfinite(own).all()]
        if not odd:
            return [scored_answer(*each, generation) for each in zip(requests, users, tastes, scores, strict=True)]
        why = FallbackReason(Cause.RANKING_NOT_FINITE, "the ranking tower's scores are not finite")
        some = [requests[at] for at in odd], [users[at] for at in odd]
        instead = await self._by_popularity(*some, generation, why, began)
        of_place = dict(zip(odd, instead, strict=True))
        return [
            of_place.get(place) or scored_answer(*each, generation)
            for place, each in enumerate(zip(requests, users, tastes, scores, strict=True))
        ]

    async def _mark_unknown(self, responses: Sequence[RankResponse], generation: Generation, began: float) -> None:
        scored = [response for response in responses if response.ranking_generation is not None]
        items = [item["item_id"] for response in scored for item in response.ranked]
        if not items:
            return
        unknown: Collection[str] = ()
        with suppress(*_NO_ANSWER):
            async with self._breakers.ranking.within(self._left(began)):
                unknown = set(await self._towers.unknown(items, generation.number))
        for item in (item for response in scored if unknown for item in response.ranked):
            if item["item_id"] in unknown:
                item["unknown"] = True

    async def _explain(
        self,
        request: RankRequest,
        features: UserFeatures,
        taste: UserTaste,
        response: RankResponse,
        generation: Generation,
        began: float,
    ) -> None:
        """Nothing where it was not asked for, where the ranking tower did not score, or where it is late: that an
        explanation is dear tells nothing of a tower."""
        if not request.explain or response.ranking_generation is None:
            return
        given = tower_input(request, features, taste, self._now_ms())
        with suppress(*_NO_ANSWER, TimeoutError):
            async with asyncio.timeout(self._left(began)):
                response.explanation = await explained(self._towers, given, response, taste, generation)

    async def _by_popularity(
        self,
        requests: Sequence[RankRequest],
        users: Sequence[UserFeatures],
        generation: Generation,
        why: FallbackReason,
        began: float,
    ) -> list[RankResponse]:
        """Candidates by their share of the training interactions, 0 for one that the generation does not know."""
        items = [item for request in requests for item in request.items]
        left = self._limits.seconds - (self.clock() - began)
        shares = await self.popularity.shares_of(items, generation.number, left)
        of_each = np.split(
            np.array([share or 0.0 for share in shares]), np.cumsum([len(each.items) for each in requests])[:-1]
        )
        return [
            popular_answer(request, features, why, own)
            for request, features, own in zip(requests, users, of_each, strict=True)
        ]

    def _note(
        self, request: RankRequest, response: RankResponse, features: UserFeatures, generation: Generation
    ) -> None:
        shown = self._policy.shown_of(request.shown)
        if shown:
            at, vouched = self._policy.now(), request.vouched
            served = AnsweredRanking(response, request.context, features, generation.warm_after, shown, at, vouched)
            self._policy.impressions.note(served)

    def _now_ms(self) -> int:
        return round(self._policy.now() * 1000)

    def _left(self, began: float, share: float = TOWERS_SHARE) -> float:
        """Seconds until that share of a ranking's time is over; by default, that the towers may still take."""
        return max(0.0, self._limits.seconds * share - (self.clock() - began))


def _check_shape(answer: FloatArray, expected: tuple[int, ...]) -> None:
    """Raises `BadTowerOutput`: the generation's record and the tower that answers for it disagree."""
    if answer.shape != expected:
        raise BadTowerOutput(f"got {answer.shape}, expected {expected}")
