"""A recommendation from the whole catalogue: candidates from the index, put in order by the ranking way."""

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from foretaste.kernel.errors import BadTowerOutput, InvalidInput, Unavailable
from foretaste.kernel.events import oversized_integer
from foretaste.kernel.ports import Clock
from foretaste.kernel.ranking import Cause, account_age_ms
from foretaste.kernel.retrieval import CandidateRequest, Retrieval
from foretaste.kernel.users import Behaviour, UserFeatures
from foretaste.kernel.values import ANSWERS, PASSED_OVER
from serving.rankings.breaker import PartBreaker
from serving.rankings.impressions import ImpressionPolicy
from serving.rankings.ranking import Ranking
from serving.rankings.tastes import FallbackReason, KnownUsers, UserTaste, reason_of_tower
from serving.requests import CandidateSource, RankRequest, RankResponse, RecommendRequest, RecommendResponse

RETRIEVAL_SHARE = 0.65
"""Of the seconds of a recommendation: until when the index may answer; the ranking tower comes after it."""
_RETRIEVAL = (Cause.RETRIEVAL_AWAY, Cause.RETRIEVAL_WRONG_SHAPE, Cause.RETRIEVAL_REFUSED)


@dataclass(frozen=True, slots=True)
class CandidateShares:
    """How many candidates are ranked, and which share of them comes from where; the rest is by behaviour."""

    candidates: int = 200
    popular: float = 0.1
    exploratory: float = 0.05

    def of(self, k: int) -> tuple[int, int, int]:
        """Candidates by behaviour, by popularity and at random, for the k best of them."""
        count = max(self.candidates, k)
        popular, exploratory = round(count * self.popular), round(count * self.exploratory)
        return max(count - popular - exploratory, 0), popular, exploratory


@dataclass(frozen=True, slots=True)
class RecommendingLimits:
    """What one request may ask for, and how long its answer may wait for parts."""

    k: int = 200
    seconds: float = 0.25


