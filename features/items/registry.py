"""The items that were registered, in Redis."""

import json
from collections.abc import Sequence

from features.redis.address import OneLoop, RedisAddress, answered_within
from features.redis.commands import LuaScript, run_all, run_script
from foretaste.kernel.running.registered_items import PAGE, RegisteredItem

_TAKEN_OUT = " null"
"""How what is kept of an item ends that was taken out."""
_REGISTER, _SINCE = (LuaScript(__package__, name) for name in ("register.lua", "since.lua"))


class RedisItemRegistry:
    """`ItemRegistry` in Redis: `{prefix}:items` is a hash by item, `{prefix}:item-changes` a sorted set of the items by
    the number of their last change, `{prefix}:item-change` the last of those numbers.

    Belongs to the event loop of its first use. `timeout` (seconds) bounds a whole call.
    """

    def __init__(self, address: RedisAddress, *, prefix: str = "foretaste", timeout: float = 2.0) -> None:
        self._client = address.client()
        names = ("items", "item-changes", "item-change")
        self._items, self._changes, self._last = (f"{{{prefix}}}:{name}".encode() for name in names)
        self._timeout = timeout
        self._loop = OneLoop()

    async def register(self, items: Sequence[RegisteredItem]) -> None:
        self._loop.check()
        if not items:
            return
        arguments = [part for each in items for part in _stored(each)]
        call = (self._items, self._changes, self._last, *arguments)
        async with answered_within(self._timeout):
            await run_script(self._client, _REGISTER, [call], keys=3)

    async def since(self, cursor: int, count: int = PAGE) -> tuple[list[RegisteredItem], int]:
        self._loop.check()
        call = (self._items, self._changes, b"%d" % cursor, b"%d" % count)
        async with answered_within(self._timeout):
            (found,) = await run_script(self._client, _SINCE, [call], keys=2)
        items = [_read(item, value) for item, value in zip(found[::3], found[1::3], strict=True)]
        return items, int(float(found[-1])) if found else cursor

    async def known(self, item_ids: Sequence[str]) -> list[bool]:
        self._loop.check()
        if not item_ids:
            return []
        command = (b"HMGET", self._items, *(each.encode() for each in item_ids))
        async with answered_within(self._timeout):
            (found,) = await run_all(self._client, [command])
        return [each is not None and not _text(each).endswith(_TAKEN_OUT) for each in found]

    async def close(self) -> None:
        await self._client.aclose()


def _stored(item: RegisteredItem) -> tuple[bytes, bytes, bytes]:
    attributes = None if item.attributes is None else dict(item.attributes)
    return item.item_id.encode(), b"%d" % item.at_ms, json.dumps(attributes).encode()


def _read(item_id: bytes | str, value: bytes | str) -> RegisteredItem:
    at_ms, _, attributes = _text(value).partition(" ")
    return RegisteredItem(_text(item_id), json.loads(attributes), int(at_ms))


def _text(value: bytes | str) -> str:
    """An answer of Redis, which may be set to give texts."""
    return value.decode() if isinstance(value, bytes) else value
