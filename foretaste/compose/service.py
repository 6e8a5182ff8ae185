"""The ranking service, wired."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from foretaste.settings import Settings

if TYPE_CHECKING:
    from fastapi import FastAPI
    from prometheus_client import CollectorRegistry

    from serving.active import ActiveGeneration
    from serving.impressions import ImpressionPolicy
    from serving.metrics import RankingMetrics
    from serving.ranking import Ranking
    from streams.parts import SignUpParts


def ranking(
    settings: Settings, found: "SignUpParts", metrics: "RankingMetrics", showing: "ImpressionPolicy | None" = None
) -> tuple["Ranking", "ActiveGeneration"]:
    """The ranking way, and what it knows of the active generation; without `showing`, nothing is noted for training."""
    from serving.active import ActiveGeneration
    from serving.ranking import Ranking

    active = ActiveGeneration(found.generations, time.monotonic)
    way = Ranking(
        found.store,
        found.towers,
        found.generations,
        active,
        metrics,
        time.monotonic,
        policy=showing,
        max_candidates=settings.max_candidates,
    )
    return way, active


@asynccontextmanager
async def api(settings: Settings, found: "SignUpParts", registry: "CollectorRegistry") -> AsyncIterator["FastAPI"]:
    """The ranking service; at the end, what it noted for training is sent. Who opened the parts closes them."""
    from serving.api import build_api
    from serving.health import ServiceHealth, examine
    from serving.impressions import BufferedImpressions, ImpressionPolicy
    from serving.metrics import RankingMetrics
    from serving.parts import ServiceParts
    from streams.codec import EVENTS
    from streams.topics import TopicNames

    metrics = RankingMetrics(registry)
    impressions = BufferedImpressions(found.events, TopicNames(settings.topic_prefix).ranked, EVENTS.encode, metrics)
    way, active = ranking(settings, found, metrics, ImpressionPolicy(impressions, settings.shown))

    async def health() -> ServiceHealth:
        return await examine(found.store, found.towers, found.generations, active, impressions)

    try:
        yield build_api(ServiceParts(way, health, registry, impressions))
    finally:
        await impressions.close()