class Recommending:
    """The way of a recommendation. A new user never makes an error; a part that is away costs quality.

    Without the index the candidates are the most popular items that may be recommended; the ranking tower puts them in
    order all the same, and where it is away too, they stay by popularity. `clock` is that of the ranking.
    """

    def __init__(
        self,
        ranking: Ranking,
        retrieval: Retrieval,
        clock: Clock,
        *,
        policy: ImpressionPolicy,
        shares: CandidateShares | None = None,
        limits: RecommendingLimits | None = None,
    ) -> None:
        self._ranking = ranking
        self._retrieval = retrieval
        self.clock = clock
        self._policy = policy
        self._shares = shares or CandidateShares()
        self._limits = limits or RecommendingLimits()
        self._index = PartBreaker("triton", clock)

    async def check(self, request: RecommendRequest) -> None:
        """Raises `InvalidInput` that names the field and the value for a k that is too large, or a filter on an
        attribute that items lack, and `Unavailable` where it is not known which attributes they have."""
        wrong = oversized_integer("context", request.context)
        if wrong is not None:
            raise wrong
        if request.k > self._limits.k:
            raise InvalidInput("k", request.k, f"expected at most {self._limits.k}")
        if request.filter.attributes:
            try:
                async with asyncio.timeout(self._limits.seconds):
                    generation = await self._ranking.generation()
                    await self._retrieval.matching((), request.filter.attributes, generation.number)
            except TimeoutError as error:
                raise Unavailable("triton", "it is not known which attributes items have") from error

    async def recommend(
        self, requests: Sequence[RecommendRequest], asked_at: float | None = None
    ) -> list[RecommendResponse]:
        """The best items for each request; all requests share each step, and the time since `asked_at` (or now).

        1. The active generation and the users, as a ranking reads them.
        2. Each answer gets its number, which is the seed of what is drawn at random.
        3. One call of the index, with everything that may not be recommended; by popularity where it is away.
        4. The candidates are ranked and noted as any others; the user gets to see k of them at most.

        Raises what a ranking raises, and `Unavailable` where neither the index nor the popularity can be had.
        """
        known = await self._ranking.know([request.user_id for request in requests], asked_at)
        ids = [self._policy.new_id() for _ in requests]
        asked = [self._request(*each) for each in zip(requests, known.users, known.tastes, ids, strict=True)]
        candidates, why = await self._candidates(asked, known)
        ranked = [self._rank_request(*each) for each in zip(requests, candidates, strict=True)]
        responses = await self._ranking.answer(ranked, known, ids)
        return [_response(*each, why) for each in zip(requests, responses, strict=True)]

    def _request(
        self, request: RecommendRequest, features: UserFeatures, taste: UserTaste, ranking_id: str
    ) -> CandidateRequest:
        nearest, popular, exploratory = self._shares.of(request.k)
        seen = _seen(features.behaviour) if request.exclude_seen else ()
        return CandidateRequest(
            features.behaviour,
            taste.vectors,
            nearest,
            popular,
            exploratory,
            seed_of(ranking_id),
            [*request.filter.deny, *seen],
            request.filter.allow,
            request.filter.attributes,
            account_age_ms(features.registered_ms, round(self._policy.now() * 1000)),
        )

    def _rank_request(self, request: RecommendRequest, items: list[str]) -> RankRequest:
        shown = min(request.k, self._policy.shown if request.shown is None else request.shown)
        return RankRequest.model_construct(
            user_id=request.user_id, items=items, context=request.context, shown=shown, vouched=request.vouched
        )

    async def _candidates(
        self, asked: Sequence[CandidateRequest], known: KnownUsers
    ) -> tuple[list[list[str]], FallbackReason | None]:
        """The candidates of each request; why they are by popularity, where they are."""
        try:
            async with self._index.within(self._left(RETRIEVAL_SHARE, known)):
                return await self._retrieval.candidates(asked, known.generation.number), None
        except (Unavailable, BadTowerOutput, InvalidInput) as raised:
            error = raised
        number = known.generation.number
        popular = await self._ranking.popularity.most_popular(number, self._left(1.0, known))
        found = [await self._by_popularity(each, popular, known) for each in asked]
        return found, reason_of_tower(error, "the index", _RETRIEVAL)

    async def _by_popularity(self, asked: CandidateRequest, popular: Sequence[str], known: KnownUsers) -> list[str]:
        """The most popular items that may be recommended; of an allow list, all of them.

        None where the generation that took over since the request was checked has not the attributes that it names.
        """
        denied = set(asked.deny)
        items = [item for item in (popular if asked.allow is None else asked.allow) if item not in denied]
        if asked.attributes:
            try:
                async with asyncio.timeout(self._left(1.0, known)):
                    items = await self._retrieval.matching(items, asked.attributes, known.generation.number)
            except InvalidInput:
                return []
            except TimeoutError as error:
                raise Unavailable("triton", "it is not known which items have the attributes") from error
        if asked.allow is not None:
            items = await self._allowed(items, known)
        return items[: asked.nearest + asked.popular + asked.exploratory]

    async def _allowed(self, items: Sequence[str], known: KnownUsers) -> list[str]:
        """Those that the generation knows, the most popular first."""
        left = self._left(1.0, known)
        found = await self._ranking.popularity.shares_of(items, known.generation.number, left)
        shares = {item: share for item, share in zip(items, found, strict=True) if share is not None}
        return sorted(shares, key=lambda item: -shares[item])

    def _left(self, share: float, known: KnownUsers) -> float:
        """Seconds until that share of a recommendation's time is over."""
        return max(0.0, self._limits.seconds * share - (self.clock() - known.began))


def seed_of(ranking_id: str) -> int:
    """The seed of what a recommendation draws at random: whoever knows its number can draw the same again."""
    return int.from_bytes(hashlib.sha256(ranking_id.encode()).digest()[:7])


def _seen(behaviour: Behaviour) -> list[str]:
    """What the user acted on, or does not like by the own answer."""
    return [item for item, action, _ in behaviour.rows if action != PASSED_OVER and not ANSWERS.get(action)]


def _response(request: RecommendRequest, response: RankResponse, why: FallbackReason | None) -> RecommendResponse:
    found = RecommendResponse.model_construct(
        **dict(response),
        candidates=len(response.ranked),
        candidates_from=CandidateSource.INDEX if why is None else CandidateSource.POPULAR,
    )
    found.ranked = response.ranked[: request.k]
    if why is not None and found.cause is None:
        found.cause, found.reason = why.cause, why.reason
    return found
