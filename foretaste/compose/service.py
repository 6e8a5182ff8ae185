"""The ranking service, wired."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from foretaste.kernel.retrieval import Retrieval
from foretaste.settings import Settings

if TYPE_CHECKING:
    from fastapi import FastAPI
    from prometheus_client import CollectorRegistry

    from serving.active import ActiveGeneration
    from serving.impressions import ImpressionPolicy
    from serving.metrics import RankingMetrics
    from serving.ranking import Ranking
    from serving.recommending import Recommending
    from streams.parts import SignUpParts


def ranking(
    settings: Settings,
    found: "SignUpParts",
    metrics: "RankingMetrics",
    showing: "ImpressionPolicy | None" = None,
    seconds: float | None = None,
) -> tuple["Ranking", "ActiveGeneration"]:
    """The ranking way, and what it knows of the active generation; without `showing`, nothing is noted for training.

    An answer waits `seconds` for parts, and where that is None as long as the setting says.
    """
    from serving.active import ActiveGeneration
    from serving.ranking import Ranking, RankingLimits

    active = ActiveGeneration(found.generations, found.towers, time.monotonic)
    way = Ranking(
        found.store,
        found.towers,
        found.generations,
        active,
        metrics,
        time.monotonic,
        policy=showing,
        limits=RankingLimits(settings.max_candidates, settings.rank_timeout if seconds is None else seconds),
    )
    return way, active


def recommending(
    settings: Settings,
    found: "SignUpParts",
    way: "Ranking",
    showing: "ImpressionPolicy | None" = None,
    seconds: float | None = None,
) -> "Recommending":
    """Recommendations from the whole catalogue, on top of a ranking way; the other arguments as for `ranking`.

    Raises `TypeError` for towers without an index beside them, which neither form of them is.
    """
    from serving.impressions import ImpressionPolicy
    from serving.recommending import CandidateShares, Recommending, RecommendingLimits

    if not isinstance(found.towers, Retrieval):
        raise TypeError(f"{type(found.towers).__name__} has no index")
    return Recommending(
        way,
        found.towers,
        found.generations,
        time.monotonic,
        policy=showing or ImpressionPolicy(),
        shares=CandidateShares(
            settings.recommend_candidates, settings.recommend_popular_share, settings.recommend_exploratory_share
        ),
        limits=RecommendingLimits(settings.max_recommended, settings.rank_timeout if seconds is None else seconds),
    )


@asynccontextmanager
async def api(settings: Settings, found: "SignUpParts", registry: "CollectorRegistry") -> AsyncIterator["FastAPI"]:
    """The ranking service; at the end, what it noted for training is sent. Who opened the parts closes them."""
    from serving.api import build_api
    from serving.health import ServiceHealth, examine
    from serving.impressions import BufferedImpressions, ImpressionPolicy
    from serving.metrics import RankingMetrics
    from streams.codec import EVENTS
    from streams.topics import TopicNames

    metrics = RankingMetrics(registry)
    impressions = BufferedImpressions(found.events, TopicNames(settings.topic_prefix).ranked, EVENTS.encode, metrics)
    showing = ImpressionPolicy(impressions, settings.shown)
    way, active = ranking(settings, found, metrics, showing)

    async def health() -> ServiceHealth:
        return await examine(found.store, found.towers, found.generations, active, impressions)

    try:
        yield build_api(
            way,
            health,
            registry,
            impressions=impressions,
            recommending=recommending(settings, found, way, showing),
        )
    finally:
        await impressions.close()
