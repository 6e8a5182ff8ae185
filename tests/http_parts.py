"""The HTTP service on parts in memory: no server, no socket, no clock of its own."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import httpx
from starlette.types import ASGIApp

from foretaste.kernel.errors import InvalidInput, Unavailable
from foretaste.kernel.running.readiness import ProcessReadiness
from foretaste.kernel.running.registered_items import RegisteredItems
from foretaste.kernel.service_ports import (
    BehaviourMap,
    FieldChoices,
    GenerationChoices,
    IdempotencyKeys,
    MapPlace,
    TopicCount,
)
from foretaste.kernel.values import FloatArray
from foretaste.testing import InMemoryEvents, InMemoryIdempotencyKeys, InMemoryItemRegistry
from serving.api import ServiceConfig, build_service
from serving.console.comparison import Comparison
from serving.console.overview import OverviewReader
from serving.health import examine
from serving.onboarding import Onboarding
from serving.parts import ServiceParts
from serving.rankings.impressions import BufferedImpressions
from serving.users import StoredUsers
from streams.intake import TopicIntake
from streams.topics import TopicNames
from tests.serving_parts import AT, SHAPE, Parts

NAMES = TopicNames("shop-")


@dataclass
class KnownMap:
    """Two users; whoever is placed on it is in its middle."""

    real: Sequence[tuple[float, float]] = ((0.0, 0.25), (1.0, 0.75))
    virtual: Sequence[tuple[float, float]] = ((0.25, 0.0), (0.75, 1.0))

    def place(self, vectors: FloatArray) -> MapPlace:
        if vectors.shape != SHAPE:
            raise InvalidInput("virtual_behaviour", vectors.shape, f"expected {SHAPE}")
        return MapPlace(0.5, 0.5, 0.125)


@dataclass
class KnownSummaries:
    """Two generations; the pointer moves between them."""

    active: int = 2
    previous: int | None = 1
    moves: list[str] = field(default_factory=list)
    map: BehaviourMap | None = field(default_factory=KnownMap)

    async def summaries(self) -> Sequence[Mapping[str, Any]]:
        return [
            {"number": number, "state": "active" if number == self.active else "previous", "created_at": None}
            | {"base": None, "metrics": {"cold.virtual.gauc": 0.61, "cold.virtual.gauc_low": None}}
            | {"verdict": None, "damage": None}
            for number in (1, 2)
        ]

    async def choices(self, number: int) -> GenerationChoices:
        return GenerationChoices(
            attributes={"age": FieldChoices("numeric", [18, 25, 41]), "city": FieldChoices("categorical", ["north"])},
            context={},
            actions=["liked", "viewed"],
            items=[f"i{place}" for place in range(60, 0, -1)],
        )

    async def behaviour_map(self, number: int) -> BehaviourMap | None:
        return self.map

    async def rollback(self, reason: str, expected: int | None = None) -> tuple[int, int]:
        if expected not in (None, self.active):
            raise InvalidInput("expected", expected, f"generation {self.active} is active")
        if self.previous is None:
            raise InvalidInput("generation", None, "there is no previous one to roll back to")
        self.active, self.previous = self.previous, self.active
        self.moves.append(reason)
        return self.previous, self.active


class EventsInMemory:
    """Counts of what `InMemoryEvents` was sent, all of it handled."""

    def __init__(self, events: InMemoryEvents) -> None:
        self._events = events
        self.looks, self.away, self.unhandled = 0, False, 0

    async def counts(self) -> Mapping[str, TopicCount]:
        self.looks += 1
        if self.away:
            raise Unavailable("kafka", "connection refused at 10.0.0.9")
        topics = {"registered": NAMES.registered, "behaved": NAMES.behaved, "enriched": NAMES.enriched}
        topics |= {"ranked": NAMES.ranked, "dead_letters": NAMES.dead_letters}
        found = {name: len(self._events.of(topic)) for name, topic in topics.items()}
        return {name: TopicCount(count, self.unhandled) for name, count in found.items()}

    async def close(self) -> None:
        """Nothing is held open."""


class HttpParts(Parts):
    """The ranking parts, and what the other routes need: `now` (seconds) drives their clock and their sleep."""

    def __init__(self, max_candidates: int = 1000, impressions: BufferedImpressions | None = None) -> None:
        super().__init__(max_candidates)
        self.events, self.summaries = InMemoryEvents(), KnownSummaries()
        self.keys: IdempotencyKeys = InMemoryIdempotencyKeys()
        self.counts = EventsInMemory(self.events)
        self.item_registry = InMemoryItemRegistry()
        self.items = RegisteredItems(self.item_registry, self.towers, lambda: self.now, sleep=self._sleep)
        self.slept: list[float] = []
        self.impressions, self.readiness = impressions, ProcessReadiness()
        self._service: ASGIApp | None = None

    def wall(self) -> float:
        """Seconds since the epoch."""
        return AT / 1000 + self.now

    async def _sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds
        await self.while_waiting()

    async def while_waiting(self) -> None:
        """What happens elsewhere meanwhile."""

    def service_parts(self) -> ServiceParts:
        return ServiceParts(
            ranking=self.ranking,
            recommending=self.recommending,
            users=StoredUsers(self.store, self.active, clock=lambda: self.now, now=self.wall, sleep=self._sleep),
            items=self.items,
            onboarding=Onboarding(self.store, self.towers, self.active, now=self.wall),
            intake=TopicIntake(self.events, NAMES, max_event_bytes=2000, now=self.wall),
            idempotency=self.keys,
            generations=self.summaries,
            health=partial(
                examine,
                self.store,
                self.towers,
                self.generations,
                self.active,
                self.impressions,
                self.readiness,
                self.ranking.popularity,
            ),
            registry=self.registry,
            active=self.active,
            store=self.store,
            overview=OverviewReader(
                self.store, self.active, self.counts, self.registry, clock=lambda: self.now, now=self.wall
            ),
            comparison=Comparison(self.store, self.towers, self.active),
            impressions=self.impressions,
        )

    def service(self, config: ServiceConfig | None = None) -> ASGIApp:
        """The one service of a process: these parts make no second, whose metrics would have the same names."""
        if self._service is None:
            self._service = build_service(self.service_parts(), config or ServiceConfig(max_body_bytes=4096))
        return self._service


@asynccontextmanager
async def client_of(service: ASGIApp, **options: Any) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(service, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://test", **options) as client:
        yield client


def problem(response: httpx.Response, status: int) -> dict[str, Any]:
    """The problem document of an answer with that status."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = response.json()
    assert (body["status"], body["type"]) == (status, "about:blank")
    return body
