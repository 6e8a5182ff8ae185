"""Feast on a real Redis-protocol server: what only a real one can show."""

import asyncio
import os
import shutil
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import numpy as np
import pandas as pd
import pytest

from features.feast_api import FeatureStore
from features.generations.pointer import RedisGenerations
from features.online.keys import Keys
from features.online.redis_store import RedisStore
from features.redis.address import RedisAddress
from features.repo_config import REPO, apply_features, repo_config
from foretaste.kernel.errors import Unavailable
from foretaste.kernel.events import Message, UserEnriched
from foretaste.kernel.generations import Generation
from foretaste.kernel.users import BehavedUser, Behaviour, EnrichedUser, ReenrichedUser, VirtualBehaviour
from streams.behaviours import Behaviours, append
from streams.sign_ups import SignUps
from tests.integration.redis_server import Valkey, valkey
from tests.stream_parts import NOW, NOW_MS, World, message, sign_up, virtual_of
from tests.stream_parts import generation as stream_generation

AT = 1_767_225_600_000
VIRTUAL = VirtualBehaviour(1, np.ones((3, 2), np.float32))
USER = EnrichedUser("u1", {"age": 25}, VIRTUAL, AT)
GENERATION = Generation(1, 1, {}, {}, np.zeros((3, 2), np.float32), "2026-01-01T00:00:00Z")


def open_store(url: str, folder: Path, *, cluster: bool = False, timeout: float = 5) -> RedisStore:
    config = repo_config(RedisAddress.parse(url, cluster=cluster), str(folder / "registry.db"), f"test_{uuid4().hex}")
    apply_features(config)
    return RedisStore(config, timeout=timeout)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Valkey]:
    with valkey(tmp_path, appendonly=True) as running:
        yield running


@pytest.fixture
async def store(server: Valkey, tmp_path: Path) -> AsyncIterator[RedisStore]:
    opened = open_store(server.url, tmp_path)
    yield opened
    await opened.close()


async def test_a_redis_restart_is_outlived_by_the_same_clients(server: Valkey, store: RedisStore) -> None:
    generations = RedisGenerations(RedisAddress.parse(server.url), prefix="restart")
    await store.write_enriched([USER])
    await generations.record(GENERATION, {"i1": 0.5})

    server.stop()
    began = time.monotonic()
    with pytest.raises(Unavailable, match="redis is not available"):
        await store.read(["u1"], 1)
    with pytest.raises(Unavailable, match="redis is not available"):
        await store.write_enriched([USER])
    with pytest.raises(Unavailable, match="redis is not available"):
        await generations.active()
    assert time.monotonic() - began < 1, "a reader has something better to do than to wait"

    server.start()
    (features,) = await store.read(["u1"], 1)
    assert features.attributes == {"age": 25}
    assert await generations.popularity(1, ["i1"]) == [0.5]
    assert await generations.activate(1, None)
    await generations.close()


