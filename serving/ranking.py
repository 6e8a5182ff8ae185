"""A ranking request from user and candidates to the ordered list, over ports alone."""

from dataclasses import dataclass

import numpy as np

from foretaste.kernel.errors import BadTowerOutput, InvalidInput, Unavailable
from foretaste.kernel.generations import Generation
from foretaste.kernel.ports import Clock, Generations, OnlineStore, Towers
from foretaste.kernel.ranking import Fallback, RankingInput, Source
from foretaste.kernel.users import ReenrichedUser, UserFeatures, VirtualBehaviour
from foretaste.kernel.values import Attributes, FloatArray
from serving.active import ActiveGeneration
from serving.impressions import Served, Showing
from serving.metrics import RankingMetrics
from serving.requests import RankRequest, RankResponse, ScoredItem, check_candidates
from serving.telling import told

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
    reason: str | None = None


class Ranking:
    """The way of a ranking request. A user who is new never makes an error; a part that is away costs quality.

    | behaviour seen           | virtual behaviour stored | computed on the spot | neither                    |
    |--------------------------|--------------------------|----------------------|----------------------------|
    | none (cold)              | virtual                  | read_repaired        | fallback to mean behaviour |
    | below `warm_after`       | blended                  | read_repaired        | fallback to mean behaviour |
    | from `warm_after` (warm) | real                     | real                 | real                       |

    The tower itself takes or weighs what it is given (eqs. 9 and 10), so the last two rows pass the real behaviour too.
    Without the ranking tower the candidates go by popularity. A tower that answers with the wrong shape, or with what
    is not finite, or that refuses what is stored, is as good as away. `clock` counts seconds monotonically. Without
    `showing`, nothing is noted for training.
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
        showing: Showing | None = None,
        max_candidates: int = 1000,
    ) -> None:
        self._store = store
        self._towers = towers
        self._generations = generations
        self._active = active
        self._metrics = metrics
        self._clock = clock
        self._showing = showing or Showing()
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

    async def _read(self, user_id: str, generation: Generation) -> tuple[UserFeatures, str | None]:
        """The user's features; empty ones and the reason where the store is away."""
        try:
            (features,) = await self._store.read([user_id], generation.number)
        except Unavailable as error:
            return UserFeatures(user_id), told(error)
        return features, None

    async def _taste(self, features: UserFeatures, away: str | None, generation: Generation) -> _Taste:
        seen, stored = len(features.behaviour), features.current_virtual(generation)
        if seen and seen >= generation.warm_after:
            return _Taste(generation.mean_virtual, Source.REAL)
        if stored is not None:
            return _Taste(stored.vectors, Source.BLENDED if seen else Source.VIRTUAL, generation.number)
        if features.attributes is None:
            return _mean(generation, away or "the attributes of this user are not known")
        return await self._repaired(features, features.attributes, generation)

    async def _repaired(self, features: UserFeatures, attributes: Attributes, generation: Generation) -> _Taste:
        """The virtual behaviour computed from the attributes (eq. 8), and written back for the next request."""
        missing = _missing(features, generation)
        try:
            answer = await self._towers.virtual_behaviour([attributes], generation.number)
            _check_shape(answer, (1, *generation.virtual_shape))
        except _NO_ANSWER as error:
            return _mean(generation, f"{missing}; {told(error, 'the zero-shot tower')}")
        vectors: FloatArray = answer[0]
        if not np.isfinite(vectors).all():
            return _mean(generation, f"{missing}; the zero-shot tower's is not finite")
        await self._write_back(features, VirtualBehaviour(generation.number, vectors))
        return _Taste(vectors, Source.READ_REPAIRED, generation.number, reason=missing)

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
        serving = await self._generations.serving()
        return number in {each.number for each in (serving.active, serving.filling) if each is not None}

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
            return await self._by_popularity(request, features, generation, told(error, "the ranking tower"))
        if not np.isfinite(scores).all():
            return await self._by_popularity(request, features, generation, "the ranking tower's scores are not finite")
        return RankResponse(
            user_id=request.user_id,
            served_by=taste.served_by,
            fallback=taste.fallback,
            reason=taste.reason,
            zero_shot_generation=taste.generation,
            ranking_generation=generation.number,
            behaviour_seen=len(features.behaviour),
            ranked=_best_first(request, scores),
        )

    def _note(
        self, request: RankRequest, response: RankResponse, features: UserFeatures, generation: Generation
    ) -> None:
        showing = self._showing
        response.ranking_id = showing.new_id()
        shown = showing.shown if request.shown is None else request.shown
        if shown:
            served = Served(response, request.context, features, generation.warm_after, shown, showing.now())
            showing.impressions.note(served)

    async def _by_popularity(
        self, request: RankRequest, features: UserFeatures, generation: Generation, reason: str
    ) -> RankResponse:
        """Candidates by their share of the training interactions, 0 for one that the generation does not know."""
        shares = await self._generations.popularity(generation.number, request.items)
        return RankResponse(
            user_id=request.user_id,
            served_by=Source.FALLBACK,
            fallback=Fallback.POPULARITY,
            reason=reason,
            behaviour_seen=len(features.behaviour),
            ranked=_best_first(request, np.array([share or 0.0 for share in shares])),
        )


def _check_shape(answer: FloatArray, expected: tuple[int, ...]) -> None:
    """Raises `BadTowerOutput`: the generation's record and the tower that answers for it disagree."""
    if answer.shape != expected:
        raise BadTowerOutput(f"got {answer.shape}, expected {expected}")


def _missing(features: UserFeatures, generation: Generation) -> str:
    """Why the stored virtual behaviour was not read."""
    stored = features.virtual
    if stored is None:
        return "no virtual behaviour was stored"
    if stored.generation != generation.number:
        return f"the stored virtual behaviour was of generation {stored.generation}"
    if stored.vectors.shape != generation.virtual_shape:
        return f"the stored virtual behaviour was of another shape, {stored.vectors.shape}"
    return "the stored virtual behaviour was older than the attributes"


def _mean(generation: Generation, reason: str) -> _Taste:
    return _Taste(generation.mean_virtual, Source.FALLBACK, None, fallback=Fallback.MEAN_BEHAVIOUR, reason=reason)


def _best_first(request: RankRequest, scores: FloatArray) -> list[ScoredItem]:
    order, values = np.argsort(-scores, kind="stable").tolist(), scores.tolist()
    return [ScoredItem(item_id=request.items[at], score=values[at]) for at in order]
