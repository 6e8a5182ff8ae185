"""The ports of the ranking service in memory, each with a switch that takes it away."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count

import numpy as np
from prometheus_client import CollectorRegistry

from foretaste.kernel.errors import ForetasteError, Unavailable
from foretaste.kernel.generations import Generation
from foretaste.kernel.ranking import RankingInput
from foretaste.kernel.users import BehavedUser, Behaviour, EnrichedUser, ReenrichedUser, UserFeatures, VirtualBehaviour
from foretaste.kernel.values import Attributes, FloatArray, number
from foretaste.testing import InMemoryGenerations, InMemoryOnlineStore, InMemoryRetrieval
from serving.active import ActiveGeneration
from serving.metrics import RankingMetrics
from serving.rankings.impressions import AnsweredRanking, Impression, ImpressionPolicy
from serving.rankings.ranking import Ranking, RankingLimits
from serving.rankings.recommending import CandidateShares, Recommending, RecommendingLimits

AT = 1_767_225_600_000
SHAPE = (3, 2)
GENRES = ("even", "odd")
"""Of item i0, i1, and so on in turn."""


def generation(number: int, warm_after: int = 3, shape: tuple[int, int] = SHAPE) -> Generation:
    return Generation(number, warm_after, {}, {}, np.full(shape, -1.0, np.float32), "2026-01-01T00:00:00Z")


class Store(InMemoryOnlineStore):
    """Counts its reads; its reads or its writes can be away."""

    def __init__(self) -> None:
        super().__init__()
        self.reads = 0
        self.reads_away = self.writes_away = False

    async def read(self, user_ids: Sequence[str], generation: int) -> list[UserFeatures]:
        self.reads += 1
        if self.reads_away:
            raise Unavailable("redis", "connection refused at 10.0.0.7")
        return await super().read(user_ids, generation)

    async def write_virtual(self, users: Sequence[ReenrichedUser]) -> list[str]:
        if self.writes_away:
            raise Unavailable("redis", "OOM command not allowed")
        return await super().write_virtual(users)


class KnownGenerations(InMemoryGenerations):
    """Counts how often the active one was asked for; can be away."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0
        self.away = False

    async def active(self) -> Generation | None:
        self.asked += 1
        self._check()
        return await super().active()

    async def popularity(self, number: int, items: Sequence[str]) -> list[float | None]:
        self._check()
        return await super().popularity(number, items)

    async def shares(self, number: int, most: int) -> dict[str, float] | None:
        self._check()
        return await super().shares(number, most)

    async def popular(self, number: int, count: int) -> list[str]:
        self._check()
        return await super().popular(number, count)

    def _check(self) -> None:
        if self.away:
            raise Unavailable("redis", "connection refused at 10.0.0.7")


@dataclass
class FakeTowers:
    """v̂ is the user's age everywhere, plus the generation; an item's score is its own number in [0, 1)."""

    away: set[str] = field(default_factory=set)
    not_finite: set[str] = field(default_factory=set)
    made: list[int] = field(default_factory=list)
    """The generation of each zero-shot call."""
    scored: list[tuple[RankingInput, int]] = field(default_factory=list)
    calls: list[int] = field(default_factory=list)
    """How many requests each call of the ranking tower scored."""
    prepared: list[int] = field(default_factory=list)
    met: dict[str, Attributes | None] = field(default_factory=dict)
    known: set[str] = field(default_factory=set)
    """Items beside i0, i1, and so on."""
    asks: tuple[str, ...] = ("i1", "i2", "i3")
    """Items that new users are asked about."""
    refusals: dict[str, ForetasteError] = field(default_factory=dict)
    """What a tower raises."""
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    """The shape that a tower answers with, where it is not the right one."""

    async def virtual_behaviour(self, attributes: Sequence[Attributes], generation: int) -> FloatArray:
        self._check("zero_shot")
        self.made.append(generation)
        if "zero_shot" in self.shapes:
            return np.zeros(self.shapes["zero_shot"], np.float32)
        ages = [number(one.get("age") or 0) + generation for one in attributes]
        if "zero_shot" in self.not_finite:
            ages = [float("nan")] * len(ages)
        return np.stack([np.full(SHAPE, age, np.float32) for age in ages])

    async def score(self, requests: Sequence[RankingInput], generation: int) -> list[FloatArray]:
        self._check("ranking")
        self.calls.append(len(requests))
        return [self._score(each, generation) for each in requests]

    async def unknown(self, items: Sequence[str], generation: int) -> list[str]:
        return [item for item in items if not item[1:].isdecimal() and item not in self.known]

    async def questions(self, generation: int) -> Sequence[str]:
        self._check("questions")
        return self.asks

    async def add_items(self, items: Mapping[str, Attributes | None]) -> None:
        self.met.update(items)

    async def prepare(self, generation: int) -> None:
        self._check("prepare")
        self.prepared.append(generation)

    def _score(self, request: RankingInput, generation: int) -> FloatArray:
        self.scored.append((request, generation))
        if "ranking" in self.shapes:
            return np.zeros(self.shapes["ranking"], np.float32)
        if "ranking" in self.not_finite:
            return np.full(len(request.items), np.nan, np.float32)
        numbers = [int(item[1:]) if item[1:].isdecimal() else 0 for item in request.items]
        return np.array([number % 100 / 100 for number in numbers], np.float32)

    async def close(self) -> None:
        """Nothing is held open."""

    def _check(self, tower: str) -> None:
        if tower in self.refusals:
            raise self.refusals[tower]
        if tower in self.away:
            raise Unavailable("triton", f"{tower} is not loaded at 10.0.0.8")