async def test_whoever_comes_just_as_the_store_has_opened_makes_no_second_client(
    store: RedisStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, opened, late = store._open, 0, []

    async def opening() -> object:
        nonlocal opened
        opened += 1
        client = await real()
        late.append(asyncio.create_task(store.read(["u2"], 1)))  # runs before whoever waits for this goes on
        return client

    monkeypatch.setattr(store, "_open", opening)
    await store.read(["u1"], 1)
    await late[0]
    assert opened == 1


async def test_a_server_that_forgot_its_scripts_is_told_them_again(server: Valkey, store: RedisStore) -> None:
    rows = [BehavedUser(f"u{n}", Behaviour(["i"], ["a"], [AT])) for n in range(5)]
    assert await store.write_behaviour(rows[:2]) == []
    with server.client() as client:
        client.script_flush()
    assert await store.write_behaviour(rows) == ["u0", "u1"]
    assert [len(one.behaviour) for one in await store.read([f"u{n}" for n in range(5)], 1)] == [1] * 5


async def test_many_writers_at_once_lose_nothing(store: RedisStore) -> None:
    """Each reads, appends and writes until it is not refused, as the behaviour way does."""

    async def write(item: str) -> None:
        refused = ["u1"]
        while refused:
            (read,) = await store.read(["u1"], 1)
            behaviour = append(read.behaviour, item, "a", AT)
            refused = await store.write_behaviour([BehavedUser.after(read, behaviour)])

    await asyncio.gather(*(write(f"i{n}") for n in range(30)))
    (features,) = await store.read(["u1"], 1)
    assert sorted(features.behaviour.items) == sorted(f"i{n}" for n in range(30))
    assert features.behaviour_version == 30


async def again_until_done(way: Behaviours, batch: Sequence[Message]) -> None:
    """As the worker does with a batch that a part is not available for."""
    while True:
        try:
            return await way(batch)
        except Unavailable:
            continue


async def test_a_worker_that_froze_and_its_successor_lose_nothing(store: RedisStore) -> None:
    """Both handle batches of the same users at once, as when one wakes; each behaviour stands there once."""
    world = replace(World(), store=store)  # type: ignore[arg-type]  # the real one in the chosen one's place

    async def work(worker: str) -> None:
        way = Behaviours(
            world.parts, world.dead_letters, world.metrics, unknown_items="keep", max_event_bytes=2000, now=lambda: NOW
        )
        for number in range(10):
            event = {"item_id": f"{worker}{number}", "at": NOW - number, "action": "x"}
            batch = [message(event | {"user_id": user}, key=user.encode(), topic="behaved") for user in ("u1", "u2")]
            await again_until_done(way, [*batch, *batch])

    await asyncio.gather(work("a"), work("b"))
    expected = sorted(f"{worker}{number}" for worker in "ab" for number in range(10))
    assert [sorted(each.behaviour.items) for each in await store.read(["u1", "u2"], 1)] == [expected, expected]


async def test_a_redis_that_hangs_is_given_up_on_and_its_late_answers_are_nobody_elses(
    server: Valkey, tmp_path: Path
) -> None:
    store = open_store(server.url, tmp_path, timeout=0.2)
    await store.write_enriched([USER, EnrichedUser("u2", {"age": 99}, None, AT)])
    await store.read(["u1"], 1)
    with server.frozen(), pytest.raises(Unavailable, match=r"redis is not available: no answer within 0\.2 s"):
        await store.read(["u2"], 1)
    (features,) = await store.read(["u1"], 1)
    assert features.attributes == {"age": 25}
    await store.close()


async def test_a_redis_that_is_away_at_first(tmp_path: Path) -> None:
    with valkey(tmp_path) as server:
        server.stop()
        store = open_store(server.url, tmp_path)
        with pytest.raises(Unavailable):
            await store.read(["u1"], 1)
        server.start()
        await store.write_enriched([USER])
        assert (await store.read(["u1"], 1))[0].attributes == {"age": 25}
        await store.close()


async def test_a_full_redis_takes_no_write_and_answers_reads(server: Valkey, store: RedisStore) -> None:
    generations = RedisGenerations(RedisAddress.parse(server.url), prefix="full")
    await store.write_enriched([USER])
    await generations.record(GENERATION, {"i1": 0.5})
    with server.client() as client:
        client.config_set("maxmemory", "1")
    with pytest.raises(Unavailable, match=r"redis is not available: .*maxmemory"):
        await store.write_virtual([ReenrichedUser("u1", replace(VIRTUAL, generation=3), AT + 1)])
    with pytest.raises(Unavailable, match=r"redis is not available: .*maxmemory"):
        await store.write_behaviour([BehavedUser("u1", Behaviour(["i"], ["a"], [AT]))])
    with pytest.raises(Unavailable, match="redis is not available"):
        await generations.record(replace(GENERATION, number=2), {"i1": 0.5})
    with pytest.raises(Unavailable, match=r"redis is not available: .*maxmemory"):
        await generations.activate(1, None)
    assert (await store.read(["u1"], 1))[0].attributes == {"age": 25}
    assert await generations.popularity(1, ["i1"]) == [0.5]
    assert await generations.get(2) is None
    await generations.close()


async def test_a_redis_that_forbids_a_command_is_not_available(server: Valkey, store: RedisStore) -> None:
    await store.write_enriched([USER])
    with server.client() as client:
        client.execute_command("ACL", "SETUSER", "default", "-hset")
    with pytest.raises(Unavailable, match=r"redis is not available: .*permission"):
        await store.write_virtual([ReenrichedUser("u1", VIRTUAL, AT + 1)])
    with server.client() as client:
        client.execute_command("ACL", "SETUSER", "default", "-hmget")
    with pytest.raises(Unavailable, match=r"redis is not available: .*permission"):
        await store.read(["u1"], 1)


@pytest.mark.parametrize("again", [0, -10], ids=["the same", "an older one"])
async def test_a_sign_up_sent_again_is_read_with_the_generation_that_is_announced(
    store: RedisStore, again: int
) -> None:
    """Feast drops what is no newer than it holds: generation 3 must not be announced over a slot that keeps 1."""
    world = await World().activate()
    parts = replace(world.parts, store=store)
    way = SignUps(
        parts,
        world.dead_letters,
        world.metrics,
        enriched_topic="enriched",
        profiles_topic="p",
        max_event_bytes=2000,
        now=lambda: NOW,
    )
    await way([sign_up("u1", age=25)])
    await (await world.activate(stream_generation(2))).activate(stream_generation(3))
    await way([sign_up("u1", timestamp_ms=NOW_MS + again, age=25 + again)])
    announced = [UserEnriched.model_validate_json(each.value or b"").generation for each in world.events.of("enriched")]
    assert announced == [1, 3]
    (features,) = await store.read(["u1"], 3)
    assert features.attributes == {"age": 25}
    assert stream_generation(3).virtual_of(features) is not None
    assert features.virtual is not None
    np.testing.assert_array_equal(features.virtual.vectors, virtual_of({"age": 25}))


async def test_a_cluster(tmp_path: Path) -> None:
    with valkey(tmp_path, cluster=True) as server:
        store = open_store(server.url, tmp_path, cluster=True)
        users = [EnrichedUser(f"u{n}", {"n": n}, USER.virtual, AT) for n in range(20)]
        await store.write_enriched(users)
        await store.write_behaviour([BehavedUser("u3", Behaviour(["i"], ["a"], [AT]))])
        features = await store.read([user.user_id for user in users], 1)
        assert [one.attributes for one in features] == [{"n": n} for n in range(20)]
        assert [len(one.behaviour) for one in features].index(1) == 3
        with server.client() as client:
            client.set(Keys(store._config.project).of("u4"), "no hash")
        assert [len(one.damaged) for one in await store.read(["u3", "u4"], 1)] == [0, 3]
        assert await store.write_behaviour([BehavedUser("u4", Behaviour(["i"], ["a"], [AT]))]) == []
        await store.write_enriched([EnrichedUser("u4", {"n": 4}, USER.virtual, AT)])
        assert [one.damaged for one in await store.read(["u4"], 1)] == [()]
        await store.close()


@pytest.mark.parametrize("password", ['p,w="é#$ {x}: 1', "12345", "true"])
async def test_a_password_of_any_letters(tmp_path: Path, password: str) -> None:
    with valkey(tmp_path, password=password) as server:
        store = open_store(server.url, tmp_path)
        await store.write_enriched([USER])
        assert (await store.read(["u1"], 1))[0].attributes == {"age": 25}
        await store.close()


async def test_a_wrong_password_is_named_but_not_told(tmp_path: Path) -> None:
    right, wrong = "first", "sesame"
    with valkey(tmp_path, password=right) as server:
        store = open_store(server.url.replace(right, wrong), tmp_path)
        with pytest.raises(Unavailable) as caught:
            await store.read(["u1"], 1)
        assert "invalid username-password pair" in str(caught.value)
        assert wrong not in str(caught.value)
        await store.close()


async def test_a_store_that_was_never_applied_says_so_and_makes_no_registry(redis_url: str, tmp_path: Path) -> None:
    registry = tmp_path / "registry.db"
    store = RedisStore(repo_config(RedisAddress.parse(redis_url), str(registry)))
    with pytest.raises(Unavailable, match="has not been applied"):
        await store.read(["u1"], 1)
    assert not registry.exists()
    apply_features(repo_config(RedisAddress.parse(redis_url), str(registry), "another_project"))
    with pytest.raises(Unavailable, match="no service `ranking` of project foretaste"):
        await store.read(["u1"], 1)
    await store.close()


async def test_applying_again_writes_nothing(redis_url: str, tmp_path: Path) -> None:
    config = repo_config(RedisAddress.parse(redis_url), str(tmp_path / "deep" / "registry.db"))
    assert apply_features(config)
    before = (tmp_path / "deep" / "registry.db").read_bytes()
    assert not apply_features(config)
    assert (tmp_path / "deep" / "registry.db").read_bytes() == before


async def test_a_registry_that_is_lost_stops_no_answer(store: RedisStore, tmp_path: Path) -> None:
    await store.write_enriched([USER])
    (tmp_path / "registry.db").unlink()
    assert (await store.read(["u1"], 1))[0].attributes == {"age": 25}
    assert not (tmp_path / "registry.db").exists()


def test_a_store_belongs_to_one_event_loop(redis_url: str, tmp_path: Path) -> None:
    store = open_store(redis_url, tmp_path)
    with asyncio.Runner() as runner:
        runner.run(store.read(["u1"], 1))
        with asyncio.Runner() as another, pytest.raises(RuntimeError, match="another event loop"):
            another.run(store.read(["u1"], 1))
        runner.run(store.close())


def team_applies(repo: Path, environment: dict[str, str]) -> None:
    command = Path(sys.executable).parent / "feast"
    subprocess.run([command, "apply"], cwd=repo, env=os.environ | environment, check=True, timeout=100)


async def test_a_teams_own_apply_and_its_own_pushes(redis_url: str, tmp_path: Path) -> None:
    """`feast apply` in a copy of the folder, then rows through a push source, are what our store reads."""
    shutil.copytree(REPO, tmp_path / "repo", ignore=shutil.ignore_patterns("__pycache__"))
    address = RedisAddress.parse(redis_url)
    project = f"test_{uuid4().hex}"
    environment = {
        "FEAST_PROJECT": project,
        "FEAST_REDIS": address.feast_connection_string,
        "FEAST_REDIS_TYPE": address.feast_type,
        "FEAST_REGISTRY": str(tmp_path / "registry.db"),
        "FEAST_REGISTRY_TYPE": "file",
        "FEAST_LOG": str(tmp_path / "log"),
    }
    await asyncio.to_thread(team_applies, tmp_path / "repo", environment)

    config = repo_config(address, str(tmp_path / "registry.db"), project)
    assert not apply_features(config), "a team's apply and ours declare the same"
    row = {"user_id": ["u1"], "attributes": ['{"age": 25}'], "event_timestamp": [datetime(2026, 1, 1, tzinfo=UTC)]}
    FeatureStore(config=config).push("user_attributes_push", pd.DataFrame(row))
    store = RedisStore(config)
    (features,) = await store.read(["u1"], 1)
    assert features.attributes == {"age": 25}
    assert features.as_of_ms == AT
    await store.close()
