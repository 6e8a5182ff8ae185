"""What a real Redis tells of its own durability, and what `foretaste status` makes of it."""

import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from features.generations.pointer import RedisGenerations
from features.online.redis_store import RedisStore
from features.redis.address import RedisAddress
from foretaste.cli.processes import health_of
from foretaste.compose.ports import synced_store
from foretaste.kernel.errors import InvalidInput, Unavailable
from foretaste.kernel.running.durability import EvictingStore, OffsetStore, SyncedStore
from foretaste.kernel.users import BehavedUser, Behaviour, EnrichedUser
from foretaste.settings import Settings
from foretaste.stack import health
from foretaste.testing import InMemoryOffsets
from tests.integration.redis_server import Valkey, valkey
from tests.store_forms import feast_config, open_configured

ZERO, ONE = ("user-behaved", 0), ("user-behaved", 1)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Valkey]:
    with valkey(tmp_path_factory.mktemp("valkey"), appendonly=True) as running:
        yield running


@pytest.fixture
async def store(server: Valkey, tmp_path: Path) -> AsyncIterator[RedisStore]:
    opened = RedisStore(feast_config(None, server.url, tmp_path), timeout=3)
    yield opened
    await opened.close()


@pytest.mark.parametrize("form", ["memory", "redis"])
async def test_offsets_move_from_where_they_stand_alone(form: str, store: RedisStore) -> None:
    offsets: OffsetStore = InMemoryOffsets() if form == "memory" else store
    assert await offsets.begin_offsets({ZERO: 5, ONE: 9}) == {ZERO: None, ONE: None}
    assert await offsets.advance_offsets({ZERO: (5, 8), ONE: (9, 9)}) == {}
    assert await offsets.advance_offsets({ZERO: (5, 7), ONE: (8, 10), ("other", 0): (1, 2)}) == {
        ZERO: 8,
        ONE: 9,
        ("other", 0): None,
    }
    assert await offsets.begin_offsets({ZERO: 10, ONE: 3}) == {ZERO: 8, ONE: 9}
    assert await offsets.begin_offsets({ZERO: 8, ONE: 3}) == {ZERO: 8, ONE: 3}


async def test_a_store_tells_whether_it_holds_anybody(store: RedisStore) -> None:
    offsets: OffsetStore = store
    await offsets.begin_offsets({ZERO: 5})
    await store.write_behaviour([BehavedUser("u1", Behaviour(["i"], ["acted"], [1]))])
    assert not await offsets.holds_users()
    await store.write_enriched([EnrichedUser("u1", {"age": 25}, None, 1)])
    assert await offsets.holds_users()


async def test_each_start_of_a_server_is_another_run(tmp_path: Path) -> None:
    """As `StoreProgress` needs it: effects that a server lost by starting anew are made again."""
    runs = []
    for _ in range(2):
        with valkey(tmp_path, appendonly=True) as server:
            store = RedisStore(feast_config(None, server.url, tmp_path), timeout=3)
            runs.append(await store.server_run())
            assert await store.server_run() == runs[-1] != ""
            await store.close()
    assert runs[0] != runs[1]
    assert await InMemoryOffsets().server_run()


async def test_the_disk_is_waited_for(server: Valkey, store: RedisStore) -> None:
    """With a sync a second, the server's own count of what is synced has passed the write by then."""
    with server.client() as client:
        client.config_set("appendfsync", "everysec")
        began = time.monotonic()
        await store.begin_offsets({ZERO: 1})
        await store.synced()
        assert time.monotonic() - began < 3
        assert client.execute_command("WAITAOF", 1, 0, 1)[0] == 1
        client.config_set("appendfsync", "always")
        await store.synced()


async def test_a_server_without_a_file_says_so(tmp_path: Path) -> None:
    with valkey(tmp_path, appendonly=False) as plain:
        store = RedisStore(feast_config(None, plain.url, tmp_path), timeout=3)
        with pytest.raises(Unavailable, match="appendonly is disabled"):
            await store.synced()
        await store.close()


async def test_waiting_is_refused_where_it_is_not_offered(server: Valkey, tmp_path: Path) -> None:
    config = feast_config({"type": "sqlite", "path": "online.db"}, server.url, tmp_path)
    other = open_configured("feast-sqlite", config)
    assert not isinstance(other, SyncedStore | OffsetStore | EvictingStore)
    assert synced_store(Settings(home=tmp_path), other) is None
    with pytest.raises(InvalidInput, match="FORETASTE_WAIT_FOR_DISK"):
        synced_store(Settings(home=tmp_path, wait_for_disk=True), other)
    await other.close()


async def test_a_server_that_drops_keys_is_told(server: Valkey, store: RedisStore) -> None:
    generations = RedisGenerations(RedisAddress.parse(server.url))
    with server.client() as client:
        assert [await each.eviction() for each in (store, generations)] == [None, None]
        client.config_set("maxmemory-policy", "allkeys-lru")
        try:
            assert [await each.eviction() for each in (store, generations)] == ["allkeys-lru", "allkeys-lru"]
            found = await health.redis(server.url)
            assert (found.ok, found.warning) == (True, True)
            assert "maxmemory-policy allkeys-lru" in found.detail
        finally:
            client.config_set("maxmemory-policy", "noeviction")
    assert not (await health.redis(server.url)).warning
    await generations.close()


async def test_status_tells_an_emptied_store_from_a_new_one(server: Valkey, tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, kafka="127.0.0.1:1", triton="127.0.0.1:1", redis=server.url, project="emptied")
    (new,) = [each for each in await health_of(settings) if each.part == "generations"]
    assert (new.ok, new.detail) == (True, "none is active yet")
    (settings.repository / "zero_shot_tower" / "3").mkdir(parents=True)
    (emptied,) = [each for each in await health_of(settings) if each.part == "generations"]
    assert not emptied.ok
    assert "none of generations 3: it was emptied" in emptied.detail
    assert "foretaste rebuild" in emptied.detail
