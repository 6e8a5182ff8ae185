"""How far each partition's events have had their effects in this Redis, and waiting for its disk."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from redis.asyncio import RedisCluster
from redis.exceptions import ClusterCrossSlotError

from features.redis.address import Client
from features.redis.commands import Command, LuaScript, run_all, run_script
from foretaste.kernel.errors import Unavailable
from foretaste.kernel.running.durability import LastOffsets
from foretaste.kernel.users import BehavedUser, LaterBehaviour
from foretaste.kernel.values import Partition

_BEGIN = LuaScript(__package__, "begin_offset.lua")
_ADVANCE = LuaScript(__package__, "advance_offset.lua")
_MOVED = 1
log = logging.getLogger(__name__)


class Offsets:
    """The offsets in the hash `key`, and what this client was told of them last."""

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._last = LastOffsets()
        self._lies_elsewhere = False
        """A single address leads to several slots: the node of a cluster, or a proxy that refuses as one does."""

    async def begin(self, client: Client, starts: Mapping[Partition, int]) -> dict[Partition, int | None]:
        """As `OffsetStore.begin_offsets` has it."""
        calls: list[Command] = [(self._key, _field(each), b"%d" % start) for each, start in starts.items()]
        held = await run_script(client, _BEGIN, calls)
        found = {each: _number(answer) for each, answer in zip(starts, held, strict=True)}
        self._last.begun(starts, found)
        return found

    async def advance(self, client: Client, moves: Mapping[Partition, tuple[int, int]]) -> dict[Partition, int | None]:
        """As `OffsetStore.advance_offsets` has it."""
        calls: list[Command] = [
            (self._key, _field(each), b"%d" % old, b"%d" % new) for each, (old, new) in moves.items()
        ]
        replies = await run_script(client, _ADVANCE, calls)
        elsewhere = {each: _number(found) for each, found in zip(moves, replies, strict=True) if found != _MOVED}
        self._last.advanced(moves, elsewhere)
        return elsewhere

    async def run(
        self, client: Client, script: LuaScript, calls: Sequence[Command], of: Sequence[BehavedUser | LaterBehaviour]
    ) -> list[Any]:
        """The replies to a script that writes a behaviour, called for each of B users; it compares the offsets in its
        own step. Of a Redis Cluster they may lie on another node than a user, and nothing is compared."""
        if isinstance(client, RedisCluster) or self._lies_elsewhere:
            return await run_script(client, script, calls)
        compared = [
            (key, self._key, *arguments, *self._compared(user.read_from))
            for (key, *arguments), user in zip(calls, of, strict=True)
        ]
        try:
            return await run_script(client, script, compared, keys=2)
        except ClusterCrossSlotError:
            self._lies_elsewhere = True
            log.warning("users and offsets lie in other slots of Redis: behaviours are written without comparing them")
            return await run_script(client, script, calls)

    def _compared(self, read_from: Sequence[Partition]) -> list[bytes]:
        """As `offsets_compared.lua` takes them: partitions and the least offset of each, by turns."""
        return [part for each, least in self._last.of(read_from).items() for part in (_field(each), b"%d" % least)]


async def wait_for_disk(client: Client, key: bytes, seconds: float) -> None:
    """Returns once all that the server wrote before lies on its disk: one round trip, within `seconds`.

    WAITAOF waits for the writes of its own connection, which may not be the one that wrote: the write just before it
    comes behind all of them in the one file.
    """
    if isinstance(client, RedisCluster):
        raise Unavailable("redis", "WAITAOF is asked of a single server alone, not of a Redis Cluster")
    wait = b"%d" % round(1000 * seconds)
    _, (here, _) = await run_all(client, [(b"INCR", key), (b"WAITAOF", b"1", b"0", wait)])
    if not here:
        raise Unavailable("redis", f"its append-only file did not reach the disk within {seconds} s")


def _field(partition: Partition) -> bytes:
    return f"{partition[0]}/{partition[1]}".encode()


def _number(held: bytes | None) -> int | None:
    return None if held is None else int(held)
