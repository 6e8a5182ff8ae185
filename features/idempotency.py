"""The `IdempotencyKeys` port in Redis."""

import hashlib
import json
from dataclasses import asdict

from features.redis.address import OneLoop, RedisAddress, answered_within
from foretaste.kernel.service_ports import KeptRequest

IN_PROCESS_SECONDS = 60
"""For which a key is held for a request in process: longer than any may take, and the wait after a crash."""


class RedisIdempotencyKeys:
    """Requests under `{prefix}:idempotency:<sha256 of the key>`, JSON, for `seconds` from when they were answered.

    Belongs to the event loop of its first use. `timeout` (seconds) bounds a whole call.
    """

    def __init__(self, address: RedisAddress, *, seconds: int, prefix: str = "foretaste", timeout: float = 2.0) -> None:
        self._client = address.client()
        self._prefix = prefix
        self._seconds = seconds
        self._timeout = timeout
        self._loop = OneLoop()

    async def begin(self, key: str, fingerprint: str) -> KeptRequest | None:
        self._loop.check()
        name, taken = self._key(key), _to_json(KeptRequest(fingerprint, None))
        async with answered_within(self._timeout):
            while not await self._client.set(name, taken, nx=True, ex=IN_PROCESS_SECONDS):
                held = await self._client.get(name)
                if held is not None:
                    return KeptRequest(**json.loads(held))
                # it ended between the two: the next try takes it
        return None

    async def finish(self, key: str, kept: KeptRequest) -> None:
        self._loop.check()
        async with answered_within(self._timeout):
            await self._client.set(self._key(key), _to_json(kept), ex=self._seconds)

    async def forget(self, key: str) -> None:
        self._loop.check()
        async with answered_within(self._timeout):
            await self._client.delete(self._key(key))

    async def close(self) -> None:
        await self._client.aclose()

    def _key(self, key: str) -> str:
        return f"{self._prefix}:idempotency:{hashlib.sha256(key.encode()).hexdigest()}"


def _to_json(kept: KeptRequest) -> str:
    return json.dumps(asdict(kept))
