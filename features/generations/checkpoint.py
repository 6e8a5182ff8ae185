"""How far a rebuild or an import has come, kept where whoever goes on with it finds it."""

from features.redis.address import OneLoop, RedisAddress, answered_within


class RedisCheckpoint:
    """In Redis, `{prefix}:checkpoint:<name>`. Belongs to the event loop of its first use.

    `timeout` (seconds) bounds a whole call.
    """

    def __init__(self, address: RedisAddress, name: str, *, prefix: str = "foretaste", timeout: float = 2.0) -> None:
        self._client = address.client()
        self._key = f"{{{prefix}}}:checkpoint:{name}"
        self._timeout = timeout
        self._loop = OneLoop()

    async def read(self) -> str | None:
        self._loop.check()
        async with answered_within(self._timeout):
            state = await self._client.get(self._key)
        return state.decode() if isinstance(state, bytes) else state

    async def write(self, state: str) -> None:
        self._loop.check()
        async with answered_within(self._timeout):
            await self._client.set(self._key, state)

    async def forget(self) -> None:
        self._loop.check()
        async with answered_within(self._timeout):
            await self._client.delete(self._key)

    async def close(self) -> None:
        await self._client.aclose()
