"""The forms of the online store against a small reference: what was before an erasure is gone, what came after stays.

In whatever order events come, and however often, and whatever writers that had read the user before write late.
"""

import asyncio
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from features.online.feast_store import FeastStore
from features.online.redis_store import RedisStore
from foretaste.kernel.event_order import AttributesVersion, Place
from foretaste.kernel.running.durability import OneStepStore
from foretaste.kernel.running.erasing import ErasedUser, ErasingStore
from foretaste.kernel.users import (
    BehavedUser,
    Behaviour,
    EnrichedUser,
    Erasure,
    LaterBehaviour,
    ReenrichedUser,
    UserFeatures,
    VirtualBehaviour,
)
from foretaste.testing import InMemoryOneStepStore
from tests.store_forms import feast_config

AT = 1_767_225_600_000
KINDS = ("register", "erase", "act", "read", "act late", "repair late")
EVENTS = st.lists(st.tuples(st.sampled_from(KINDS), st.integers(0, 7)), min_size=1, max_size=10)
"""What happens, and when it did: no two events have one time, and each comes as often as it is drawn."""


@dataclass(frozen=True, slots=True)
class Forms:
    runner: asyncio.Runner
    stores: tuple[ErasingStore, ...]
    users: "count[int]"


@pytest.fixture(scope="module")
def forms(redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forms]:
    folder: Path = tmp_path_factory.mktemp("forms")
    with asyncio.Runner() as runner:
        redis = RedisStore(feast_config(None, redis_url, folder), timeout=10)
        feast = FeastStore(feast_config(None, redis_url, folder), timeout=20)
        yield Forms(runner, (InMemoryOneStepStore(), redis, feast), count())
        runner.run(redis.close())
        runner.run(feast.close())


class Reference:
    """What a store must hold of one user, told from what came alone."""

    def __init__(self) -> None:
        self._registered: dict[int, int] = {}
        """By time."""
        self._erased_ms = -1
        self._acts: dict[str, int] = {}
        self.changes = 0
        """Of the behaviour: a row that was made from it before the last one is to be refused."""

    @property
    def _newest_ms(self) -> int:
        return max(self._registered, default=-1)

    @property
    def _is_known(self) -> bool:
        return self._newest_ms > self._erased_ms

    def register(self, at_ms: int, number: int) -> None:
        self._registered[at_ms] = number

    def erase(self, at_ms: int) -> bool:
        """Whether a later registration stands."""
        if at_ms > self._erased_ms:
            self._erased_ms = at_ms
            self._acts = {item: when for item, when in self._acts.items() if self._is_known and when > at_ms}
            self.changes += 1
        return self._is_known

    def admits(self, at_ms: int) -> bool:
        return self._erased_ms < 0 or (self._is_known and at_ms > self._erased_ms)

    def act(self, item: str, at_ms: int) -> None:
        if item not in self._acts:
            self._acts[item] = at_ms
            self.changes += 1

    def check(self, user: UserFeatures, behaved: UserFeatures) -> None:
        """What `read` and `read_behaviour` tell is what must be there."""
        acts = sorted(self._acts.items(), key=lambda each: each[1])
        for read in (user, behaved):
            assert list(zip(read.behaviour.items, read.behaviour.times, strict=True)) == acts
        was_erased = self._erased_ms >= 0
        assert behaved.erasure == (Erasure(self._erased_ms, self._is_known) if was_erased else None)
        if not self._is_known:
            assert (user.attributes, user.virtual, user.registered_ms) == (None, None, None)
            return
        number = self._registered[self._newest_ms]
        assert (user.attributes, user.attributes_ms) == ({"n": number}, self._newest_ms)
        assert user.virtual is not None
        assert user.virtual_ms < user.attributes_ms or user.virtual.vectors[0, 0] == number
        since = [at_ms for at_ms in self._registered if at_ms > self._erased_ms]
        assert user.registered_ms in (since if was_erased else [min(since)])


