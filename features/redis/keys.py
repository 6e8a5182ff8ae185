"""A walk over the keys of Redis that anybody can go on with."""

from collections.abc import Mapping
from typing import Any

from redis.asyncio import RedisCluster

from features.redis.address import Client

ONE_SERVER = "-"
FIRST = "0"
"""SCAN's word for the beginning and for the end."""


async def walk_keys(client: Client, pattern: bytes, cursor: str, count: int) -> tuple[list[bytes], str | None]:
    """About `count` keys that match `pattern`, and the cursor of the next ones; None after the last.

    A cursor is `server run position`: of a cluster, one of its primaries, in the order of their names; which run of
    that server, since positions mean something else after it was started anew; where its scan goes on. A cursor of
    another run begins that server again, one of a server that is no primary any more begins all of them again. Keys
    that the cluster moves from one server to another during a walk may be missed.
    """
    servers = await _servers(client)
    first, *_ = names = sorted(servers)
    name, run, position = cursor.split(" ") if cursor else (first, "", FIRST)
    if name not in servers:
        name, run, position = first, "", FIRST
    now = (await _ask(client, servers[name], "INFO", "server"))["run_id"]
    start = position if run == now else FIRST
    found, keys = await _ask(client, servers[name], "SCAN", start, "MATCH", pattern, "COUNT", count)
    where = found[name] if isinstance(found, dict) else found  # a cluster's client says whose
    if str(where) != FIRST:
        return keys, f"{name} {now} {where}"
    after = next((each for each in names if each > name), None)
    return keys, None if after is None else f"{after} {ONE_SERVER} {FIRST}"


async def _servers(client: Client) -> Mapping[str, Any]:
    if not isinstance(client, RedisCluster):
        return {ONE_SERVER: None}
    await client.initialize()
    return {node.name: node for node in client.get_primaries()}


async def _ask(client: Client, server: Any, *command: str | bytes | int) -> Any:
    if server is None:
        return await client.execute_command(*command)
    return await client.execute_command(*command, target_nodes=server)
