"""A ranking request from user and candidates to the ordered list, over ports alone."""

from dataclasses import dataclass

import numpy as np

from foretaste.kernel.errors import BadTowerOutput, ForetasteError, InvalidInput, Unavailable
from foretaste.kernel.generations import Generation
from foretaste.kernel.ports import Clock, Generations, OnlineStore, Towers
from foretaste.kernel.ranking import Cause, Fallback, RankingInput, Source
from foretaste.kernel.users import ReenrichedUser, Stage, UserFeatures, VirtualBehaviour
from foretaste.kernel.values import Attributes, FloatArray
from serving.active import ActiveGeneration
from serving.impressions import AnsweredRanking, ImpressionPolicy
from serving.metrics import RankingMetrics
from serving.problems import public_detail
from serving.requests import RankRequest, RankResponse, ScoredItem, check_candidates

_NO_ANSWER = (Unavailable, BadTowerOutput, InvalidInput)
"""Of a tower. The request was checked before, so what a tower refuses is a matter between it and what is stored."""


@dataclass(frozen=True, slots=True)
class _Taste:
    """The virtual behaviour (M, D) that goes to the ranking tower, and what the answer says of it.

    `generation` is None where the vectors are nobody's own: a warm user's are not read, the mean is everyone's.
    """

    vectors: FloatArray
    served_by: Source
    generation: int | None = None
    fallback: Fallback | None = None
    why: "_Why | None" = None


@dataclass(frozen=True, slots=True)
class _Why:
    """Why an answer fell back or was repaired: for machines, and for people."""

    cause: Cause
    reason: str


_UNKNOWN = _Why(Cause.ATTRIBUTES_UNKNOWN, "the attributes of this user are not known")
_ZERO_SHOT = (Cause.ZERO_SHOT_AWAY, Cause.ZERO_SHOT_WRONG_SHAPE, Cause.ZERO_SHOT_REFUSED)
_RANKING = (Cause.RANKING_AWAY, Cause.RANKING_WRONG_SHAPE, Cause.RANKING_REFUSED)


