"""How far each partition's events have had their effects in this Redis, and waiting for its disk."""

from collections.abc import Mapping

from redis.asyncio import RedisCluster

from features.redis.address import Client
from features.redis.commands import Command, LuaScript, run_all, run_script
from foretaste.kernel.errors import Unavailable
from foretaste.kernel.running.durability import Partition

_BEGIN = LuaScript(__package__, "begin_offset.lua")
_ADVANCE = LuaScript(__package__, "advance_offset.lua")
_MOVED = 1


async def begin(client: Client, key: bytes, starts: Mapping[Partition, int]) -> dict[Partition, int | None]:
    """As `OffsetStore.begin_offsets` has it, in the hash `key`."""
    calls: list[Command] = [(key, _field(each), b"%d" % start) for each, start in starts.items()]
    held = await run_script(client, _BEGIN, calls)
    return {each: _number(found) for each, found in zip(starts, held, strict=True)}


async def advance(
    client: Client, key: bytes, moves: Mapping[Partition, tuple[int, int]]
) -> dict[Partition, int | None]:
    """As `OffsetStore.advance_offsets` has it, in the hash `key`."""
    calls: list[Command] = [(key, _field(each), b"%d" % old, b"%d" % new) for each, (old, new) in moves.items()]
    replies = await run_script(client, _ADVANCE, calls)
    return {each: _number(found) for each, found in zip(moves, replies, strict=True) if found != _MOVED}


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
