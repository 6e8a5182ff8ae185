"""What the tests of the ways share: parts in memory, whose outages are chosen, and messages."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from prometheus_client import CollectorRegistry

from foretaste.kernel.errors import ForetasteError
from foretaste.kernel.event_order import AttributesVersion
from foretaste.kernel.events import Message, Origin
from foretaste.kernel.generations import Generation
from foretaste.kernel.ranking import RankingInput
from foretaste.kernel.running.durability import SyncedStore
from foretaste.kernel.users import BehavedUser, EnrichedUser, LaterBehaviour, ReenrichedUser, UserFeatures
from foretaste.kernel.values import Attributes, FloatArray
from foretaste.testing import (
    InMemoryEvents,
    InMemoryGenerations,
    InMemoryItemRegistry,
    InMemoryLastErasure,
    InMemoryOneStepStore,
    InMemoryOnlineStore,
)
from streams.parts import SignUpParts
from streams.topics import TopicNames
from streams.worker.dead_letters import DeadLetters
from streams.worker.metrics import Metrics

NOW = 1_700_000_000.0
NOW_MS = round(NOW * 1000)
SHAPE = (2, 3)
"""(M, D)."""


def generation(number: int = 1, warm_after: int = 3) -> Generation:
    return Generation(
        number=number,
        warm_after=warm_after,
        attributes={"age": "numeric"},
        context={},
        mean_virtual=np.zeros(SHAPE, np.float32),
        created_at="2024-01-01T00:00:00Z",
    )


def message(
    value: object,
    *,
    key: bytes | None = b"u1",
    topic: str = "user-registered",
    offset: int = 0,
    timestamp_ms: int = NOW_MS,
) -> Message:
    """A record of `value`: bytes and None verbatim, anything else as JSON."""
    raw = value if value is None or isinstance(value, bytes) else json.dumps(value).encode()
    return Message(key, raw, Origin(topic, 0, offset, timestamp_ms))


def sign_up(user_id: str, offset: int = 0, timestamp_ms: int = NOW_MS, **attributes: Any) -> Message:
    value = {"user_id": user_id, "attributes": attributes}
    return message(value, key=user_id.encode(), offset=offset, timestamp_ms=timestamp_ms)


def virtual_of(attributes: Attributes) -> FloatArray:
    """(M, D): what `ChosenTowers` answers; not finite for an age of -1."""
    age = attributes.get("age", 0)
    value = float("nan") if age == -1 else float(age) if isinstance(age, int | float) else 0.0
    return np.full(SHAPE, value, np.float32)


@dataclass
class ChosenTowers:
    """Towers that answer `virtual_of`; while `outage` is set they raise it. `calls` are (B, generation)."""

    outage: ForetasteError | None = None
    shape: tuple[int, ...] | None = None
    """What they answer has this shape instead, where set."""
    calls: list[tuple[int, int]] = field(default_factory=list)

    async def virtual_behaviour(self, attributes: Sequence[Attributes], generation: int) -> FloatArray:
        if self.outage is not None:
            raise self.outage
        self.calls.append((len(attributes), generation))
        if self.shape is not None:
            return np.zeros(self.shape, np.float32)
        return np.stack([virtual_of(each) for each in attributes])

    async def score(self, requests: Sequence[RankingInput], generation: int) -> list[FloatArray]:
        return [np.zeros(len(request.items), np.float32) for request in requests]

    async def unknown(self, items: Sequence[str], generation: int) -> list[str]:
        return []

    async def prepare(self, generation: int) -> None:
        """Nothing is needed."""

    async def close(self) -> None:
        """Nothing is held open."""


@dataclass
class ChosenStore(InMemoryOnlineStore):
    """The store in memory; while an outage is set, its reads or writes raise it."""

    read_outage: ForetasteError | None = None
    write_outage: ForetasteError | None = None
    reads: int = 0
    writes: int = 0

    def __post_init__(self) -> None:
        super().__init__()

    async def read(self, user_ids: Sequence[str], generation: int) -> list[UserFeatures]:
        if self.read_outage is not None:
            raise self.read_outage
        self.reads += 1
        return await super().read(user_ids, generation)

    async def read_behaviour(self, user_ids: Sequence[str]) -> list[UserFeatures]:
        if self.read_outage is not None:
            raise self.read_outage
        self.reads += 1
        return await super().read_behaviour(user_ids)

    async def write_enriched(self, users: Sequence[EnrichedUser]) -> list[str]:
        if self.write_outage is not None:
            raise self.write_outage
        self.writes += 1
        return await super().write_enriched(users)

    async def write_virtual(self, users: Sequence[ReenrichedUser]) -> list[str]:
        if self.write_outage is not None:
            raise self.write_outage
        self.writes += 1
        return await super().write_virtual(users)

    async def write_behaviour(self, users: Sequence[BehavedUser]) -> list[str]:
        if self.write_outage is not None:
            raise self.write_outage
        self.writes += 1
        return await super().write_behaviour(users)


@dataclass
class PlacelessStore(ChosenStore):
    """A store that keeps of registrations their times alone, and that no read of attributes tells of an erasure, as
    `FeastStore` of a user of whom nothing else was stored."""

    async def write_enriched(self, users: Sequence[EnrichedUser]) -> list[str]:
        before_erasure = [user for user in users if user.at_ms <= self._erased.get(user.user_id, -1)]
        others = [user for user in users if user not in before_erasure]
        return [user.user_id for user in before_erasure] + await super().write_enriched(others)

    def _version(self, user_id: str) -> AttributesVersion:
        version, attributes = self._attributes.get(user_id, (AttributesVersion(), None))
        return AttributesVersion(0 if attributes is None else version.at_ms)


@dataclass
class ChosenOneStepStore(ChosenStore, InMemoryOneStepStore):
    """The same with the usual case in one step, which a write's outage ends too; `steps` are the calls."""

    steps: int = 0

    async def append_behaviour(self, users: Sequence[LaterBehaviour]) -> list[str]:
        if self.write_outage is not None:
            raise self.write_outage
        self.steps += 1
        return await super().append_behaviour(users)

    async def write_new(self, users: Sequence[EnrichedUser]) -> list[str]:
        if self.write_outage is not None:
            raise self.write_outage
        self.steps += 1
        return await super().write_new(users)


