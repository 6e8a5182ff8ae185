"""Whether a Redis lets go of keys by itself, of one server and of a cluster."""

from typing import Any

import pytest
from redis.asyncio import Redis, RedisCluster

from features.redis.eviction import eviction_of

KEEPS = {"used_memory": 1, "maxmemory_policy": "noeviction"}
DROPS = {"used_memory": 1, "maxmemory_policy": "allkeys-lru"}


class Server(Redis):
    answer: Any

    async def execute_command(self, *args: Any, **_: Any) -> Any:
        assert args == ("INFO", "memory")
        return self.answer


class Cluster(RedisCluster):
    answer: Any

    async def execute_command(self, *args: Any, **_: Any) -> Any:
        assert args == ("INFO", "memory")
        return self.answer


@pytest.mark.parametrize(
    ("answer", "policy"), [(KEEPS, None), (DROPS, "allkeys-lru"), ({"used_memory": 1}, None), ({}, None)]
)
async def test_a_server_tells_its_own(answer: Any, policy: str | None) -> None:
    client = Server()
    client.answer = answer
    assert await eviction_of(client) == policy


@pytest.mark.parametrize(
    ("answer", "policy"),
    [
        ({"a:1": KEEPS, "b:1": DROPS, "c:1": KEEPS}, "allkeys-lru"),
        ({"a:1": KEEPS, "b:1": KEEPS}, None),
        (DROPS, "allkeys-lru"),
    ],
)
async def test_a_cluster_tells_of_each_node(answer: Any, policy: str | None) -> None:
    client = Cluster("127.0.0.1", 1)
    client.answer = answer
    assert await eviction_of(client) == policy
