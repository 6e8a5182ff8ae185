"""Writers that meet on a real Redis-protocol server: what one of them wrote, no other undoes."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from uuid import uuid4

import numpy as np
import pytest

from features.online.redis_store import RedisStore
from features.redis.address import RedisAddress
from features.repo_config import apply_features, repo_config
from foretaste.kernel.event_order import AttributesVersion, Place
from foretaste.kernel.events import Message, Origin
from foretaste.kernel.running.erasing import ErasedUser
from foretaste.kernel.users import BehavedUser, EnrichedUser, LaterBehaviour, ReenrichedUser, UserFeatures
from streams.behaviours import Behaviours
from streams.sign_ups import SignUps
from tests.stream_parts import NOW, NOW_MS, World, generation, message, sign_up, virtual_of


@pytest.fixture
async def store(redis_url: str, tmp_path: Path) -> AsyncIterator[RedisStore]:
    config = repo_config(RedisAddress.parse(redis_url), str(tmp_path / "registry.db"), f"test_{uuid4().hex}")
    apply_features(config)
    opened = RedisStore(config, timeout=10)
    yield opened
    await opened.close()


@dataclass
class Stopped:
    """The store of a worker that stops (SIGSTOP) between what it read and its next write, until `go`."""

    store: RedisStore
    read_once: asyncio.Event = field(default_factory=asyncio.Event)
    go: asyncio.Event = field(default_factory=asyncio.Event)

    async def read(self, users: Sequence[str], number: int) -> list[UserFeatures]:
        return await self._stopped(await self.store.read(users, number))

    async def read_behaviour(self, users: Sequence[str]) -> list[UserFeatures]:
        return await self._stopped(await self.store.read_behaviour(users))

    async def _stopped(self, found: list[UserFeatures]) -> list[UserFeatures]:
        self.read_once.set()
        await self.go.wait()
        return found

    async def write_enriched(self, users: Sequence[EnrichedUser]) -> list[str]:
        return await self.store.write_enriched(users)

    async def write_virtual(self, users: Sequence[ReenrichedUser]) -> list[str]:
        return await self.store.write_virtual(users)

    async def write_behaviour(self, users: Sequence[BehavedUser]) -> list[str]:
        return await self.store.write_behaviour(users)

    async def users(self, cursor: str = "", count: int = 1000) -> tuple[list[str], str | None]:
        return await self.store.users(cursor, count)

    async def erase(self, users: Sequence[ErasedUser]) -> list[str]:
        return await self.store.erase(users)

    async def close(self) -> None:
        await self.store.close()


@dataclass
class StoppedBefore(Stopped):
    """Likewise where the usual case is one step: it stops before that, and reads for those alone who were left out."""

    async def append_behaviour(self, users: Sequence[LaterBehaviour]) -> list[str]:
        await self._stopped([])
        return await self.store.append_behaviour(users)

    async def write_new(self, users: Sequence[EnrichedUser]) -> list[str]:
        await self._stopped([])
        return await self.store.write_new(users)


BOTH = pytest.mark.parametrize("stopped_form", [Stopped, StoppedBefore])


def behaviour_way(world: World) -> Behaviours:
    return Behaviours(
        world.parts, world.dead_letters, world.metrics, unknown_items="keep", max_event_bytes=2000, now=lambda: NOW
    )


def sign_up_way(world: World) -> SignUps:
    return SignUps(
        world.parts,
        world.dead_letters,
        world.metrics,
        enriched_topic="e",
        profiles_topic="p",
        max_event_bytes=2000,
        now=lambda: NOW,
    )


@BOTH
async def test_what_a_worker_writes_that_stopped_between_read_and_write_while_its_successor_went_on_is_harmless(
    store: RedisStore, stopped_form: type[Stopped]
) -> None:
    """Behaviours: the successor was given the same, and more. Each stands there once, in the order of its time."""
    records = [
        message(
            {"user_id": "u1", "item_id": f"i{number}", "at": NOW - 60 + number / 10, "event_id": f"e{number}"},
            topic="user-behaved",
            offset=number,
        )
        for number in range(80)
    ]
    stopped = stopped_form(store)
    zombie = replace(World(), store=stopped)  # type: ignore[arg-type]  # the real one in the chosen one's place
    world = replace(World(), store=store)  # type: ignore[arg-type]  # likewise
    await behaviour_way(world)(records[:10])
    late = asyncio.create_task(behaviour_way(zombie)(records[10:40]))
    await stopped.read_once.wait()
    for start in range(10, 80, 7):
        await behaviour_way(world)(records[start : start + 7])
    stopped.go.set()
    await late
    (held,) = await store.read_behaviour(["u1"])
    assert list(held.behaviour.items) == [f"i{number}" for number in range(80)]
    assert len(list(held.applied)) == 80


@BOTH
@pytest.mark.parametrize("gap_ms", [0, 5], ids=["of one time", "of another time"])
async def test_the_late_sign_up_of_a_worker_that_stopped_does_not_replace_its_successors(
    store: RedisStore, gap_ms: int, stopped_form: type[Stopped]
) -> None:
    """Attributes and virtual behaviour: what stands there in the end is of one registration, the later in the topic."""
    stopped = stopped_form(store)
    zombie = await replace(World(), store=stopped).activate(generation())  # type: ignore[arg-type]  # likewise
    world = await replace(World(), store=store).activate(generation())  # type: ignore[arg-type]  # likewise
    first, second = sign_up("u1", 7, NOW_MS - 10, age=1), sign_up("u1", 8, NOW_MS - 10 + gap_ms, age=2)
    late = asyncio.create_task(sign_up_way(zombie)([first]))
    await stopped.read_once.wait()
    await sign_up_way(world)([first])
    await sign_up_way(world)([second])
    stopped.go.set()
    await late
    (held,) = await store.read(["u1"], 1)
    assert held.attributes == {"age": 2}
    current = generation().virtual_of(held)
    assert current is not None
    np.testing.assert_array_equal(current.vectors, virtual_of({"age": 2}))


async def test_sign_ups_without_a_key_that_two_workers_handle_at_once_leave_the_newest(store: RedisStore) -> None:
    """Of each user two, a millisecond apart, in two partitions: each worker reads and writes beside the other."""
    older, newer = (
        [
            Message(
                None,
                json.dumps({"user_id": f"u{user}", "attributes": {"age": age}}).encode(),
                Origin("user-registered", partition, user, NOW_MS - 1000 + user + partition),
            )
            for user in range(300)
        ]
        for partition, age in ((0, 1), (1, 2))
    )
    workers = []
    for batch in (newer, older):
        world = await replace(World(), store=store).activate(generation())  # type: ignore[arg-type]  # likewise
        way = sign_up_way(world)
        workers.append([way(batch[start : start + 50]) for start in range(0, 300, 50)])
    for pair in zip(*workers, strict=True):
        await asyncio.gather(*pair)
    found = await store.read([f"u{user}" for user in range(300)], 1)
    assert [each.attributes for each in found] == [{"age": 2}] * 300
    for each in found:
        current = generation().virtual_of(each)
        assert current is not None
        np.testing.assert_array_equal(current.vectors, virtual_of({"age": 2}))


@BOTH
async def test_what_a_worker_writes_that_stopped_before_an_erasure_does_not_bring_the_user_back(
    store: RedisStore, stopped_form: type[Stopped]
) -> None:
    erasure = ErasedUser(
        "u1", AttributesVersion(NOW_MS - 1000, Place("user-erased-0", 3, NOW_MS - 1000), (b"erasure1",))
    )
    signed_up = sign_up("u1", 7, NOW_MS - 5000, age=1)
    act = message({"user_id": "u1", "item_id": "i1", "at": NOW - 4}, topic="user-behaved", timestamp_ms=NOW_MS - 4000)
    for way, record in ((sign_up_way, signed_up), (behaviour_way, act)):
        stopped = stopped_form(store)
        zombie = await replace(World(), store=stopped).activate(generation())  # type: ignore[arg-type]  # likewise
        late = asyncio.create_task(way(zombie)([record]))
        await stopped.read_once.wait()
        await store.erase([erasure])
        stopped.go.set()
        await late
    (held,) = await store.read(["u1"], 1)
    assert (held.attributes, len(held.behaviour), held.virtual) == (None, 0, None)
    assert zombie.counted("foretaste_events_dropped_total", way="behaviour", reason="erased") == 1
