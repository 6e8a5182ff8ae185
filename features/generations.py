"""The records of generations and the pointer to the active one, in Redis."""

from collections.abc import Mapping, Sequence
from typing import Any

from redis.exceptions import WatchError

from features.records import check_same, from_json, to_json
from features.redis_address import OneLoop, RedisAddress, answered_within
from foretaste.contracts import Generation
from foretaste.errors import InvalidInput

_CHUNK = 1000
"""Items that one command carries: many commands of one transaction keep Redis' input buffer small."""

_ACTIVATE = """
if redis.call('EXISTS', KEYS[2]) == 0 then return -1 end
if (redis.call('GET', KEYS[1]) or '') ~= ARGV[2] then return 0 end
redis.call('SET', KEYS[1], ARGV[1])
return 1
"""
"""Compare and set in one step of the server: -1 not recorded, 0 the pointer stands elsewhere, 1 moved."""


class RedisGenerations:
    """Generations in Redis under `{prefix}:…`: the braces keep all keys on one node of a Redis Cluster.

    `{prefix}:active` is the pointer, `{prefix}:generation:<n>` a record (JSON), `{prefix}:popularity:<n>` a hash of
    shares by item, `{prefix}:numbers` a sorted set of every number that was ever recorded. Belongs to the event loop of
    its first use. `timeout` (seconds) bounds a whole call.
    """

    def __init__(self, address: RedisAddress, *, prefix: str = "foretaste", timeout: float = 2.0) -> None:
        self._client = address.client()
        self._prefix = prefix
        self._timeout = timeout
        self._loop = OneLoop()

    async def record(self, generation: Generation, popularity: Mapping[str, float]) -> None:
        self._loop.check()
        async with answered_within(self._timeout):
            shares = list(popularity.items())
            while not await self._recorded(generation, shares):
                continue  # who took the number meanwhile is seen at the next look

    async def active(self) -> Generation | None:
        self._loop.check()
        async with answered_within(self._timeout):
            number = await self._client.get(self._key("active"))
        return None if number is None else await self.get(int(number))

    async def activate(self, number: int, expected: int | None) -> bool:
        self._loop.check()
        keys = (self._key("active"), self._key("generation", number))
        async with answered_within(self._timeout):
            moved = await self._run("EVAL", _ACTIVATE, len(keys), *keys, number, expected or "")
        if moved == -1:
            raise InvalidInput("generation", number, "expected a recorded generation")
        return bool(moved)

    async def get(self, number: int) -> Generation | None:
        self._loop.check()
        async with answered_within(self._timeout):
            text = await self._client.get(self._key("generation", number))
        return None if text is None else from_json(text)

    async def popularity(self, number: int, items: Sequence[str]) -> list[float | None]:
        self._loop.check()
        if not items:
            return []
        async with answered_within(self._timeout):
            shares = await self._run("HMGET", self._key("popularity", number), *items)
        return [None if share is None else float(share) for share in shares]

    async def highest(self) -> int:
        self._loop.check()
        async with answered_within(self._timeout):
            last = await self._run("ZREVRANGE", self._key("numbers"), 0, 0)
        return int(last[0]) if last else 0

    async def close(self) -> None:
        await self._client.aclose()

    async def _recorded(self, generation: Generation, shares: Sequence[tuple[str, float]]) -> bool:
        """One try to record all of it in one transaction; False if the number was taken between looking and writing."""
        number = generation.number
        record = self._key("generation", number)
        async with self._client.pipeline(transaction=True) as transaction:
            await transaction.watch(record)
            stored = await transaction.get(record)
            if stored is not None:
                check_same(generation, from_json(stored))
                return True
            transaction.multi()  # type: ignore[no-untyped-call]  # redis-py left it untyped
            transaction.set(record, to_json(generation))
            transaction.zadd(self._key("numbers"), {str(number): number})
            for start in range(0, len(shares), _CHUNK):
                transaction.hset(self._key("popularity", number), mapping=dict(shares[start : start + _CHUNK]))
            try:
                await transaction.execute()
            except WatchError:
                return False
        return True

    async def _run(self, *command: str | int) -> Any:
        return await self._client.execute_command(*command)  # its typed forms mix the blocking client's answers in

    def _key(self, *parts: object) -> str:
        return ":".join([f"{{{self._prefix}}}", *map(str, parts)])
