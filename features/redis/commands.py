"""Many commands to Redis in one round trip, at a fraction of what a pipeline of its client costs."""

import hashlib
from collections.abc import Callable, Sequence
from importlib.resources import files
from typing import Any, TypeAlias

from hiredis import pack_command
from redis._parsers.hiredis import NOT_ENOUGH_DATA
from redis.asyncio import RedisCluster
from redis.exceptions import NoScriptError, RedisError, ResponseError

from features.redis.address import Client

Command: TypeAlias = tuple[bytes, ...]
"""Name, key, arguments."""
Kept: TypeAlias = Callable[[RedisError], bool]
"""Which refusals stand among the replies as they are; any other is raised."""


class LuaScript:
    """A Lua script that runs as one step of the server on its keys: the texts of `.lua` files of a package, one behind
    the other: the first ones declare what the last one calls. `constants` are declared before them, by name."""

    def __init__(self, package: str, *names: str, **constants: bytes | int | Sequence[bytes]) -> None:
        declared = [b"local %b = %b\n" % (name.encode(), _literal(value)) for name, value in constants.items()]
        self.text = b"".join([*declared, *(files(package).joinpath(name).read_bytes() for name in names)])
        self.sha1 = hashlib.sha1(self.text, usedforsecurity=False).hexdigest().encode()


def _literal(value: bytes | int | Sequence[bytes]) -> bytes:
    """As Lua writes a number, a text of any bytes, or a list of them."""
    if isinstance(value, int):
        return b"%d" % value
    if isinstance(value, bytes):
        return b"'%b'" % b"".join(b"\\%03d" % byte for byte in value)
    return b"{%b}" % b", ".join(map(_literal, value))


def none_kept(refusal: RedisError) -> bool:
    return False


def wrong_type(refusal: object) -> bool:
    """Whether the key of a command holds what the command is not for: a matter of that key alone."""
    return isinstance(refusal, ResponseError) and str(refusal).startswith("WRONGTYPE")


async def run_each(
    client: Client, name: bytes, keys: Sequence[bytes], *arguments: bytes, kept: Kept = none_kept
) -> list[Any]:
    """The replies to one command with the same arguments on each of the keys, in their order."""
    if isinstance(client, RedisCluster):
        return _checked(await _run_on_cluster(client, [(name, key, *arguments) for key in keys]), kept)
    head = b"*%d\r\n$%d\r\n%s\r\n" % (2 + len(arguments), len(name), name)
    tail = b"".join(b"$%d\r\n%s\r\n" % (len(each), each) for each in arguments)
    packed = [b"%b$%d\r\n%b\r\n%b" % (head, len(key), key, tail) for key in keys]
    return _checked(await _run_on_server(client, packed), kept)


async def run_all(client: Client, commands: Sequence[Command], *, kept: Kept = none_kept) -> list[Any]:
    """The replies to the commands, in their order."""
    if isinstance(client, RedisCluster):
        return _checked(await _run_on_cluster(client, commands), kept)
    pack: Any = pack_command  # typed as if it took one argument alone
    return _checked(await _run_on_server(client, [pack(command) for command in commands]), kept)


async def run_script(client: Client, script: LuaScript, calls: Sequence[Command], *, keys: int = 1) -> list[Any]:
    """The replies to one script, called with keys and arguments each; by its hash, and whole where that is unknown.

    A server forgets its scripts when it is started anew.
    """
    count = b"%d" % keys
    by_hash = [(b"EVALSHA", script.sha1, count, *call) for call in calls]
    replies = await run_all(client, by_hash, kept=lambda refusal: isinstance(refusal, NoScriptError))
    unknown = [place for place, reply in enumerate(replies) if isinstance(reply, NoScriptError)]
    again = await run_all(client, [(b"EVAL", script.text, count, *calls[place]) for place in unknown])
    for place, reply in zip(unknown, again, strict=True):
        replies[place] = reply
    return replies


def _checked(replies: list[Any], kept: Kept) -> list[Any]:
    for reply in replies:
        if isinstance(reply, RedisError) and not kept(reply):
            raise reply
    return replies


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
    """Refusals among them as they are; what the connection has read already is taken without asking it for each."""
    read = connection._parser._reader  # noqa: SLF001  # hiredis' own reader
    replies: list[Any] = []
    while len(replies) < count:
        reply = read.gets() if replies else NOT_ENOUGH_DATA
        if reply is NOT_ENOUGH_DATA:
            try:
                reply = await connection.read_response()
            except ResponseError as refusal:
                reply = refusal
        replies.append(reply)
    return replies


async def _run_on_cluster(client: Any, commands: Sequence[Command]) -> list[Any]:
    """The client's own pipeline, which sorts the commands by node."""
    if not commands:
        return []
    pipeline = client.pipeline()
    for name, *rest in commands:
        pipeline.execute_command(name.decode(), *rest)
    replies: list[Any] = await pipeline.execute(raise_on_error=False)
    return replies
