"""The proxy of the fault suite: what it passes on, cuts and slows down."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest

from tests.faults.streams.proxy import TcpProxy, tcp_proxy

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
DELAY = 0.05
"""Seconds."""


@pytest.fixture
async def proxy() -> AsyncIterator[TcpProxy]:
    """Before a server that answers with what it was sent."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                writer.write(line)
        except ConnectionError:
            return
        finally:
            writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1")
    async with server, tcp_proxy(f"127.0.0.1:{server.sockets[0].getsockname()[1]}") as opened:
        yield opened


@asynccontextmanager
async def connected(proxy: TcpProxy) -> AsyncIterator[Streams]:
    host, port = proxy.address.split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        yield reader, writer
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


async def answer(streams: Streams, line: bytes) -> bytes:
    """Empty where the connection broke."""
    reader, writer = streams
    try:
        writer.write(line)
        return await reader.readline()
    except ConnectionError:
        return b""


async def test_it_passes_on(proxy: TcpProxy) -> None:
    async with connected(proxy) as streams:
        assert await answer(streams, b"one\n") == b"one\n"
        assert await answer(streams, b"two\n") == b"two\n"


async def test_a_cut_breaks_what_is_open_and_refuses_more_until_it_joins(proxy: TcpProxy) -> None:
    async with connected(proxy) as before:
        assert await answer(before, b"one\n") == b"one\n"
        proxy.cut()
        assert await answer(before, b"two\n") == b""
        async with connected(proxy) as during:
            assert await answer(during, b"three\n") == b""
    proxy.join()
    async with connected(proxy) as after:
        assert await answer(after, b"four\n") == b"four\n"


async def test_a_delay_is_taken_in_each_direction_and_keeps_the_order(proxy: TcpProxy) -> None:
    async with connected(proxy) as streams:
        reader, writer = streams
        proxy.delay = DELAY
        began = time.monotonic()
        writer.write(b"one\n")
        writer.write(b"two\n")
        assert [await reader.readline(), await reader.readline()] == [b"one\n", b"two\n"]
        assert 2 * DELAY <= time.monotonic() - began < 20 * DELAY


async def test_a_server_that_is_away_ends_the_connection(proxy: TcpProxy) -> None:
    proxy.target = "127.0.0.1:1"
    async with connected(proxy) as streams:
        assert await answer(streams, b"one\n") == b""
