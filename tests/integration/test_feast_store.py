"""What only real servers show of Feast's way: outages, a team's own rows, damaged ones, several writers."""

import asyncio
import sqlite3
import threading
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from itertools import chain, repeat
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from redis.asyncio import Redis

from features.feast_api import FeatureStore
from features.online.directory import PAGE
from features.online.feast_client import MOST_HANGING
from features.online.feast_store import FeastStore
from features.online.keys import Keys
from features.online.layout import BEHAVIOUR, Column, Raw, stamp_of
from features.repo_config import apply_features
from foretaste.kernel.errors import InvalidInput, Unavailable
from foretaste.kernel.event_order import AppliedEvents, AttributesVersion
from foretaste.kernel.ports import OnlineStore
from foretaste.kernel.running.erasing import ErasedUser
from foretaste.kernel.users import BehavedUser, Behaviour, EnrichedUser, ReenrichedUser, VirtualBehaviour
from tests.integration import postgres_server
from tests.store_forms import feast_config, postgres_store

AT = 1_767_225_600_000
VIRTUAL = VirtualBehaviour(1, np.ones((3, 2), np.float32))
SQLITE: dict[str, object] = {"type": "sqlite", "path": "online.db"}


def rows(users: list[str]) -> list[EnrichedUser]:
    return [EnrichedUser(user, {"age": 25}, None, AT) for user in users]


async def walked(store: OnlineStore) -> list[str]:
    found: list[str] = []
    cursor: str | None = ""
    while cursor is not None:
        page, cursor = await store.users(cursor, 200)
        found += page
    return found


@pytest.mark.usefixtures("postgres_form")
async def test_a_postgres_that_was_started_anew_is_connected_to_again(redis_url: str, tmp_path: Path) -> None:
    with postgres_server.postgres() as server:
        store = FeastStore(feast_config(postgres_store(server), redis_url, tmp_path), timeout=10)
        await store.write_enriched([EnrichedUser("u1", {"age": 25}, VIRTUAL, AT)])
        server.stop()
        with pytest.raises(Unavailable, match="postgres is not available: "):
            await store.read(["u1"], 1)
        with pytest.raises(Unavailable, match="postgres is not available"):
            await store.write_behaviour([BehavedUser("u1", Behaviour(["i"], ["a"], [AT]))])
        server.start()
        (features,) = await store.read(["u1"], 1)
        assert features.attributes == {"age": 25}
        await store.close()


async def test_a_store_that_answers_too_late_is_not_available(redis_url: str, tmp_path: Path) -> None:
    store = FeastStore(feast_config(SQLITE, redis_url, tmp_path), timeout=1e-6)
    with pytest.raises(Unavailable, match=r"sqlite is not available: no answer within 1e-06 s"):
        await store.read(["u1"], 1)
    await store.close()


async def test_an_online_store_that_is_newer_than_the_registry_gets_its_tables(redis_url: str, tmp_path: Path) -> None:
    config = feast_config(SQLITE, redis_url, tmp_path)
    (tmp_path / "online.db").unlink()
    assert not apply_features(config), "the registry holds all of it"
    store = FeastStore(config, timeout=10)
    await store.write_enriched(rows(["u1"]))
    assert (await store.read(["u1"], 1))[0].attributes == {"age": 25}
    await store.close()


async def test_rows_of_a_teams_own_client_are_read_and_a_damaged_one_is_mended_by_the_next_write(
    redis_url: str, tmp_path: Path
) -> None:
    config = feast_config(None, redis_url, tmp_path)
    feast = FeatureStore(config=config)
    texts = {"good": '{"age": 30}', "rotten": "[1,2]", "half": '{"age": "\\ud83d"}'}
    later = datetime(2026, 6, 1, tzinfo=UTC)
    frame = {"user_id": list(texts), "attributes": list(texts.values()), "event_timestamp": [later] * len(texts)}
    feast.write_to_online_store("user_attributes", pd.DataFrame(frame))
    store = FeastStore(config, timeout=10)
    found = await store.read(list(texts), 1)
    assert [each.attributes for each in found] == [{"age": 30}, None, None]
    assert [each.damaged for each in found] == [(), ("user_attributes",), ("user_attributes",)]
    await store.write_enriched(rows(list(texts)))
    found = await store.read(list(texts), 1)
    assert [each.attributes for each in found] == [{"age": 30}, {"age": 25}, {"age": 25}]
    assert sorted(await walked(store)) == ["half", "rotten"], "rows that others wrote are not found by a walk"
    await store.close()