@dataclass
class ChosenDisk:
    """A disk that is waited for; while an outage is set, it does not come."""

    outage: ForetasteError | None = None
    waits: int = 0

    async def synced(self) -> None:
        self.waits += 1
        if self.outage is not None:
            raise self.outage


@dataclass
class World:
    """All parts in memory, with generation 1 active."""

    store: ChosenStore = field(default_factory=ChosenStore)
    towers: ChosenTowers = field(default_factory=ChosenTowers)
    generations: InMemoryGenerations = field(default_factory=InMemoryGenerations)
    events: InMemoryEvents = field(default_factory=InMemoryEvents)
    metrics: Metrics = field(default_factory=lambda: Metrics(CollectorRegistry()))
    names: TopicNames = field(default_factory=TopicNames)
    synced: SyncedStore | None = None
    last_erasure: InMemoryLastErasure = field(default_factory=InMemoryLastErasure)
    items: InMemoryItemRegistry = field(default_factory=InMemoryItemRegistry)

    @property
    def parts(self) -> SignUpParts:
        return SignUpParts(
            self.store, self.towers, self.generations, self.events, self.synced, self.last_erasure, self.items
        )

    @property
    def dead_letters(self) -> DeadLetters:
        return DeadLetters(self.events, self.names.dead_letters, self.metrics)

    async def activate(self, of: Generation | None = None) -> "World":
        made = of or generation()
        active = await self.generations.active()
        await self.generations.record(made, {"known": 1.0})
        await self.generations.activate(made.number, None if active is None else active.number)
        return self

    async def features(self, user_id: str, number: int = 1) -> UserFeatures:
        (found,) = await InMemoryOnlineStore.read(self.store, [user_id], number)
        return found

    def counted(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(name, labels) or 0.0
