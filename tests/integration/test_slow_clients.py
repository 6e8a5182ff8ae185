"""Clients that are slow, half done or gone, over real sockets: each is cut off, and nothing of it stays open."""

import asyncio
import json
import logging
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import suppress

import httpx
import pytest

from serving.api import ServiceConfig
from tests.http_parts import HttpParts
from tests.http_server import Served, served, until

SECONDS = 0.3
BODY = json.dumps({"user_id": "u1", "items": ["i1", "i2"]}).encode()
HEAD = b"POST /v1/rank HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\ncontent-length: %d\r\n"
HALVES = {
    "nothing": b"",
    "half a request line": b"POST /v1/ra",
    "half a head": HEAD % len(BODY),
    "no body": HEAD % len(BODY) + b"\r\n",
    "half a body": HEAD % len(BODY) + b"\r\n" + BODY[:10],
    "half a chunk": HEAD.replace(b"content-length: %d", b"transfer-encoding: chunked") + b"\r\n1f\r\n{",
}


@pytest.fixture
async def parts() -> HttpParts:
    made = HttpParts()
    await made.start()
    return made


@pytest.fixture
async def service(parts: HttpParts) -> AsyncIterator[Served]:
    async with served(parts.service(), read_seconds=SECONDS) as made:
        yield made


async def until_closed(reader: asyncio.StreamReader) -> bytes:
    """What came before the end, which may be a reset: of what was sent, the service had not read all then."""
    found = bytearray()
    async with asyncio.timeout(10):
        with suppress(ConnectionResetError):
            while some := await reader.read(2**16):
                found += some
    return bytes(found)


@pytest.mark.parametrize("half", HALVES)
async def test_half_a_request_is_cut_off(service: Served, half: str) -> None:
    reader, writer = await service.connect()
    writer.write(HALVES[half])
    began = asyncio.get_running_loop().time()
    answer = await until_closed(reader)
    assert asyncio.get_running_loop().time() - began < SECONDS + 5
    if half.startswith("half a request") or half == "half a head":
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert b"application/problem+json" in answer
    await service.until_idle()


async def test_a_byte_now_and_then_does_not_help(service: Served) -> None:
    reader, writer = await service.connect()
    began = asyncio.get_running_loop().time()

    async def drip() -> None:
        for byte in HEAD % len(BODY) * 50:
            writer.write(bytes([byte]))
            await asyncio.sleep(SECONDS / 20)

    dripping = asyncio.create_task(drip())
    assert (await until_closed(reader)).startswith(b"HTTP/1.1 408 ")
    assert asyncio.get_running_loop().time() - began < SECONDS + 5
    dripping.cancel()
    await service.until_idle()


async def test_a_hundred_and_twenty_half_requests_leave_nothing_open(service: Served, parts: HttpParts) -> None:
    opened = [await service.connect() for _ in range(120)]
    for number, (_, writer) in enumerate(opened):
        writer.write(list(HALVES.values())[number % len(HALVES)])
    async with httpx.AsyncClient(base_url=service.url) as client:
        for _ in range(20):
            assert (await client.post("/v1/rank", content=BODY, headers=JSON)).status_code == 200
    for reader, _ in opened:
        await until_closed(reader)
    await service.until_idle()
    assert len(parts.noted.served) == 20


async def test_line_ends_between_requests_hold_no_connection_open(service: Served) -> None:
    reader, writer = await service.connect()
    writer.write(b"GET /healthz HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n")
    assert (await reader.readuntil(b'{"status":"alive"}')).startswith(b"HTTP/1.1 200 ")
    writer.write(b"\r\n")
    assert (await until_closed(reader)).startswith(b"HTTP/1.1 408 ")
    await service.until_idle()


async def test_a_kept_connection_may_be_used_again_after_a_while(service: Served) -> None:
    async with httpx.AsyncClient(base_url=service.url) as client:
        for _ in range(3):
            assert (await client.post("/v1/rank", content=BODY, headers=JSON)).status_code == 200
            await asyncio.sleep(SECONDS * 1.3)
        assert service.connections == 1


async def test_a_request_that_waits_for_its_answer_is_not_cut_off(parts: HttpParts) -> None:
    """The deadline is for the request: what the service itself takes is not the client's fault."""

    async def slowly() -> None:
        await asyncio.sleep(0.05)

    parts.while_waiting = slowly  # type: ignore[method-assign]
    async with (
        served(parts.service(), read_seconds=0.2) as service,
        httpx.AsyncClient(base_url=service.url) as client,
    ):
        answer = await client.post("/v1/users?wait=0.5", json={"user_id": "u", "attributes": {}})
        assert answer.json() == {"accepted": 1, "readable": False}
        assert answer.elapsed.total_seconds() > 0.4