async def test_a_row_that_feast_cannot_decode_hides_no_other(redis_url: str, tmp_path: Path) -> None:
    config = feast_config(None, redis_url, tmp_path)
    keys, client = Keys(config.project), Redis.from_url(redis_url)
    store = FeastStore(config, timeout=20)
    users = [f"u{each}" for each in range(9)]
    await store.write_enriched(rows(users))
    await client.execute_command("HSET", keys.of("u2"), BEHAVIOUR[-1], b"\xff\xff")
    await client.execute_command("HSET", keys.of("u5"), stamp_of("user_attributes"), b"\xff\xff")
    await client.set(keys.of("u7"), b"no hash")
    found = {each.user_id: each for each in await store.read(users, 1)}
    rotten = {"u2", "u5", "u7"}
    assert {user: each.attributes for user, each in found.items()} == {
        user: None if user in rotten else {"age": 25} for user in users
    }
    all_views = ("user_attributes", "user_behaviour", "virtual_behaviour_odd")
    assert {user: each.damaged for user, each in found.items()} == {
        user: all_views if user in rotten else () for user in users
    }
    await client.aclose()
    await store.close()


async def test_several_processes_write_one_directory(redis_url: str, tmp_path: Path) -> None:
    config = feast_config(SQLITE, redis_url, tmp_path)
    stores = [FeastStore(config, timeout=20) for _ in range(3)]
    users = [[f"{writer}-{each}" for each in range(2 * PAGE + 30)] for writer in range(3)]
    for start in range(0, len(users[0]), 115):
        for store, theirs in zip(stores, users, strict=True):
            await store.write_enriched(rows(theirs[start : start + 115]))
    assert sorted(await walked(stores[0])) == sorted(user for theirs in users for user in theirs)
    for store in stores:
        await store.close()


async def test_a_writer_that_is_not_listed_any_more_lists_itself_with_its_next_user(
    redis_url: str, tmp_path: Path
) -> None:
    config = feast_config(SQLITE, redis_url, tmp_path)
    store = FeastStore(config, timeout=20)
    await store.write_enriched(rows(["u1"]))
    client = store._client
    await client.write("user_directory", {"page_id": ["writers"], "entries": [["another"]]}, [AT * 1000])
    assert await walked(store) == []
    await store.write_enriched(rows(["u2"]))
    assert await walked(store) == ["u1", "u2"]
    await store.close()


