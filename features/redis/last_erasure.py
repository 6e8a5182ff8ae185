"""The word in Redis that is another one after each batch of erasures."""

from uuid import uuid4

from features.redis.address import OneLoop, RedisAddress, answered_within


class RedisLastErasure:
    """`LastErasure` in Redis, `{prefix}:last-erasure`. Belongs to the event loop of its first use.

    No count, since a Redis that lost its newest writes would come to the same number again. `timeout` (seconds) bounds
    a whole call.
    """

    def __init__(self, address: RedisAddress, *, prefix: str = "foretaste", timeout: float = 2.0) -> None:
        self._client = address.client()
        self._key = f"{{{prefix}}}:last-erasure"
        self._timeout = timeout
        self._loop = OneLoop()

    async def read(self) -> str | None:
        self._loop.check()
        async with answered_within(self._timeout):
            word = await self._client.get(self._key)
        return word.decode() if isinstance(word, bytes) else word

    async def change(self) -> None:
        self._loop.check()
        async with answered_within(self._timeout):
            await self._client.set(self._key, uuid4().hex)

    async def close(self) -> None:
        await self._client.aclose()
