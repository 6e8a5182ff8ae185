"""What only real servers show: Feast reads what we write, and walks over a cluster and over restarts."""

import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pytest

from features.feast_api import FeatureStore
from features.online.redis_store import RedisStore
from features.redis.address import RedisAddress
from features.repo_config import REPO, apply_features, repo_config
from foretaste.kernel.errors import Unavailable
from foretaste.kernel.users import BehavedUser, Behaviour, EnrichedUser, ReenrichedUser, VirtualBehaviour
from tests.integration.redis_server import Valkey, valkey

AT = 1_767_225_600_123
USERS = [f"u{each}" for each in range(1500)]
SLOTS = 16384


def rows(users: list[str]) -> list[EnrichedUser]:
    return [EnrichedUser(user, {"age": 25}, None, AT) for user in users]


def open_store(url: str, folder: Path, *, cluster: bool = False) -> RedisStore:
    config = repo_config(RedisAddress.parse(url, cluster=cluster), str(folder / "registry.db"), f"test_{uuid4().hex}")
    apply_features(config)
    return RedisStore(config, timeout=10)


def documented_read(**names: str) -> str:
    """The lines by which docs/your-own-servers.md reads the service `ranking`, with other names put in."""
    page = (Path(__file__).parents[2] / "docs" / "your-own-servers.md").read_text(encoding="utf-8")
    code: str
    (code,) = [block for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "get_feature_service" in block]
    for name, other in names.items():
        assert f'"{name}"' in code
        code = code.replace(f'"{name}"', repr(other))
    return code