class Writer:
    """Writes one user to one store and to a reference; what it read last may be old by now."""

    def __init__(self, store: ErasingStore, user_id: str) -> None:
        self._store, self._user_id = store, user_id
        self._reference = Reference()
        self._read = self._behaved = UserFeatures(user_id)
        self._read_at = 0

    async def handle(self, kind: str, number: int) -> None:
        at_ms = AT + 10 * number + KINDS.index(kind)
        place = Place(f"user-{kind}-0", number, at_ms)
        match kind:
            case "register":
                virtual, digests = virtual_of(number), (bytes([number + 1]) * 8,)
                row = EnrichedUser(self._user_id, {"n": number}, virtual, at_ms, place, digests)
                await self._store.write_enriched([row])
                self._reference.register(at_ms, number)
            case "erase":
                version = AttributesVersion(at_ms, place, (bytes([number + 101]) * 8,))
                anew = await self._store.erase([ErasedUser(self._user_id, version)])
                assert anew == ([self._user_id] if self._reference.erase(at_ms) else [])
            case "read":
                (self._read,) = await self._store.read([self._user_id], 1)
                (self._behaved,) = await self._store.read_behaviour([self._user_id])
                self._read_at = self._reference.changes
            case "act":
                await self._act(f"i{number}", at_ms, bytes([number + 1]) * 8)
            case "act late":
                await self._act_late(f"late{number}", at_ms, bytes([number + 51]) * 8)
            case "repair late" if self._read.attributes is not None:
                virtual = virtual_of(int(str(self._read.attributes["n"])))
                await self._store.write_virtual([ReenrichedUser.after(self._read, virtual)])
        (user,) = await self._store.read([self._user_id], 1)
        (behaved,) = await self._store.read_behaviour([self._user_id])
        self._reference.check(user, behaved)

    async def _act(self, item: str, at_ms: int, digest: bytes) -> None:
        """As the way of a behaviour does: unread where the store takes it, else read and written."""
        row = LaterBehaviour(self._user_id, Behaviour((item,), ("acted",), (at_ms,)), digest)
        admitted = self._reference.admits(at_ms)
        if not isinstance(self._store, OneStepStore) or await self._store.append_behaviour([row]):
            (read,) = await self._store.read_behaviour([self._user_id])
            if digest in read.applied:
                return
            assert admitted == (read.erasure is None or read.erasure.admits(at_ms))
            if not admitted:
                return
            assert await self._store.write_behaviour([onto(read, item, at_ms, digest)]) == []
        assert admitted
        self._reference.act(item, at_ms)

    async def _act_late(self, item: str, at_ms: int, digest: bytes) -> None:
        """A writer that stood still since it read."""
        erasure = self._behaved.erasure
        if digest in self._behaved.applied or (erasure is not None and not erasure.admits(at_ms)):
            return
        refused = await self._store.write_behaviour([onto(self._behaved, item, at_ms, digest)])
        assert refused == ([] if self._read_at == self._reference.changes else [self._user_id])
        if not refused:
            self._reference.act(item, at_ms)


def virtual_of(number: int) -> VirtualBehaviour:
    return VirtualBehaviour(1, np.full((1, 2), number, np.float32))


def onto(read: UserFeatures, item: str, at_ms: int, digest: bytes) -> BehavedUser:
    place = bisect_right(read.behaviour.times, at_ms)
    items, times = list(read.behaviour.items), list(read.behaviour.times)
    items.insert(place, item)
    times.insert(place, at_ms)
    return BehavedUser.after(read, Behaviour(items, ["acted"] * len(items), times), read.applied.with_applied(digest))


@settings(
    max_examples=settings.default.max_examples // 8,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(events=EVENTS)
def test_what_was_before_an_erasure_is_gone_and_what_came_after_is_there(
    forms: Forms, events: list[tuple[str, int]]
) -> None:
    user_id = f"u{next(forms.users)}"

    async def each() -> None:
        for store in forms.stores:
            writer = Writer(store, user_id)
            for kind, number in events:
                await writer.handle(kind, number)

    forms.runner.run(each())
