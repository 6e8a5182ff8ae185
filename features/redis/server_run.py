"""The run of a Redis server: another one after each start, and of a replica that took over."""

import time
from collections.abc import Mapping
from typing import Any

from redis.asyncio import RedisCluster

from features.redis.address import Client
from foretaste.kernel.ports import Clock

ASK_EVERY = 1.0
"""Seconds after which the server is asked again though no connection was made: a proxy may keep its clients'."""
_RUN = "run_id"


class ServerRun:
    """The run of the server behind a client, which costs no round trip while no connection is made.

    A server that ended ended its connections too. `clock` counts seconds and never falls. Of a cluster, it is the runs
    of all its nodes, asked for each time.
    """

    def __init__(self, client: Client, clock: Clock = time.monotonic) -> None:
        self._client = client
        self._clock = clock
        self._made = 0
        """Connections, since the start."""
        self._known: str | None = None
        self._made_then, self._asked_at = 0, 0.0
        if not isinstance(client, RedisCluster):
            client.connection_pool.connection_kwargs["redis_connect_func"] = self._connected

    async def name(self) -> str:
        """Empty where the server does not tell."""
        now, made = self._clock(), self._made
        fresh = made == self._made_then and now - self._asked_at < ASK_EVERY
        if self._known is not None and fresh and not isinstance(self._client, RedisCluster):
            return self._known
        answer: Any = await self._client.execute_command("INFO", "server")
        nodes = [answer] if _RUN in answer else [each for each in answer.values() if isinstance(each, Mapping)]
        self._known = " ".join(sorted(str(each.get(_RUN, "")) for each in nodes)).strip()
        self._made_then, self._asked_at = made, now
        return self._known

    async def _connected(self, connection: Any) -> None:
        self._made += 1
        await connection.on_connect()