@dataclass
class Noted:
    """Keeps what is noted."""

    served: list[AnsweredRanking] = field(default_factory=list)

    def note(self, impression: Impression) -> None:
        assert isinstance(impression, AnsweredRanking)
        self.served.append(impression)


class Parts:
    """A ranking service on the parts above; `now` is its clock, `start` records and activates a first generation."""

    def __init__(self, max_candidates: int = 1000, towers: FakeTowers | None = None, seconds: float = 0.25) -> None:
        self.store, self.towers, self.generations = Store(), towers or FakeTowers(), KnownGenerations()
        self.registry = CollectorRegistry()
        self.now = 0.0
        self.noted, self._ids = Noted(), count(1)
        self.active = ActiveGeneration(self.generations, self.towers, lambda: self.now)
        policy = ImpressionPolicy(self.noted, shown=2, now=lambda: AT / 1000 + self.now, new_id=self._next_id)
        self.ranking = Ranking(
            self.store,
            self.towers,
            self.generations,
            self.active,
            RankingMetrics(self.registry),
            lambda: self.now,
            policy=policy,
            limits=RankingLimits(max_candidates, seconds),
        )
        self.retrieval = InMemoryRetrieval({f"i{number}": {"genre": GENRES[number % 2]} for number in range(40)})
        self.recommending = Recommending(
            self.ranking,
            self.retrieval,
            lambda: self.now,
            policy=policy,
            shares=CandidateShares(10, 0.2, 0.1),
            limits=RecommendingLimits(k=20, seconds=seconds),
        )

    async def start(self, made: Generation | None = None, popularity: Mapping[str, float] | None = None) -> None:
        made = made or generation(1)
        await self.generations.record(made, popularity or {"no candidate": 1.0})
        assert await self.generations.activate(made.number, None)

    async def move(self, old: int, new: int) -> None:
        await self.generations.record(generation(new), {})
        assert await self.generations.activate(new, old)

    async def sign_up(self, user_id: str = "u1", age: int = 25, virtual_of: int | None = 1) -> None:
        vectors = np.full(SHAPE, 7.0, np.float32)
        virtual = None if virtual_of is None else VirtualBehaviour(virtual_of, vectors)
        await self.store.write_enriched([EnrichedUser(user_id, {"age": age}, virtual, AT)])

    async def register(self, attributes: Attributes, user_id: str = "u1") -> None:
        """Sign a user up whose virtual behaviour is not made yet."""
        await self.store.write_enriched([EnrichedUser(user_id, attributes, None, AT)])

    async def behave(self, *items: str, user_id: str = "u1") -> None:
        behaviour = Behaviour(items, ["liked"] * len(items), [AT] * len(items))
        await self.store.write_behaviour([BehavedUser(user_id, behaviour)])

    def _next_id(self) -> str:
        return f"r{next(self._ids)}"

    def count(self, name: str, **labels: str) -> float:
        return self.registry.get_sample_value(name, labels) or 0.0
