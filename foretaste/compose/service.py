"""The HTTP service, wired."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import ip_address
from typing import TYPE_CHECKING

from foretaste.compose.ports import event_counts, idempotency_keys
from foretaste.compose.refresh import publish_parts
from foretaste.compose.running import store_watch, task_ends
from foretaste.kernel.errors import InvalidInput
from foretaste.kernel.retrieval import Retrieval
from foretaste.settings import Settings

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry
    from starlette.types import ASGIApp

    from foretaste.kernel.running.registered_items import RegisteredItems
    from serving.access.access_control import AccessPolicy
    from serving.active import ActiveGeneration
    from serving.metrics import RankingMetrics
    from serving.onboarding import Onboarding
    from serving.rankings.impressions import ImpressionPolicy
    from serving.rankings.ranking import Ranking
    from serving.rankings.recommending import Recommending
    from streams.parts import SignUpParts

_LOOPBACK = frozenset({"localhost", "127.0.0.1", "[::1]"})
"""Names of this machine in a Host header."""


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
    from serving.rankings.ranking import Ranking, RankingLimits

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
    from serving.rankings.impressions import ImpressionPolicy
    from serving.rankings.recommending import CandidateShares, Recommending, RecommendingLimits

    if not isinstance(found.towers, Retrieval):
        raise TypeError(f"{type(found.towers).__name__} has no index")
    return Recommending(
        way,
        found.towers,
        time.monotonic,
        policy=showing or ImpressionPolicy(),
        shares=CandidateShares(
            settings.recommend_candidates, settings.recommend_popular_share, settings.recommend_exploratory_share
        ),
        limits=RecommendingLimits(settings.max_recommended, settings.rank_timeout if seconds is None else seconds),
    )


def registered_items(found: "SignUpParts") -> "RegisteredItems":
    """What brings items that are registered to the towers of this process.

    Raises `TypeError` for parts without a registry, or towers that take no items in, which neither form of them is.
    """
    from foretaste.kernel.running.registered_items import RegisteredItems, TakesNewItems

    if found.items is None or not isinstance(found.towers, TakesNewItems):
        raise TypeError(f"{type(found.towers).__name__} and {found.items!r} take in no items")
    return RegisteredItems(found.items, found.towers, time.monotonic)


def onboarding(found: "SignUpParts", active: "ActiveGeneration") -> "Onboarding":
    """Questions to new users.

    Raises `TypeError` for towers that know of none, which neither form of them is.
    """
    from foretaste.kernel.service_ports import AsksQuestions
    from serving.onboarding import Onboarding

    if not isinstance(found.towers, AsksQuestions):
        raise TypeError(f"{type(found.towers).__name__} knows of no questions")
    return Onboarding(found.store, found.towers, active)


def access_policy(settings: Settings) -> "AccessPolicy":
    """Who may do what, by the settings.

    Raises `InvalidInput` for a service without tokens on another address than loopback, and for tokens that are none.
    """
    from serving.access.access_control import AccessPolicy
    from serving.access.token_file import KnownTokens

    loopback = _is_loopback(settings.api_host)
    hosts = frozenset(name.strip().lower() for name in (settings.api_allowed_hosts or "").split(",") if name.strip())
    if hosts or loopback:
        hosts |= _LOOPBACK | {settings.api_host}  # this machine's own probes come by these names
    if settings.api_tokens is None and settings.api_token_file is None:
        if not loopback:
            problem = "without tokens it may be loopback alone: set FORETASTE_API_TOKENS or FORETASTE_API_TOKEN_FILE"
            raise InvalidInput("FORETASTE_API_HOST", settings.api_host, problem)
        return AccessPolicy(hosts=hosts)
    text = settings.api_tokens.get_secret_value() if settings.api_tokens else ""
    return AccessPolicy(KnownTokens(text, settings.api_token_file).find, hosts, settings.api_rate)


@asynccontextmanager
async def api(settings: Settings, found: "SignUpParts", registry: "CollectorRegistry") -> AsyncIterator["ASGIApp"]:
    """The HTTP service; at the end, what it noted for training is sent. Who opened the parts closes them."""
    from foretaste.kernel.running.readiness import ProcessReadiness
    from foretaste.kernel.running.supervision import Supervision
    from models.generations.admin import PublishedGenerations
    from serving.api import ServiceConfig, build_service
    from serving.console.comparison import Comparison
    from serving.console.overview import OverviewReader
    from serving.health import ServiceHealth, examine
    from serving.metrics import RankingMetrics
    from serving.parts import ServiceParts
    from serving.rankings.exploring import Exploration
    from serving.rankings.impressions import BufferedImpressions, ImpressionPolicy
    from serving.users import StoredUsers
    from streams.codec import EVENTS
    from streams.intake import TopicIntake
    from streams.topics import TopicNames

    metrics, names = RankingMetrics(registry), TopicNames(settings.topic_prefix)
    impressions = BufferedImpressions(found.events, names.ranked, EVENTS.encode, metrics)
    showing = ImpressionPolicy(impressions, settings.shown, exploration=Exploration(settings.explore_share))
    way, active = ranking(settings, found, metrics, showing)
    log_key = settings.api_log_key.get_secret_value().encode()[:64] if settings.api_log_key else None
    config = ServiceConfig(access_policy(settings), settings.api_max_body_bytes, log_key)
    keys, counts = idempotency_keys(settings), event_counts(settings)

    readiness = ProcessReadiness()
    tasks = Supervision(readiness, task_ends(registry))

    stores = store_watch(found, registry)

    async def health() -> ServiceHealth:
        asked = found.store, found.towers, found.generations, active
        return await examine(*asked, impressions, readiness, way.popularity, stores)

    items = registered_items(found)
    tasks.start("popularity", way.popularity.run)
    tasks.start("registered items", items.run)
    tasks.start("store watch", stores.run)
    try:
        async with publish_parts(settings) as publishing:
            parts = ServiceParts(
                ranking=way,
                recommending=recommending(settings, found, way, showing),
                users=StoredUsers(found.store, active),
                items=items,
                onboarding=onboarding(found, active),
                intake=TopicIntake(found.events, names, max_event_bytes=settings.max_event_bytes),
                idempotency=keys,
                generations=PublishedGenerations(publishing),
                health=health,
                registry=registry,
                active=active,
                store=found.store,
                overview=OverviewReader(found.store, active, counts, registry),
                comparison=Comparison(found.store, found.towers, active),
                impressions=impressions,
            )
            yield build_service(parts, config)
    finally:
        await tasks.close()
        await active.close()
        await keys.close()
        await counts.close()
        await impressions.close()


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
