"""The health of each part, asked in its own protocol: embedded parts and the user's own alike."""

import asyncio
import http.client
import json
import os
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import TypeAlias, cast
from urllib.parse import urlsplit

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError
from redis import asyncio as redis_client
from redis.exceptions import RedisError

from foretaste.kernel.configuration import without_secrets
from foretaste.kernel.errors import Unavailable
from foretaste.kernel.running.kafka_refusal import refusal_of_kafka
from foretaste.kernel.running.store_watch import eviction_warning
from foretaste.kernel.running.tls import TlsFiles
from foretaste.stack.machine import IN_PROCESS

TIMEOUT = 2.0
"""Seconds that a part has to answer."""


@dataclass(frozen=True)
class Health:
    """One look at a part: `detail` says what it is or what is wrong with it, `ms` how long the answer took.

    The address is without user name and password.
    """

    part: str
    address: str
    ok: bool
    detail: str
    ms: float
    warning: bool = False
    """It is well now, and the detail tells what will go wrong."""


class _Unwell(Exception):
    """The part is not there, or says itself that it is not ready."""


_Check: TypeAlias = Callable[[], Awaitable[str]]
_FAILURES = (
    OSError,
    TimeoutError,
    KafkaError,
    RedisError,
    http.client.HTTPException,
    Unavailable,
    _Unwell,
)


async def kafka(address: str, options: Mapping[str, object] | None = None) -> Health:
    """A broker of `address` (`host:port[,host:port]`) describes its cluster; `options` are aiokafka's security ones."""

    async def ask() -> str:
        refusal = await refusal_of_kafka(address, options or {})
        if refusal is not None:  # aiokafka's clients would keep it to themselves, and log each of their many attempts
            raise _Unwell(refusal)
        admin = AIOKafkaAdminClient(
            bootstrap_servers=address.split(","), request_timeout_ms=int(TIMEOUT * 1000), **(options or {})
        )
        try:
            await admin.start()
            brokers = (await admin.describe_cluster())["brokers"]
            topics = await admin.list_topics()
        finally:
            await admin.close()
        return f"{_count(len(brokers), 'broker')}, {_count(len(topics), 'topic')}"

    return await _measure("kafka", address, ask)


async def redis(address: str, tls: TlsFiles | None = None) -> Health:
    """`redis://…` or `rediss://…` answers PING; a warning where it drops keys when it is full.

    `tls`: the files of the latter.
    """
    files = {} if tls is None else tls.redis_options()
    drops = False

    async def ask() -> str:
        nonlocal drops
        client = redis_client.Redis.from_url(address, socket_timeout=TIMEOUT, socket_connect_timeout=TIMEOUT, **files)
        async with client:
            await cast("Awaitable[bool]", client.ping())
            server, memory = await client.info("server"), await client.info("memory")
        policy = memory.get("maxmemory_policy", "noeviction")
        drops = policy != "noeviction"
        warning = f"; {eviction_warning(policy)}" if drops else ""
        return (
            f"{server.get('server_name', 'redis')} {server.get('valkey_version') or server['redis_version']}{warning}"
        )

    return replace(await _measure("redis", address, ask), warning=drops)


async def generations(
    address: str, recorded: Callable[[], Awaitable[tuple[int | None, int]]], published: Sequence[int]
) -> Health:
    """Redis knows the generations: `recorded` tells the active and the highest, `published` those in the repository."""

    async def ask() -> str:
        active, highest = await recorded()
        if active is None and not highest and published:
            raise _Unwell(
                f"Redis knows none of generations {', '.join(map(str, published))}: it was emptied, or is another one; "
                "bring its file back, or run `foretaste rebuild`, and see docs/operations.md"
            )
        return "none is active yet" if active is None else f"{active} is active"

    return await _measure("generations", address, ask)


async def triton(address: str, tls: TlsFiles | None = None) -> Health:
    """Triton at `host:port` (HTTP) is ready; the detail names the versions it serves and what it could not load.

    `tls`: it is asked over TLS, by these files.
    """
    if address == IN_PROCESS:
        return Health("triton", address, True, "the towers run in the process that asks", 0.0)

    def ask_blocking() -> str:
        with closing(_connection(address, tls)) as connection:
            if _answer(connection, "GET", "/v2/health/ready")[0] != HTTPStatus.OK:
                raise _Unwell("not ready")
            status, index = _answer(connection, "POST", "/v2/repository/index")
        if status != HTTPStatus.OK:
            raise _Unwell(f"{status} {_one_line(index)}")
        try:
            models = [{"version": "", "state": "", "reason": "", **model} for model in json.loads(index)]
            served = [f"{model['name']} {model['version']}" for model in models if model["state"] == "READY"]
            broken = [f"{model['name']}: {model['reason']}" for model in models if model["state"] == "UNAVAILABLE"]
        except (ValueError, KeyError, TypeError) as error:
            raise _Unwell(f"is no Triton: {_one_line(index)}") from error
        return "; ".join([", ".join(sorted(served)) or "no model loaded", *broken])

    async def ask() -> str:
        return await asyncio.to_thread(ask_blocking)

    return await _measure("triton", address, ask)


async def api(address: str, path: str = "/readyz") -> Health:
    """The ranking service at `http://host:port` answers with 200: it can rank, or at `/healthz` it lives."""

    def ask_blocking() -> str:
        parts = urlsplit(address)
        tls = TlsFiles("api") if parts.scheme == "https" else None
        with closing(_connection(parts.netloc, tls)) as connection:
            status, body = _answer(connection, "GET", path)
        if status != HTTPStatus.OK:
            raise _Unwell(f"{status} {_one_line(body)}")
        return path.removeprefix("/").removesuffix("z")

    async def ask() -> str:
        return await asyncio.to_thread(ask_blocking)

    return await _measure("api", address, ask)


async def process(part: str, pid: int, reasons: Mapping[str, str] | None = None) -> Health:
    """The process lives, and nothing keeps it from its work: `reasons` by subject, as it told them."""

    async def ask() -> str:
        os.kill(pid, 0)
        if reasons:
            raise _Unwell(
                f"pid {pid} is not ready: {'; '.join(f'{subject}: {why}' for subject, why in reasons.items())}"
            )
        return f"pid {pid}"

    return await _measure(part, "", ask)


def _connection(address: str, tls: TlsFiles | None) -> http.client.HTTPConnection:
    if tls is None:
        return http.client.HTTPConnection(address, timeout=TIMEOUT)
    return http.client.HTTPSConnection(address, timeout=TIMEOUT, context=tls.context())


def _answer(connection: http.client.HTTPConnection, method: str, path: str) -> tuple[int, str]:
    connection.request(method, path)
    answer = connection.getresponse()
    return answer.status, answer.read(2**20).decode(errors="replace")


async def _measure(part: str, address: str, ask: _Check) -> Health:
    began = time.perf_counter()
    try:
        async with asyncio.timeout(2 * TIMEOUT):
            detail, ok = await ask(), True
    except _FAILURES as error:
        detail, ok = _one_line(str(error)) or type(error).__name__, False
    return Health(part, without_secrets(address), ok, detail, (time.perf_counter() - began) * 1000)


def _one_line(text: str, limit: int = 200) -> str:
    line = " ".join(text.split())
    return line if len(line) <= limit else f"{line[:limit]}…"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
