"""The `Lease` port in Redis: a key with a token and a time to live, by redis-py's own lock."""

from redis.asyncio.lock import Lock
from redis.exceptions import LockError

from features.redis.address import OneLoop, RedisAddress, answered_within


class RedisLease:
    """The right to `name` under `{prefix}:lease:<name>`, for `seconds` from when it was taken or last renewed.

    Whoever holds it renews it well before that, and stops when told that it was lost. Belongs to the event loop of
    its first use. `timeout` (seconds) bounds a whole call.
    """

    def __init__(
        self, address: RedisAddress, name: str, *, seconds: float, prefix: str = "foretaste", timeout: float = 2.0
    ) -> None:
        self._client = address.client()
        key = f"{{{prefix}}}:lease:{name}"
        self._lock = Lock(self._client, key, timeout=seconds, thread_local=False)
        self._timeout = timeout
        self._loop = OneLoop()

    async def take(self) -> bool:
        """As the port says; one that this holder has already is renewed."""
        self._loop.check()
        async with answered_within(self._timeout):
            return await self._lock.acquire(blocking=False) or await self._renewed()

    async def renew(self) -> bool:
        self._loop.check()
        async with answered_within(self._timeout):
            return await self._renewed()

    async def give_back(self) -> None:
        self._loop.check()
        async with answered_within(self._timeout):
            try:
                await self._lock.release()
            except LockError:
                return  # it was lost, or never taken

    async def close(self) -> None:
        await self._client.aclose()

    async def _renewed(self) -> bool:
        try:
            return await self._lock.reacquire()
        except LockError:
            return False
