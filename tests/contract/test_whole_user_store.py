"""What every `WholeUserStore` does: in memory and in Redis, a cluster of it too."""

from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import numpy as np
import pytest
import redis

from features.feast_api import FeatureStore
from features.online.redis_store import RedisStore
from features.redis.address import RedisAddress
from features.repo_config import apply_features, repo_config
from foretaste.kernel.event_order import AppliedEvents, AttributesVersion, Place
from foretaste.kernel.ports import OnlineStore
from foretaste.kernel.running.durability import OneStepStore, WholeUserStore
from foretaste.kernel.running.erasing import ErasedUser, ErasingStore
from foretaste.kernel.users import (
    BehavedUser,
    Behaviour,
    EnrichedUser,
    LaterBehaviour,
    ReenrichedUser,
    UserFeatures,
    VirtualBehaviour,
)
from foretaste.testing import InMemoryOnlineStore, InMemoryWholeUserStore
from tests.integration.redis_server import valkey
from tests.store_forms import feast_config

AT = 1_767_225_600_000
VIRTUAL = VirtualBehaviour(1, np.arange(6, dtype=np.float32).reshape(3, 2))
WHOLE = UserFeatures(
    "u1",
    {"age": 25, "city": "Zürich", "gone": None},
    Behaviour(["a", "ünï"], ["liked", "saw"], [AT - 9, AT - 1]),
    virtual=VIRTUAL,
    attributes_ms=AT,
    virtual_ms=AT,
    attributes_place=Place("user-registered-3", 17, AT + 5),
    registrations=(b"12345678", b"abcdefgh"),
    applied=AppliedEvents(b"behaved1behaved2"),
)
PARTS = {
    "all": WHOLE,
    "registration": replace(WHOLE, behaviour=Behaviour(), virtual=None, virtual_ms=0, applied=AppliedEvents()),
    "without a place": replace(WHOLE, attributes_place=None, registrations=()),
    "registered before": replace(WHOLE, first_ms=AT - 77_000),
    "behaviour": UserFeatures("u1", None, WHOLE.behaviour),
}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with valkey(tmp_path_factory.mktemp("cluster"), cluster=True) as server:
        yield server.url