class Ranking:
    """The way of a ranking request. A new user never makes an error; a part that is away costs quality.

    | behaviour seen           | virtual behaviour stored | computed on the spot | neither                    |
    |--------------------------|--------------------------|----------------------|----------------------------|
    | none (cold)              | virtual                  | read_repaired        | fallback to mean behaviour |
    | below `warm_after`       | blended                  | read_repaired        | fallback to mean behaviour |
    | from `warm_after` (warm) | real                     | real                 | real                       |

    The tower itself takes or weighs what it is given (eqs. 9 and 10), so the last two rows pass the real behaviour too.
    Without the ranking tower the candidates go by popularity. A tower that answers with the wrong shape, or with what
    is not finite, or that refuses what is stored, is as good as away. `clock` counts seconds monotonically. Without
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
        max_candidates: int = 1000,
    ) -> None:
        self._store = store
        self._towers = towers
        self._generations = generations
        self._active = active
        self._metrics = metrics
        self._clock = clock
        self._policy = policy or ImpressionPolicy()
        self._max_candidates = max_candidates

    async def rank(self, request: RankRequest) -> RankResponse:
        """The candidates in order.

        1. The candidates are checked: `InvalidInput` names what is wrong.
        2. The active generation, known for half a second at most; everything below is pinned to it.
        3. One read of the user: attributes, behaviour, virtual behaviour.
        4. What stands for the behaviour: see the class. What was computed on the spot is written back.
        5. One call of the ranking tower; by popularity where it is away.
        6. Best first; equal scores keep the order of the request.
        7. The answer gets its number, and what the user gets to see is noted for training, which takes no time.

        Raises `Unavailable` when there is no generation yet, or not even the popularity can be had.
        """
        began = self._clock()
        check_candidates(request.items, self._max_candidates)
        generation = await self._active.get()
        features, away = await self._read(request.user_id, generation)
        taste = await self._taste(features, away, generation)
        response = await self._scored(request, features, taste, generation)
        self._note(request, response, features, generation)
        self._metrics.answered(response, self._clock() - began)
        return response

    async def _read(self, user_id: str, generation: Generation) -> tuple[UserFeatures, _Why | None]:
        """The user's features; empty ones, and why, where the store is away."""
        try:
            (features,) = await self._store.read([user_id], generation.number)
        except Unavailable as error:
            return UserFeatures(user_id), _Why(Cause.STORE_AWAY, public_detail(error))
        return features, None

    async def _taste(self, features: UserFeatures, away: _Why | None, generation: Generation) -> _Taste:
        stage, stored = generation.stage(len(features.behaviour)), generation.virtual_of(features)
        if stage is Stage.WARM:
            return _Taste(generation.mean_virtual, Source.REAL)
        if stored is not None:
            return _Taste(stored.vectors, Source.VIRTUAL if stage is Stage.COLD else Source.BLENDED, generation.number)
        if features.attributes is None:
            return _mean(generation, away or _UNKNOWN)
        return await self._repaired(features, features.attributes, generation)

    async def _repaired(self, features: UserFeatures, attributes: Attributes, generation: Generation) -> _Taste:
        """The virtual behaviour computed from the attributes (eq. 8), and written back for the next request."""
        missing = _missing(features, generation)
        try:
            answer = await self._towers.virtual_behaviour([attributes], generation.number)
            _check_shape(answer, (1, *generation.virtual_shape))
        except _NO_ANSWER as error:
            why = _of_tower(error, "the zero-shot tower", _ZERO_SHOT)
            return _mean(generation, _Why(why.cause, f"{missing.reason}; {why.reason}"))
        vectors: FloatArray = answer[0]
        if not np.isfinite(vectors).all():
            reason = f"{missing.reason}; the zero-shot tower's is not finite"
            return _mean(generation, _Why(Cause.ZERO_SHOT_NOT_FINITE, reason))
        await self._write_back(features, VirtualBehaviour(generation.number, vectors))
        return _Taste(vectors, Source.READ_REPAIRED, generation.number, why=missing)

    async def _write_back(self, features: UserFeatures, virtual: VirtualBehaviour) -> None:
        """Never over what another generation in use made: the next one, filling, or one that took over just now.

        What a generation out of use left in the slot (a rollback came while it filled) is written over. As of one
        millisecond after what was read: above it, and below any registration that is still on its way. The virtual
        behaviour alone: the attributes are the sign-up way's, and written here could undo a newer registration.
        """
        held = features.virtual
        try:
            if held is not None and held.generation != virtual.generation and await self._in_use(held.generation):
                return
            await self._store.write_virtual([ReenrichedUser(features.user_id, virtual, features.as_of_ms + 1)])
        except Unavailable:
            self._metrics.repair_lost()

    async def _in_use(self, number: int) -> bool:
        """As of now, not of when this request was pinned: what started filling since is not to be written over."""
        return number in (await self._generations.serving()).in_use

    async def _scored(
        self, request: RankRequest, features: UserFeatures, taste: _Taste, generation: Generation
    ) -> RankResponse:
        """The answer of the ranking tower, or by popularity."""
        tower_input = RankingInput(
            attributes=features.attributes or {},
            context=request.context,
            behaviour=features.behaviour,
            virtual=taste.vectors,
            items=request.items,
        )
        try:
            scores = await self._towers.score(tower_input, generation.number)
            _check_shape(scores, (len(request.items),))
        except _NO_ANSWER as error:
            why = _of_tower(error, "the ranking tower", _RANKING)
            return await self._by_popularity(request, features, generation, why)
        if not np.isfinite(scores).all():
            why = _Why(Cause.RANKING_NOT_FINITE, "the ranking tower's scores are not finite")
            return await self._by_popularity(request, features, generation, why)
        return RankResponse(
            user_id=request.user_id,
            served_by=taste.served_by,
            fallback=taste.fallback,
            cause=None if taste.why is None else taste.why.cause,
            reason=None if taste.why is None else taste.why.reason,
            zero_shot_generation=taste.generation,
            ranking_generation=generation.number,
            behaviour_seen=len(features.behaviour),
            ranked=_best_first(request, scores),
        )

    def _note(
        self, request: RankRequest, response: RankResponse, features: UserFeatures, generation: Generation
    ) -> None:
        policy = self._policy
        response.ranking_id = policy.new_id()
        shown = policy.shown if request.shown is None else request.shown
        if shown:
            served = AnsweredRanking(response, request.context, features, generation.warm_after, shown, policy.now())
            policy.impressions.note(served)

    async def _by_popularity(
        self, request: RankRequest, features: UserFeatures, generation: Generation, why: _Why
    ) -> RankResponse:
        """Candidates by their share of the training interactions, 0 for one that the generation does not know."""
        shares = await self._generations.popularity(generation.number, request.items)
        return RankResponse(
            user_id=request.user_id,
            served_by=Source.FALLBACK,
            fallback=Fallback.POPULARITY,
            cause=why.cause,
            reason=why.reason,
            behaviour_seen=len(features.behaviour),
            ranked=_best_first(request, np.array([share or 0.0 for share in shares])),
        )


def _check_shape(answer: FloatArray, expected: tuple[int, ...]) -> None:
    """Raises `BadTowerOutput`: the generation's record and the tower that answers for it disagree."""
    if answer.shape != expected:
        raise BadTowerOutput(f"got {answer.shape}, expected {expected}")


def _of_tower(error: ForetasteError, tower: str, causes: tuple[Cause, Cause, Cause]) -> _Why:
    """Why a tower gave no answer; `causes` are of one that is away, answered in another shape, or refused."""
    away, wrong_shape, refused = causes
    match error:
        case BadTowerOutput():
            cause = wrong_shape
        case InvalidInput():
            cause = refused
        case _:
            cause = away
    return _Why(cause, public_detail(error, tower))


def _missing(features: UserFeatures, generation: Generation) -> _Why:
    """Why the stored virtual behaviour was not read."""
    stored = features.virtual
    if stored is None:
        return _Why(Cause.VIRTUAL_MISSING, "no virtual behaviour was stored")
    if stored.generation != generation.number:
        reason = f"the stored virtual behaviour was of generation {stored.generation}"
        return _Why(Cause.VIRTUAL_OF_ANOTHER_GENERATION, reason)
    if stored.vectors.shape != generation.virtual_shape:
        reason = f"the stored virtual behaviour was of another shape, {stored.vectors.shape}"
        return _Why(Cause.VIRTUAL_OF_ANOTHER_SHAPE, reason)
    return _Why(Cause.VIRTUAL_OUTDATED, "the stored virtual behaviour was older than the attributes")


def _mean(generation: Generation, why: _Why) -> _Taste:
    return _Taste(generation.mean_virtual, Source.FALLBACK, None, fallback=Fallback.MEAN_BEHAVIOUR, why=why)


def _best_first(request: RankRequest, scores: FloatArray) -> list[ScoredItem]:
    order, values = np.argsort(-scores, kind="stable").tolist(), scores.tolist()
    return [ScoredItem(item_id=request.items[at], score=values[at]) for at in order]
