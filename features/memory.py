"""The in-memory forms of the ports of this package: the same semantics as on Redis, for tests and small trials."""

from collections.abc import Hashable, Mapping, Sequence
from typing import TypeVar

import numpy as np

from features.records import check_same
from foretaste.contracts import (
    Attributes,
    BehavedUser,
    Behaviour,
    EnrichedUser,
    Generation,
    ReenrichedUser,
    UserFeatures,
    VirtualBehaviour,
)
from foretaste.errors import InvalidInput

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class InMemoryOnlineStore:
    """Each view of a user keeps the newest row that was written: a row no newer is dropped."""

    def __init__(self) -> None:
        self._attributes: dict[str, tuple[int, Attributes]] = {}
        self._virtual: dict[tuple[str, int], tuple[int, VirtualBehaviour]] = {}
        self._behaviour: dict[str, tuple[int, Behaviour]] = {}

    async def read(self, user_ids: Sequence[str], generation: int) -> list[UserFeatures]:
        return [self._features(user_id, generation) for user_id in user_ids]

    async def write_enriched(self, users: Sequence[EnrichedUser]) -> None:
        for user in users:
            _keep_newest(self._attributes, user.user_id, user.at_ms, dict(user.attributes))
            if user.virtual is not None:
                self._keep_virtual(user.user_id, user.virtual, user.at_ms)

    async def write_virtual(self, users: Sequence[ReenrichedUser]) -> None:
        for user in users:
            self._keep_virtual(user.user_id, user.virtual, user.at_ms)

    async def write_behaviour(self, users: Sequence[BehavedUser]) -> None:
        for user in users:
            _keep_newest(self._behaviour, user.user_id, user.version, user.behaviour)

    async def close(self) -> None:
        """Nothing is held open."""

    def _keep_virtual(self, user_id: str, virtual: VirtualBehaviour, at_ms: int) -> None:
        _keep_newest(self._virtual, (user_id, virtual.generation % 2), at_ms, _own(virtual))

    def _features(self, user_id: str, generation: int) -> UserFeatures:
        attributes_at, attributes = self._attributes.get(user_id, (0, None))
        virtual_at, virtual = self._virtual.get((user_id, generation % 2), (0, None))
        version, behaviour = self._behaviour.get(user_id, (0, Behaviour()))
        return UserFeatures(user_id, attributes, behaviour, version, virtual, attributes_at, virtual_at)


class InMemoryGenerations:
    """Records and the pointer in dictionaries of this process."""

    def __init__(self) -> None:
        self._records: dict[int, Generation] = {}
        self._popularity: dict[int, dict[str, float]] = {}
        self._active: int | None = None

    async def record(self, generation: Generation, popularity: Mapping[str, float]) -> None:
        number = generation.number
        if number in self._records:
            check_same(generation, self._records[number])
            return
        self._records[number] = generation
        self._popularity[number] = dict(popularity)

    async def active(self) -> Generation | None:
        return None if self._active is None else self._records[self._active]

    async def activate(self, number: int, expected: int | None) -> bool:
        if number not in self._records:
            raise InvalidInput("generation", number, "expected a recorded generation")
        if self._active != expected:
            return False
        self._active = number
        return True

    async def get(self, number: int) -> Generation | None:
        return self._records.get(number)

    async def popularity(self, number: int, items: Sequence[str]) -> list[float | None]:
        shares = self._popularity.get(number, {})
        return [shares.get(item) for item in items]

    async def highest(self) -> int:
        return max(self._records, default=0)

    async def close(self) -> None:
        """Nothing is held open."""


def _keep_newest(kept: dict[Key, tuple[int, Value]], key: Key, at: int, value: Value) -> None:
    if key not in kept or at > kept[key][0]:
        kept[key] = (at, value)


def _own(virtual: VirtualBehaviour) -> VirtualBehaviour:
    return VirtualBehaviour(virtual.generation, np.array(virtual.vectors, dtype=np.float32))
