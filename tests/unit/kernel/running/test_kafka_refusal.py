"""Why no broker takes a connection is told by the last one that was asked."""

import asyncio

import pytest

from foretaste.kernel.running.kafka_refusal import refusal_of_kafka
from foretaste.kernel.running.tls import CLOSED


@pytest.mark.parametrize("address", ["", "broker", "broker:port", ":9092", "broker:9092x"])
async def test_an_address_that_is_none_says_what_was_expected(address: str) -> None:
    assert await refusal_of_kafka(address, {}) == f"expected host:port, got {address!r}"


async def test_of_several_the_last_one_says_why() -> None:
    refusal = await refusal_of_kafka("nothing, 127.0.0.1:1", {})
    assert refusal is not None
    assert "expected host:port" not in refusal
    assert await refusal_of_kafka("127.0.0.1:1, nothing", {}) == "expected host:port, got 'nothing'"


async def test_one_that_closes_the_connection_refuses() -> None:
    async def closes(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async with await asyncio.start_server(closes, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        refusal = await refusal_of_kafka(f"127.0.0.1:{port}", {"security_protocol": "PLAINTEXT"})
    assert refusal
    assert CLOSED not in refusal