@pytest.fixture(params=["memory", "redis", "redis-cluster"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[ErasingStore]:
    if request.param == "memory":
        yield InMemoryWholeUserStore()
        return
    if request.param == "redis":
        config = feast_config(None, request.getfixturevalue("redis_url"), tmp_path)
    else:
        address = RedisAddress.parse(request.getfixturevalue("cluster"), cluster=True)
        config = repo_config(address, str(tmp_path / "registry.db"), f"test_{uuid4().hex}")
        apply_features(config)
    opened = RedisStore(config, timeout=10)
    yield opened
    await opened.close()


def whole(store: OnlineStore) -> WholeUserStore:
    assert isinstance(store, WholeUserStore)
    return store


async def read(store: OnlineStore, user_id: str = "u1") -> tuple[UserFeatures, UserFeatures]:
    (found,), (behaved,) = await store.read([user_id], 1), await store.read_behaviour([user_id])
    return found, behaved


async def by_the_ways(store: OnlineStore, user: UserFeatures) -> None:
    """The same user written as a sign-up and a first behaviour are."""
    if user.attributes is not None:
        place, digests = user.attributes_place, user.registrations
        at_ms, first_ms = user.attributes_ms, user.first_ms
        row = EnrichedUser(user.user_id, user.attributes, user.virtual, at_ms, place, digests, first_ms)
        await store.write_enriched([row])
    if len(user.behaviour):
        await store.write_behaviour([BehavedUser(user.user_id, user.behaviour, applied=user.applied)])


@pytest.mark.parametrize("part", PARTS)
async def test_it_is_stored_as_the_ways_store_it(store: OnlineStore, part: str) -> None:
    user = PARTS[part]
    other = replace(user, user_id="u2")
    assert await whole(store).write_whole([user]) == []
    await by_the_ways(store, other)
    for own, ways in zip(await read(store), await read(store, "u2"), strict=True):
        assert str(replace(own, user_id="u2")) == str(ways)
    found, _ = await read(store)
    assert (found.attributes, found.attributes_version) == (user.attributes, user.attributes_version)


@pytest.mark.parametrize("there", ["attributes", "behaviour", "virtual"])
async def test_nothing_of_a_user_of_whom_anything_is_stored_is_written(store: OnlineStore, there: str) -> None:
    if there == "attributes":
        await store.write_enriched([EnrichedUser("u1", {}, None, 1)])
    elif there == "behaviour":
        await store.write_behaviour([BehavedUser("u1", Behaviour(["x"], ["acted"], [1]))])
    else:
        await store.write_virtual([ReenrichedUser("u1", VIRTUAL, 1)])
    before = str(await read(store))
    assert await whole(store).write_whole([WHOLE, replace(WHOLE, user_id="u2")]) == ["u1"]
    assert str(await read(store)) == before
    assert (await read(store, "u2"))[0].attributes == WHOLE.attributes


async def test_whoever_was_erased_is_not_written_whole(store: ErasingStore) -> None:
    await store.erase([ErasedUser("u1", AttributesVersion(AT + 1, Place("user-erased-0", 1, AT), (b"erasure1",)))])
    before = str(await read(store))
    assert await whole(store).write_whole([WHOLE]) == ["u1"]
    assert str(await read(store)) == before


async def test_many_come_back_in_their_order(store: OnlineStore) -> None:
    users = [replace(WHOLE, user_id=f"u{each}") for each in range(700)]
    assert await whole(store).write_whole(users[::2]) == []
    assert await whole(store).write_whole(users) == [each.user_id for each in users[::2]]
    assert await whole(store).write_whole([]) == []


async def test_what_was_written_whole_is_written_over_by_the_ways(store: OnlineStore) -> None:
    await whole(store).write_whole([WHOLE])
    found, behaved = await read(store)
    await store.write_enriched([EnrichedUser("u1", {"age": 1}, None, AT, Place("user-registered-3", 18, AT))])
    later = behaved.behaviour.then("later", "saw", AT)
    assert (
        await store.write_behaviour([BehavedUser.after(behaved, later, behaved.applied.with_applied(b"behaved3"))])
        == []
    )
    found, behaved = await read(store)
    assert (found.attributes, len(found.behaviour)) == ({"age": 1}, 3)
    assert found.virtual_ms < found.attributes_ms, "made from other attributes"
    assert list(behaved.applied) == [b"behaved1", b"behaved2", b"behaved3"]


async def test_a_behaviour_is_put_behind_what_was_written_whole_unread(store: OnlineStore) -> None:
    await whole(store).write_whole([WHOLE, replace(WHOLE, user_id="u2")])
    assert isinstance(store, OneStepStore)
    later = Behaviour(["later"], ["saw"], [AT])
    assert await store.append_behaviour([LaterBehaviour("u1", later, b"behaved3")]) == []
    repeated = LaterBehaviour("u2", later, b"behaved2")
    assert await store.append_behaviour([repeated]) == ["u2"], "its digest is remembered"
    _, behaved = await read(store)
    assert list(behaved.behaviour.items) == ["a", "ünï", "later"]
    assert list(behaved.applied) == [b"behaved1", b"behaved2", b"behaved3"]


async def test_the_hash_holds_the_same_bytes(redis_url: str, tmp_path: Path) -> None:
    config = feast_config(None, redis_url, tmp_path)
    store = RedisStore(config, timeout=10)
    await store.write_whole([WHOLE])
    await by_the_ways(store, replace(WHOLE, user_id="u2"))
    await store.close()
    with redis.Redis.from_url(redis_url) as client:
        pattern = f"*{config.project}*"
        keys = {
            (b"u1" if b"u1" in key else b"u2"): key for key in client.scan_iter(pattern) if b"u1" in key or b"u2" in key
        }
        assert client.hgetall(keys[b"u1"]) == client.hgetall(keys[b"u2"])
    assert FeatureStore(config=config).project == config.project


def test_the_plain_store_in_memory_takes_none_whole() -> None:
    assert not isinstance(InMemoryOnlineStore(), WholeUserStore)
