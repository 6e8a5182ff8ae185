"""How far the re-enrichment for a generation has come, kept where whoever goes on with it finds it."""

from features.redis.address import OneLoop, RedisAddress, answered_within


class RedisProgress:
    """In Redis, `{prefix}:reenrichment:<generation>`. Belongs to the event loop of its first use.

    `timeout` (seconds) bounds a whole call.
    """

    def __init__(self, address: RedisAddress, *, prefix: str = "foretaste", timeout: float = 2.0) -> None:
        self._client = address.client()
        self._prefix = prefix
        self._timeout = timeout
        self._loop = OneLoop()

    async def read(self, generation: int) -> str | None:
        self._loop.check()
        async with answered_within(self._timeout):
            state = await self._client.get(self._key(generation))
        return state.decode() if isinstance(state, bytes) else state

    async def write(self, generation: int, state: str) -> None:
        self._loop.check()
        async with answered_within(self._timeout):
            await self._client.set(self._key(generation), state)

    async def forget(self, generation: int) -> None:
        self._loop.check()
        async with answered_within(self._timeout):
            await self._client.delete(self._key(generation))

    async def close(self) -> None:
        await self._client.aclose()

    def _key(self, generation: int) -> str:
        return f"{{{self._prefix}}}:reenrichment:{generation}"
