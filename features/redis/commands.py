"""Many commands to Redis in one round trip, at a fraction of what a pipeline of its client costs."""

from collections.abc import Sequence
from typing import Any, TypeAlias

from hiredis import pack_command
from redis._parsers.hiredis import NOT_ENOUGH_DATA
from redis.asyncio import RedisCluster
from redis.exceptions import RedisError

from features.redis.address import Client

Command: TypeAlias = tuple[bytes, ...]
"""Name, key, arguments."""


async def run_each(client: Client, name: bytes, keys: Sequence[bytes], *arguments: bytes) -> list[Any]:
    """The replies to one command with the same arguments on each of the keys, in their order."""
    if isinstance(client, RedisCluster):
        return await _run_on_cluster(client, [(name, key, *arguments) for key in keys])
    head = b"*%d\r\n$%d\r\n%s\r\n" % (2 + len(arguments), len(name), name)
    tail = b"".join(b"$%d\r\n%s\r\n" % (len(each), each) for each in arguments)
    return await _run_on_server(client, [b"%b$%d\r\n%b\r\n%b" % (head, len(key), key, tail) for key in keys])


async def run_all(client: Client, commands: Sequence[Command]) -> list[Any]:
    """The replies to the commands, in their order."""
    if isinstance(client, RedisCluster):
        return await _run_on_cluster(client, commands)
    pack: Any = pack_command  # typed as if it took one argument alone
    return await _run_on_server(client, [pack(command) for command in commands])


async def _run_on_server(client: Any, packed: Sequence[bytes]) -> list[Any]:
    """Written to a connection of the client's pool and read from it, without an object and a callback a command."""
    if not packed:
        return []
    connection = await client.connection_pool.get_connection()
    try:
        await connection.send_packed_command(b"".join(packed))
        return await _replies(connection, len(packed))
    except BaseException:  # replies that nobody reads now must not be taken for those of the next commands
        await connection.disconnect(nowait=True)
        raise
    finally:
        await client.connection_pool.release(connection)


async def _replies(connection: Any, count: int) -> list[Any]:
    """As the connection's `read_response` gives them; what it has read already is taken without asking it for each."""
    read = connection._parser._reader  # noqa: SLF001  # hiredis' own reader
    replies: list[Any] = []
    while len(replies) < count:
        reply = read.gets() if replies else NOT_ENOUGH_DATA
        if reply is NOT_ENOUGH_DATA:
            reply = await connection.read_response()
        elif isinstance(reply, RedisError):
            raise reply
        replies.append(reply)
    return replies


async def _run_on_cluster(client: Any, commands: Sequence[Command]) -> list[Any]:
    """The client's own pipeline, which sorts the commands by node."""
    if not commands:
        return []
    pipeline = client.pipeline()
    for name, *rest in commands:
        pipeline.execute_command(name.decode(), *rest)
    replies: list[Any] = await pipeline.execute()
    return replies
