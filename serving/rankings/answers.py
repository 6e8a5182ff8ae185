"""The answer to a ranking request, once its candidates have scores."""

import numpy as np

from foretaste.kernel.generations import Generation
from foretaste.kernel.ranking import Fallback, Source
from foretaste.kernel.users import UserFeatures
from foretaste.kernel.values import FloatArray
from serving.rankings.tastes import FallbackReason, UserTaste
from serving.requests import RankRequest, RankResponse, ScoredItem


def scored_answer(
    request: RankRequest, features: UserFeatures, taste: UserTaste, scores: FloatArray, generation: Generation
) -> RankResponse:
    """By the ranking tower's scores (K,). Nothing is checked once more: it was where it came in."""
    return RankResponse.model_construct(
        user_id=request.user_id,
        served_by=taste.served_by,
        fallback=taste.fallback,
        cause=None if taste.why is None else taste.why.cause,
        reason=None if taste.why is None else taste.why.reason,
        zero_shot_generation=taste.generation,
        ranking_generation=generation.number,
        behaviour_seen=len(features.behaviour.acts),
        ranked=_best_first(request, scores),
    )


def popular_answer(
    request: RankRequest, features: UserFeatures, why: FallbackReason, shares: FloatArray
) -> RankResponse:
    """By the candidates' shares (K,) of the training interactions."""
    return RankResponse(
        user_id=request.user_id,
        served_by=Source.FALLBACK,
        fallback=Fallback.POPULARITY,
        cause=why.cause,
        reason=why.reason,
        behaviour_seen=len(features.behaviour.acts),
        ranked=_best_first(request, shares),
    )


def _best_first(request: RankRequest, scores: FloatArray) -> list[ScoredItem]:
    order, values, items = np.argsort(-scores, kind="stable").tolist(), scores.tolist(), request.items
    return [{"item_id": items[at], "score": values[at]} for at in order]
