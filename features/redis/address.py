"""Where Redis is: one URL, read once, for our own client and for Feast, which has a notation of its own."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from redis.asyncio import Redis, RedisCluster
from redis.asyncio.connection import SSLConnection, parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ClusterError, RedisClusterException, ResponseError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from foretaste.kernel.configuration import without_secrets
from foretaste.kernel.errors import InvalidInput, Unavailable
from foretaste.kernel.running.tls import TlsFiles

Client: TypeAlias = "Redis | RedisCluster"

_AWAY = (
    OSError,
    TimeoutError,
    RedisConnectionError,
    RedisTimeoutError,
    RedisClusterException,
    ClusterError,
    ResponseError,
)
"""Nobody answers, a node is starting, slots are moving; or it refuses: memory or disk is full, a permission lacks.

A reader degrades and a worker waits, whether it passes by itself or a person must see to it. A command that is wrong
is refused by the same `ResponseError`: a defect of ours would be waited for too, and named in the log at each try.
"""


@dataclass(frozen=True, slots=True)
class RedisAddress:
    """A Redis server or, with `cluster`, any node of a Redis Cluster.

    `options` are the parts of the URL as redis-py names them: host, port, username, password, db, and what its query
    held (`?ssl_ca_certs=…`).
    """

    options: Mapping[str, Any]
    tls: bool = False
    cluster: bool = False

    @classmethod
    def parse(cls, url: str, *, cluster: bool = False, tls_files: TlsFiles | None = None) -> "RedisAddress":
        """From `redis://[[user]:password@]host[:port][/db]`, or `rediss://` for TLS; `InvalidInput` for all else.

        `tls_files` come before what the query says of the same ones.
        """
        try:
            options: dict[str, Any] = {"host": "localhost", "port": 6379, **parse_url(url)}
        except ValueError:
            problem = "expected redis://[[user]:password@]host[:port][/db], its parts percent-encoded"
            raise InvalidInput("redis", without_secrets(url), problem) from None  # the cause repeats the password
        if "path" in options or ":" in options["host"]:
            raise InvalidInput("redis", without_secrets(url), "expected a host name or an IPv4 address")
        for name in ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile"):
            if name in options and not Path(options[name]).is_file():
                raise InvalidInput("redis", without_secrets(url), f"{name} names no file: {options[name]!r}")
        tls = options.pop("connection_class", None) is SSLConnection
        if cluster and options.pop("db", 0) != 0:
            raise InvalidInput("redis", without_secrets(url), "a Redis Cluster has database 0 alone")
        if tls and tls_files is not None:
            options |= tls_files.redis_options()
        return cls(options, tls, cluster)

    def client(self) -> Client:
        """A client that connects when first used, from the event loop that is running then."""
        if self.cluster:
            return RedisCluster(**self.options, ssl=self.tls)
        return Redis(**self.options, ssl=self.tls, retry=Retry(NoBackoff(), 0))

    @property
    def feast_type(self) -> str:
        return "redis_cluster" if self.cluster else "redis"

    @property
    def feast_connection_string(self) -> str:
        """Feast's notation, `host:port,name=value,…`, with each value as JSON.

        Feast splits at commas and YAML has meanings for more signs, so all but letters and digits are escaped.
        `retry=null`: redis-py would try for seconds where a reader has something better to answer.
        """
        options = {name: value for name, value in self.options.items() if name not in ("host", "port")}
        if self.tls:
            options["ssl"] = True
        if not self.cluster:
            options["retry"] = None
        parts = [f"{name}={_plain_json(value)}" for name, value in sorted(options.items())]
        return ",".join([f"{self.options['host']}:{self.options['port']}", *parts])


@asynccontextmanager
async def answered_within(seconds: float) -> AsyncIterator[None]:
    """What is awaited inside has so long in all; raises `Unavailable` when Redis is away, too slow or refuses."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except _AWAY as error:
        raise Unavailable("redis", str(error) or f"no answer within {seconds} s") from error


class OneLoop:
    """Ties a client to the event loop that first uses it: its connections hang for ever in any other."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None

    def check(self) -> None:
        running = asyncio.get_running_loop()
        if self._loop is None:
            self._loop = running
        elif self._loop is not running:
            raise RuntimeError("this store belongs to another event loop: make one for each loop")


def _plain_json(value: object) -> str:
    return '"' + "".join(map(_escaped, value)) + '"' if isinstance(value, str) else json.dumps(value)


def _escaped(sign: str) -> str:
    if not sign.isascii():
        return json.dumps(sign)[1:-1]
    return sign if sign.isalnum() else f"\\u{ord(sign):04x}"
