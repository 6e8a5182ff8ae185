"""The records of generations and the pointer to the active one, in Redis."""

import hashlib
import heapq
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from redis.exceptions import WatchError

from features.generations.records import check_idle, check_slot, from_json, to_json
from features.redis.address import OneLoop, RedisAddress, answered_within
from features.redis.commands import LuaScript
from features.redis.eviction import eviction_of
from foretaste.kernel.errors import InvalidInput
from foretaste.kernel.generations import Generation, Move, Serving, check_same
from foretaste.kernel.ports import Clock
from foretaste.kernel.retrieval import MOST_POPULAR

_CHUNK = 1000
"""Items that one command carries: many commands of one transaction keep Redis' input buffer small."""
_MOVES = 1000
"""Moves of the pointer that are kept."""

_ACTIVATE, _FILL, _RETIRE = (LuaScript(__package__, name) for name in ("activate.lua", "fill.lua", "retire.lua"))


class RedisGenerations:
    """Generations in Redis under `{prefix}:…`: the braces keep all keys on one node of a Redis Cluster.

    `{prefix}:active` and `{prefix}:filling` are pointers (a number and the sha1 of its record), `{prefix}:previous` is
    a number, `{prefix}:generation:<n>` a record (JSON), `{prefix}:popularity:<n>` a hash of shares by item,
    `{prefix}:popular:<n>` a list of the most popular of them, `{prefix}:moves` a list of JSON, newest first,
    `{prefix}:numbers` a sorted set of every number that was ever recorded and `{prefix}:retired` of those that were
    retired. Belongs to the event loop of its first use. `timeout` (seconds) bounds a whole call; `now` dates the moves.
    """

    def __init__(
        self, address: RedisAddress, *, prefix: str = "foretaste", timeout: float = 2.0, now: Clock = time.time
    ) -> None:
        self._client = address.client()
        self._prefix = prefix
        self._timeout = timeout
        self._now = now
        self._loop = OneLoop()
        self._read: dict[str, Generation] = {}
        """Records that pointers lead to, by pointer: a record never changes, and another one has another sha1."""

    async def record(self, generation: Generation, popularity: Mapping[str, float]) -> None:
        self._loop.check()
        async with answered_within(self._timeout):
            shares = list(popularity.items())
            while not await self._recorded(generation, shares):
                continue  # who took the number meanwhile is seen at the next look

    async def active(self) -> Generation | None:
        return (await self.serving()).active

    async def serving(self) -> Serving:
        self._loop.check()
        async with answered_within(self._timeout):
            active, filling, previous = found = await self._pointers()
            records = self._read
            while unread := [pointer for pointer in (active, filling) if pointer and pointer not in records]:
                records = records | await self._records(unread)
                active, filling, previous = again = await self._pointers()
                if again == found:  # what was not read now has no record
                    break
                found = again
        self._read = kept = {pointer: records[pointer] for pointer in (active, filling) if pointer in records}
        return Serving(kept.get(active), kept.get(filling), int(previous) if previous else None)

    async def activate(self, number: int, expected: int | None, reason: str = "", *, filled: bool = False) -> bool:
        at = datetime.fromtimestamp(self._now(), UTC).isoformat(timespec="seconds")
        move = json.dumps(asdict(Move(number, expected, at, reason, filled)))
        moved = await self._step(_ACTIVATE, number, ("moves",), expected or "", move, _MOVES)
        if moved == -1:
            raise _not_recorded(number)
        return bool(moved)

    async def fill(self, number: int | None) -> None:
        if number is None:
            self._loop.check()
            async with answered_within(self._timeout):
                await self._run("DEL", self._key("filling"))
            return
        answer = await self._step(_FILL, number, ())
        if answer == -1:
            raise _not_recorded(number)
        check_slot(number, answer or None)

    async def numbers(self) -> list[int]:
        self._loop.check()
        async with answered_within(self._timeout):
            recorded = await self._run("ZDIFF", 2, self._key("numbers"), self._key("retired"))
        return sorted(map(int, recorded))

    async def moves(self, limit: int = 20) -> list[Move]:
        self._loop.check()
        if limit < 1:
            return []
        async with answered_within(self._timeout):
            kept = await self._run("LRANGE", self._key("moves"), 0, limit - 1)
        return [Move(**json.loads(text)) for text in kept]

    async def retire(self, number: int) -> None:
        used = [
            _text(each)
            for each in await self._step(_RETIRE, number, (("popularity", number), "retired", ("popular", number)))
        ]
        if used == ["-1"]:
            raise _not_recorded(number)
        if used:
            check_idle(number, *(int(each) if each else None for each in used))

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

    async def shares(self, number: int, most: int) -> dict[str, float] | None:
        """In pages: all at once would hold up Redis, and whoever else waits in this process."""
        self._loop.check()
        key = self._key("popularity", number)
        async with answered_within(self._timeout):
            count = int(await self._run("HLEN", key))
        if count > most:
            return None
        shares: dict[str, float] = {}
        cursor: bytes | str | int = 0
        while True:
            async with answered_within(self._timeout):
                cursor, page = await self._run("HSCAN", key, cursor, "COUNT", _CHUNK)
            pairs = page.items() if isinstance(page, dict) else zip(page[::2], page[1::2], strict=True)
            shares.update((_text(item), float(share)) for item, share in pairs)
            if int(cursor) == 0:
                return shares

    async def popular(self, number: int, count: int) -> list[str]:
        self._loop.check()
        if count < 1:
            return []
        async with answered_within(self._timeout):
            found = await self._run("LRANGE", self._key("popular", number), 0, min(count, MOST_POPULAR) - 1)
            if not found:  # recorded by an earlier version, without the list
                shares = await self._run("HGETALL", self._key("popularity", number))
                found = _most_popular([(_text(item), float(share)) for item, share in shares.items()])[:count]
        return [_text(item) for item in found]

    async def highest(self) -> int:
        self._loop.check()
        async with answered_within(self._timeout):
            last = await self._run("ZREVRANGE", self._key("numbers"), 0, 0)
        return int(last[0]) if last else 0

    async def eviction(self) -> str | None:
        """As `EvictingStore` has it."""
        self._loop.check()
        async with answered_within(self._timeout):
            return await eviction_of(self._client)

    async def close(self) -> None:
        await self._client.aclose()

    async def _recorded(self, generation: Generation, shares: Sequence[tuple[str, float]]) -> bool:
        """One try to record all of it in one transaction; False if the number was taken between looking and writing.

        redis-py says the same of a connection that broke between the two.
        """
        try:
            async with self._client.pipeline(transaction=True) as transaction:
                return await self._looked_and_written(transaction, generation, shares)
        except WatchError:
            return False

    async def _looked_and_written(
        self, transaction: Any, generation: Generation, shares: Sequence[tuple[str, float]]
    ) -> bool:
        number = generation.number
        record = self._key("generation", number)
        await transaction.watch(record)
        stored = await transaction.get(record)
        if stored is not None:
            check_same(generation, from_json(stored))
            return True
        if await transaction.zscore(self._key("retired"), str(number)) is not None:
            raise InvalidInput("generation", number, "was retired, and its number is not given again")
        transaction.multi()
        transaction.set(record, to_json(generation))
        transaction.zadd(self._key("numbers"), {str(number): number})
        for start in range(0, len(shares), _CHUNK):
            transaction.hset(self._key("popularity", number), mapping=dict(shares[start : start + _CHUNK]))
        transaction.delete(self._key("popular", number))
        if shares:
            transaction.rpush(self._key("popular", number), *_most_popular(shares))
        await transaction.execute()
        return True

    async def _pointers(self) -> tuple[str, str, str]:
        """Active, filling, previous, of one instant; empty where there is none."""
        keys = [self._key(name) for name in ("active", "filling", "previous")]
        active, filling, previous = (_text(each) for each in await self._run("MGET", *keys))
        return active, filling, previous

    async def _records(self, pointers: Sequence[str]) -> dict[str, Generation]:
        """The records that these pointers meant, by pointer; not one that took its place since."""
        split = [pointer.partition(" ") for pointer in pointers]
        texts = await self._run("MGET", *[self._key("generation", number) for number, _, _ in split])
        return {
            pointer: from_json(text)
            for pointer, (_, _, sha1), text in zip(pointers, split, map(_text, texts), strict=True)
            if text and sha1 in ("", _sha1(text))  # an earlier version of this module set none
        }

    async def _step(self, script: LuaScript, number: int, more: Sequence[object], *arguments: str | int) -> Any:
        """One step of the server on the pointers, the record of `number` and `more` keys."""
        self._loop.check()
        names: list[object] = ["active", "filling", "previous", ("generation", number), *more]
        keys = [self._key(*name) if isinstance(name, tuple) else self._key(name) for name in names]
        async with answered_within(self._timeout):
            return await self._run("EVAL", script.text, len(keys), *keys, number, *arguments)

    async def _run(self, *command: str | bytes | int) -> Any:
        return await self._client.execute_command(*command)  # its typed forms mix the blocking client's answers in

    def _key(self, *parts: object) -> str:
        return ":".join([f"{{{self._prefix}}}", *map(str, parts)])


def _text(value: bytes | str | None) -> str:
    """An answer of Redis, which may be set to give texts; empty for none."""
    return value.decode() if isinstance(value, bytes) else value or ""


def _most_popular(shares: Sequence[tuple[str, float]]) -> list[str]:
    """Greatest share first; equal ones by the item, so that every process has them in one order."""
    return [item for item, _ in heapq.nsmallest(MOST_POPULAR, shares, key=lambda each: (-each[1], each[0]))]


def _sha1(text: str) -> str:
    return hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


def _not_recorded(number: int) -> InvalidInput:
    return InvalidInput("generation", number, "expected a recorded generation")