@pytest.mark.parametrize("lost", [0, 1, 3])
async def test_a_page_that_is_lost_hides_none_behind_it(redis_url: str, tmp_path: Path, lost: int) -> None:
    config = feast_config(SQLITE, redis_url, tmp_path)
    store = FeastStore(config, timeout=20)
    users = [f"u{each:04}" for each in range(5 * PAGE + 30)]
    await store.write_enriched(rows(users))
    page = f"{store._directory._writer}/{lost}"
    await store._client.write("user_directory", {"page_id": [page], "entries": [[]]}, [AT * 1100])
    for count in (PAGE, 1000):
        found: list[str] = []
        cursor: str | None = ""
        while cursor is not None:
            some, cursor = await store.users(cursor, count)
            found += some
        assert sorted(found) == [user for number, user in enumerate(users) if number // PAGE != lost]
    await store.close()


def stopped_behind_its_read(
    store: FeastStore, meanwhile: Callable[[], Awaitable[object]], patch: pytest.MonkeyPatch
) -> None:
    """What others do stands between the next read of the store and what it does then."""
    read = store._client.read

    async def read_then_stopped(columns: Sequence[Column], key: str, values: Sequence[str]) -> list[list[Raw]]:
        patch.setattr(store._client, "read", read)
        found = await read(columns, key, values)
        await meanwhile()
        return found

    patch.setattr(store._client, "read", read_then_stopped)


def virtual(fill: float) -> VirtualBehaviour:
    return VirtualBehaviour(1, np.full((3, 2), fill, np.float32))


@pytest.mark.parametrize(
    "write",
    [
        pytest.param(
            lambda store: store.write_enriched([EnrichedUser("u1", {"age": 30}, virtual(3.0), AT + 10_000)]),
            id="attributes",
        ),
        pytest.param(
            lambda store: store.write_virtual([ReenrichedUser("u1", virtual(3.0), AT + 10_000)]),
            id="virtual behaviour",
        ),
        pytest.param(
            lambda store: store.write_behaviour([BehavedUser("u1", Behaviour(("i9",), ("acted",), (AT,)))]),
            id="behaviour",
        ),
        pytest.param(
            lambda store: store.erase([ErasedUser("u1", AttributesVersion(AT + 10_000))]),
            id="erasure",
        ),
    ],
)
async def test_nothing_is_written_over_what_others_wrote_while_the_process_stood_still(
    write: Callable[[FeastStore], Awaitable[object]], redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = feast_config(SQLITE, redis_url, tmp_path)
    ticks = chain([0.0, 0.0], repeat(61.0))
    stopped = FeastStore(config, timeout=20, clock=lambda: next(ticks))
    other = FeastStore(config, timeout=20)
    await other.write_enriched([EnrichedUser("u1", {"age": 25}, virtual(1.0), AT)])
    behaviour = Behaviour(("i1",), ("acted",), (AT + 1,))

    async def others() -> None:
        await other.write_enriched([EnrichedUser("u1", {"age": 40}, virtual(2.0), AT + 20_000)])
        await other.write_behaviour([BehavedUser("u1", behaviour)])

    stopped_behind_its_read(stopped, others, monkeypatch)
    with pytest.raises(Unavailable, match="stood still"):
        await write(stopped)
    (read,) = await other.read(["u1"], 1)
    assert (read.attributes, read.behaviour) == ({"age": 40}, behaviour)
    assert read.virtual is not None
    assert (read.virtual.vectors == 2.0).all()
    assert (await other.read_behaviour(["u1"]))[0].erasure is None
    await stopped.close()
    await other.close()


async def test_what_a_behaviour_was_applied_by_does_not_count_where_the_process_stood_still_behind_it(
    redis_url: str, tmp_path: Path
) -> None:
    ticks = chain([0.0] * 4, repeat(61.0))
    store = FeastStore(feast_config(SQLITE, redis_url, tmp_path), timeout=20, clock=lambda: next(ticks))
    row = BehavedUser("u1", Behaviour(("i1",), ("acted",), (AT,)), applied=AppliedEvents(b"digest.."))
    with pytest.raises(Unavailable, match="stood still"):
        await store.write_behaviour([row])
    (read,) = await store.read_behaviour(["u1"])
    assert (len(read.behaviour), list(read.applied)) == (0, [])
    await store.close()


def cut_short(store: FeastStore, writes: int, patch: pytest.MonkeyPatch) -> None:
    """The store is away after so many writes more."""
    write, left = store._client.write, iter(range(writes))

    async def counted(view: str, columns: Mapping[str, Sequence[object]], at_us: Sequence[int]) -> None:
        if next(left, None) is None:
            raise Unavailable("sqlite", "cut short")
        await write(view, columns, at_us)

    patch.setattr(store._client, "write", counted)


@pytest.mark.parametrize("writes", range(6))
async def test_an_erasure_that_was_cut_short_is_finished_by_the_next_try(
    writes: int, redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Behind the fence, the first registration, the behaviour, the attributes and each slot."""
    store = FeastStore(feast_config(SQLITE, redis_url, tmp_path), timeout=20)
    await store.write_enriched([EnrichedUser("u1", {"age": 25}, VIRTUAL, AT), *rows(["u2"])])
    await store.write_virtual([ReenrichedUser("u1", VirtualBehaviour(2, VIRTUAL.vectors), AT + 1000)])
    await store.write_behaviour([BehavedUser("u1", Behaviour(("i1",), ("acted",), (AT,)))])
    before = await store.read_behaviour(["u1", "u2"])
    late = [BehavedUser.after(each, Behaviour(("i2",), ("acted",), (AT + 1,))) for each in before]
    erased = [ErasedUser(user, AttributesVersion(AT + 10_000)) for user in ("u1", "u2")]
    with monkeypatch.context() as patch:
        cut_short(store, writes, patch)
        with pytest.raises(Unavailable, match="cut short"):
            await store.erase(erased)
    assert await store.erase(erased) == []
    assert await store.write_behaviour(late) == ["u1", "u2"], "both were read before"
    for generation in (1, 2):
        for read in await store.read(["u1", "u2"], generation):
            assert (read.attributes, len(read.behaviour), read.virtual) == (None, 0, None)
    await store.close()


@pytest.mark.parametrize("writes", range(3))
async def test_of_who_registered_anew_a_cut_short_erasure_takes_the_first_registration_at_the_next_try(
    writes: int, redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = FeastStore(feast_config(SQLITE, redis_url, tmp_path), timeout=20)
    for at_ms in (AT, AT + 20_000):
        await store.write_enriched([EnrichedUser("u1", {"age": 25}, None, at_ms)])
    erased = [ErasedUser("u1", AttributesVersion(AT + 10_000))]
    with monkeypatch.context() as patch:
        cut_short(store, writes, patch)
        with pytest.raises(Unavailable, match="cut short"):
            await store.erase(erased)
    assert await store.erase(erased) == ["u1"]
    (read,) = await store.read(["u1"], 1)
    assert read.registered_ms == AT + 20_000
    await store.close()


async def test_a_driver_that_hangs_holds_up_its_own_call_alone(redis_url: str, tmp_path: Path) -> None:
    store = FeastStore(feast_config(SQLITE, redis_url, tmp_path), timeout=20)
    await store.write_enriched(rows(["u1"]))
    end = threading.Event()
    with pytest.raises(Unavailable, match="no answer within"):
        async with store._client.answered_within(0.05):
            await store._client._in_thread(end.wait)
    (read,) = await store.read(["u1"], 1)
    assert read.attributes == {"age": 25}
    await store.close()
    end.set()


async def test_a_driver_that_hangs_each_time_gets_no_more_threads_and_its_stores_are_closed_when_it_returns(
    redis_url: str, tmp_path: Path
) -> None:
    store = FeastStore(feast_config(SQLITE, redis_url, tmp_path), timeout=20)
    client, end, others = store._client, threading.Event(), threading.active_count()
    left = []
    for _ in range(MOST_HANGING):
        await store.write_enriched(rows(["u1"]))
        assert client._store is not None
        left.append(client._store.provider.online_store._conn)
        with pytest.raises(Unavailable, match="no answer within"):
            async with client.answered_within(0.05):
                await asyncio.gather(*(client._in_thread(end.wait) for _ in range(4)))
    for _ in range(3):
        with pytest.raises(Unavailable, match="sqlite is not available: 2 calls of its driver do not return"):
            await store.read(["u1"], 1)
    assert threading.active_count() == others + MOST_HANGING
    end.set()
    for thread in client._left:
        thread._thread.join(10)
    for connection in left:
        with pytest.raises(sqlite3.ProgrammingError, match="closed"):
            connection.execute("SELECT 1")
    assert (await store.read(["u1"], 1))[0].attributes == {"age": 25}
    await store.close()


async def test_a_row_that_feast_cannot_write_over_is_named_and_keeps_no_other(redis_url: str, tmp_path: Path) -> None:
    config = feast_config(None, redis_url, tmp_path)
    client = Redis.from_url(redis_url)
    await client.set(Keys(config.project).of("u2"), b"no hash")
    store = FeastStore(config, timeout=20)
    with pytest.raises(InvalidInput, match=r"user_first_registration: Feast cannot write over what is stored: .*'u2'"):
        await store.write_enriched(rows(["u1", "u2", "u3"]))
    for user in ("u1", "u3"):
        await store.write_enriched(rows([user]))
    read = await store.read(["u1", "u2", "u3"], 1)
    assert [each.attributes for each in read] == [{"age": 25}, None, {"age": 25}]
    await client.aclose()
    await store.close()


async def test_pages_that_could_not_be_written_are_written_the_next_time(redis_url: str, tmp_path: Path) -> None:
    config = feast_config(SQLITE, redis_url, tmp_path)
    store = FeastStore(config, timeout=20)
    users = [f"u{each}" for each in range(PAGE + 5)]
    await store.write_enriched(rows(users[:1]))
    (tmp_path / "online.db").rename(tmp_path / "away.db")
    (tmp_path / "online.db").mkdir()
    await store.close()
    with pytest.raises(Unavailable, match="sqlite is not available: OperationalError"):
        await store.write_enriched(rows(users))
    (tmp_path / "online.db").rmdir()
    (tmp_path / "away.db").rename(tmp_path / "online.db")
    await store.write_enriched(rows(users))
    assert set(await walked(store)) == set(users)
    await store.close()


def test_a_store_belongs_to_one_event_loop(redis_url: str, tmp_path: Path) -> None:
    store = FeastStore(feast_config(SQLITE, redis_url, tmp_path), timeout=10)
    with asyncio.Runner() as runner:
        runner.run(store.read(["u1"], 1))
        with asyncio.Runner() as another, pytest.raises(RuntimeError, match="another event loop"):
            another.run(store.read(["u1"], 1))
        runner.run(store.close())