@pytest.mark.parametrize("size", [1_000, 64_000, 66_000, 300_000, 1_000_000])
async def test_a_body_may_be_larger_than_headers_may(parts: HttpParts, size: int) -> None:
    body = b'{"user_id": "u1", "items": ["i1"], "ignored": "' + b"x" * size + b'"}'
    async with served(parts.service(ServiceConfig())) as service:
        reader, writer = await service.connect()
        for _ in range(3):
            writer.write(HEAD % len(body) + b"\r\n" + body)
            async with asyncio.timeout(10):
                answer = await reader.readuntil(b"\r\n\r\n")
            assert answer.startswith(b"HTTP/1.1 200 ")
            length = next(line for line in answer.lower().split(b"\r\n") if line.startswith(b"content-length:"))
            await reader.readexactly(int(length.partition(b":")[2]))


async def test_requests_that_come_at_once_are_all_answered(service: Served) -> None:
    reader, writer = await service.connect()
    writer.write((HEAD % len(BODY) + b"\r\n" + BODY) * 400)
    for _ in range(400):
        async with asyncio.timeout(10):
            answer = await reader.readuntil(b"\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 200 ")
        length = next(line for line in answer.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        await reader.readexactly(int(length.partition(b":")[2]))


async def test_headers_without_end_are_refused(service: Served) -> None:
    reader, writer = await service.connect()
    writer.write(b"GET / HTTP/1.1\r\nhost: 127.0.0.1\r\nx: " + b"a" * 70_000)
    assert (await until_closed(reader)).startswith(b"HTTP/1.1 431 ")
    await service.until_idle()


async def test_headers_that_go_on_while_they_are_refused_end_too(service: Served) -> None:
    """The system may reset the connection then, before the answer is read."""
    reader, writer = await service.connect()
    writer.write(b"GET / HTTP/1.1\r\nhost: 127.0.0.1\r\nx: " + b"a" * 3_000_000)
    with suppress(ConnectionResetError):
        assert (await until_closed(reader)).startswith(b"HTTP/1.1 431 ")
    await service.until_idle()


@pytest.mark.parametrize("text", [b"\x16\x03\x01\x02\x00", b"HELLO\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n"])
async def test_what_is_no_http_is_a_problem_too(service: Served, text: bytes) -> None:
    reader, writer = await service.connect()
    writer.write(text)
    answer = await until_closed(reader)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert json.loads(answer.rpartition(b"\r\n\r\n")[2])["status"] == 400
    await service.until_idle()


async def test_sixty_four_that_leave_in_the_middle_hurt_nobody(
    service: Served, parts: HttpParts, caplog: pytest.LogCaptureFixture
) -> None:
    """Half of them before their body is whole, half while they are answered; each with a reset."""
    entered, go = [], asyncio.Event()
    read = parts.store.read

    async def held(user_ids: list[str], generation: int) -> object:
        entered.append(user_ids)
        await go.wait()
        return await read(user_ids, generation)

    parts.store.read = held  # type: ignore[assignment,method-assign]
    opened = [await service.connect() for _ in range(64)]
    for number, (_, writer) in enumerate(opened):
        writer.write(HEAD % len(BODY) + b"\r\n" + (BODY if number % 2 else BODY[:20]))
    await until(lambda: len(entered) == 2)  # the others wait to be read together
    for _, writer in opened:
        socket_ = writer.get_extra_info("socket")
        socket_.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()
    go.set()
    await service.until_idle()
    async with httpx.AsyncClient(base_url=service.url) as client:
        assert (await client.post("/v1/rank", content=BODY, headers=JSON)).status_code == 200
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR] == []


async def test_a_client_that_takes_no_answer_is_cut_off(service: Served) -> None:
    """It asks for the largest page again and again and reads none of it."""
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    made.setblocking(False)
    await asyncio.get_running_loop().sock_connect(made, ("127.0.0.1", service.port))
    made.send(b"GET /docs/swagger-ui-bundle.js HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n" * 4)
    await until(lambda: service.connections)
    await service.until_idle()
    made.close()


async def test_a_websocket_is_no_way_around(service: Served) -> None:
    reader, writer = await service.connect()
    writer.write(
        b"GET /v1/generations HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: upgrade\r\nupgrade: websocket\r\n"
        b"sec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    )
    async with asyncio.timeout(10):
        assert (await reader.readline()).startswith(b"HTTP/1.1 200 ")
    writer.close()


JSON = {"content-type": "application/json"}