async def test_a_team_reads_the_service_as_the_page_says(
    redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address, project = RedisAddress.parse(redis_url), f"test_{uuid4().hex}"
    config = repo_config(address, str(tmp_path / "registry.db"), project)
    apply_features(config)
    store = RedisStore(config, timeout=10)
    await store.write_enriched([EnrichedUser("Zoë", {"age": 25}, None, AT)])
    await store.close()
    environment = {
        "FEAST_PROJECT": project,
        "FEAST_REDIS": address.feast_connection_string,
        "FEAST_REDIS_TYPE": address.feast_type,
        "FEAST_REGISTRY": str(tmp_path / "registry.db"),
        "FEAST_REGISTRY_TYPE": "file",
        "FEAST_LOG": str(tmp_path / "log"),
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    found: dict[str, object] = {}
    exec(documented_read(**{"features/repo": str(REPO), "anna": "Zoë"}), found)  # noqa: S102  # our own page
    assert found["attributes"] == ['{"age":25}']


async def test_feasts_own_client_reads_what_we_wrote(redis_url: str, tmp_path: Path) -> None:
    config = repo_config(RedisAddress.parse(redis_url), str(tmp_path / "registry.db"), f"test_{uuid4().hex}")
    apply_features(config)
    store = RedisStore(config, timeout=10)
    vectors = np.random.default_rng(0).normal(size=(4, 32)).astype(np.float32)
    await store.write_enriched([EnrichedUser("Zoë", {"age": 25}, VirtualBehaviour(1, vectors), AT)])
    await store.write_virtual([ReenrichedUser("Zoë", VirtualBehaviour(2, 2 * vectors), AT + 1)])
    await store.write_behaviour([BehavedUser("Zoë", Behaviour(["a", "b"], ["x", "y"], [1, AT]))])
    await store.close()

    feast = FeatureStore(config=config)
    service = feast.get_feature_service("ranking")
    answer = feast.get_online_features(service, [{"user_id": "Zoë"}, {"user_id": "nobody"}], full_feature_names=True)
    found = answer.to_dict()
    assert found["user_attributes__attributes"] == ['{"age":25}', None]
    assert found["user_behaviour__items"][0] == ["a", "b"]
    assert found["user_behaviour__actions"][0] == ["x", "y"]
    assert found["user_behaviour__times"][0] == [1, AT]
    assert found["user_behaviour__version"] == [1, None]
    for slot, generation in (("virtual_behaviour_odd", 1), ("virtual_behaviour_even", 2)):
        np.testing.assert_array_equal(found[f"{slot}__vectors"][0], generation * vectors.ravel())
        assert found[f"{slot}__dimension"] == [32, None]
        assert found[f"{slot}__generation"] == [generation, None]
    times = {name: each.event_timestamps[0] for name, each in zip(found, answer.proto.results, strict=True)}
    stamp = times["virtual_behaviour_even__vectors"]
    assert (stamp.seconds * 1000 + stamp.nanos // 1_000_000) == AT + 1


async def test_another_projects_users_do_not_come(redis_url: str, tmp_path: Path) -> None:
    ours, theirs = open_store(redis_url, tmp_path / "ours"), open_store(redis_url, tmp_path / "theirs")
    await ours.write_enriched(rows(["u1", "u2"]))
    await theirs.write_enriched(rows(["u3"]))
    assert set(await walked(ours)) == {"u1", "u2"}
    assert set(await walked(theirs)) == {"u3"}
    await ours.close()
    await theirs.close()


async def test_a_server_that_was_started_anew_is_walked_from_its_beginning(tmp_path: Path) -> None:
    """Its scan goes another way after that, so that its old cursors would miss somebody."""
    with valkey(tmp_path, appendonly=True) as server:
        store = open_store(server.url, tmp_path)
        await store.write_enriched(rows(USERS))
        page, cursor = await store.users("", 500)
        server.stop()
        with pytest.raises(Unavailable, match="redis is not available"):
            await store.users(cursor or "", 500)
        server.start()
        assert cursor is not None
        assert set(await walked(store, cursor)) == set(USERS)
        assert len(page) < len(USERS)
        await store.close()


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[list[Valkey]]:
    """Three primaries that share the slots."""
    servers = []
    with ExitStack() as stack:
        for each in range(3):
            folder = tmp_path / str(each)
            folder.mkdir()
            servers.append(stack.enter_context(valkey(folder, cluster=True)))
        _share_slots(servers)
        yield servers


def _share_slots(servers: list[Valkey]) -> None:
    """Each was made as a cluster of one with all slots: they give them up, meet and take a third each."""
    first = servers[0]
    for number, server in enumerate(servers):
        start, end = SLOTS * number // 3, SLOTS * (number + 1) // 3 - 1
        with server.client() as client:
            client.execute_command("CLUSTER RESET", "HARD")
            client.execute_command("CLUSTER ADDSLOTSRANGE", start, end)
            client.execute_command("CLUSTER SET-CONFIG-EPOCH", number + 1)
    for server in servers[1:]:
        with server.client() as client:
            client.execute_command("CLUSTER MEET", "127.0.0.1", first.port, _bus_port(first))
    for server in servers:
        _wait_until_formed(server)


def _bus_port(server: Valkey) -> str:
    return server.options[server.options.index("--cluster-port") + 1]


def _wait_until_formed(server: Valkey) -> None:
    info: Any = None
    with server.client() as client:
        for _ in range(2000):
            info = client.execute_command("CLUSTER INFO")
            if info["cluster_state"] == "ok" and int(info["cluster_known_nodes"]) == 3:
                return
            client.execute_command("WAIT", 1, 10)  # ten milliseconds, since it has no replica
    raise RuntimeError(f"the cluster did not form: {info}")


async def test_a_cluster_is_walked_server_by_server_and_written_and_read(cluster: list[Valkey], tmp_path: Path) -> None:
    store = open_store(cluster[0].url, tmp_path, cluster=True)
    await store.write_enriched(rows(USERS))
    virtual = VirtualBehaviour(2, np.ones((2, 3), np.float32))
    await store.write_virtual([ReenrichedUser(user, virtual, AT + 1) for user in USERS])
    held = await store.read(USERS, 2)
    assert all(each.virtual is not None and each.virtual_ms == AT + 1 for each in held)

    rows_of = [BehavedUser(user, Behaviour(["a"], ["x"], [AT])) for user in USERS]
    assert await store.write_behaviour(rows_of) == []
    assert await store.write_behaviour(rows_of) == USERS, "all were written since these were made"

    cursors: set[str] = set()
    found = await walked(store, seen=cursors)
    assert set(found) == set(USERS)
    assert len({cursor.split(" ")[0] for cursor in cursors if cursor}) == 3
    for cursor in sorted(cursors):
        rest = await walked(store, cursor)
        assert rest == found[-len(rest) :]
    with cluster[1].client() as client:
        assert 0 < client.dbsize() < len(USERS)
    assert set(await walked(store, "127.0.0.1:1 run 0")) == set(USERS), "a server that is gone begins the walk anew"
    await store.close()


async def walked(store: RedisStore, cursor: str | None = "", seen: set[str] | None = None) -> list[str]:
    found: list[str] = []
    while cursor is not None:
        if seen is not None:
            seen.add(cursor)
        page, cursor = await store.users(cursor, 200)
        found += page
    return found
