"""Triton's HTTP endpoint over kept connections, against a small server that answers as the test says."""

import asyncio
import gc
import json
import math
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Container
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from foretaste.kernel.errors import BadTowerOutput, ForetasteError, InvalidInput, Unavailable
from foretaste.kernel.running.tls import TlsFiles
from models.generations.triton_http import TritonHttp

INPUTS: dict[str, Any] = {
    "users": np.arange(6, dtype=np.int64).reshape(2, 3),
    "virtual": np.ones((2, 1), dtype=np.float32),
}
Answer = Callable[["Server", bytes], Awaitable[bytes | None]]


class Server:
    """What came in: connections, and the bodies of requests."""

    def __init__(self, answer: Answer) -> None:
        self.connections = 0
        self.bodies: list[bytes] = []
        self.heads: list[bytes] = []
        self.serving = 0
        self.ended = asyncio.Event()
        self._answer = answer

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.serving += 1
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                (length,) = [line for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")]
                self.heads.append(head)
                self.bodies.append(await reader.readexactly(int(length.partition(b":")[2])))
                answer = await self._answer(self, self.bodies[-1])
                if answer is None:
                    break
                writer.write(answer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()
            self.serving -= 1


@asynccontextmanager
async def triton(answer: Answer, hedge_after: float = math.inf) -> AsyncIterator[tuple[TritonHttp, Server]]:
    server = Server(answer)
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    client = TritonHttp(f"127.0.0.1:{listening.sockets[0].getsockname()[1]}", hedge_after=hedge_after)
    try:
        yield client, server
        client.close()
        server.ended.set()
        await until(lambda: not server.serving)
    finally:
        client.close()
        listening.close()


async def until(true: Callable[[], bool]) -> None:
    while not true():  # noqa: ASYNC110  # the server is on this loop
        await asyncio.sleep(0)


def http(body: bytes, status: int = 200, head_length: int | None = None) -> bytes:
    extra = b"" if head_length is None else b"Inference-Header-Content-Length: %d\r\n" % head_length
    return b"HTTP/1.1 %d Odd\r\n%bContent-Length: %d\r\n\r\n%b" % (status, extra, len(body), body)


def scores(values: list[float], **instead: Any) -> bytes:
    """An answer as Triton gives it; fields of its one output may be others."""
    data = np.array(values, dtype=np.float32).tobytes()
    output = {"name": "scores", "datatype": "FP32", "shape": [len(values)]}
    output |= {"parameters": {"binary_data_size": len(data)}} | instead
    head = json.dumps({"model_name": "tower", "outputs": [output]}).encode()
    return http(head + data, head_length=len(head) if data else None)


async def one_score(_: Server, __: bytes) -> bytes:
    return scores([0.5])


async def infer(client: TritonHttp, seconds: float = 5.0) -> list[float]:
    found: list[float] = (await client.infer("tower", 3, INPUTS, "scores", seconds)).tolist()
    return found


async def test_tensors_go_as_they_lie_in_memory_and_the_connection_is_kept() -> None:
    async with triton(one_score) as (client, server):
        assert [await infer(client) for _ in range(3)] == [[0.5]] * 3
        assert server.connections == 1
        assert server.heads[0].startswith(b"POST /v2/models/tower/versions/3/infer HTTP/1.1\r\n")
        data = INPUTS["users"].tobytes() + INPUTS["virtual"].tobytes()
        head = json.loads(server.bodies[0].removesuffix(data))
        assert [(each["name"], each["datatype"], each["shape"]) for each in head["inputs"]] == [
            ("users", "INT64", [2, 3]),
            ("virtual", "FP32", [2, 1]),
        ]


async def test_an_output_without_numbers_comes_without_the_length_of_its_head() -> None:
    async def none(_: Server, __: bytes) -> bytes:
        return scores([])

    async with triton(none) as (client, _):
        assert await infer(client) == []


async def test_calls_at_once_have_connections_of_their_own() -> None:
    async def together(server: Server, _: bytes) -> bytes:
        while len(server.bodies) < 3:  # noqa: ASYNC110  # the other requests, which come on the same loop
            await asyncio.sleep(0)
        return scores([0.5])

    async with triton(together) as (client, server):
        assert await asyncio.gather(*(infer(client) for _ in range(3))) == [[0.5]] * 3
        assert server.connections == 3


async def test_a_kept_connection_that_ended_meanwhile_costs_no_answer() -> None:
    async def closing_after_each(server: Server, _: bytes) -> bytes | None:
        return scores([0.5]) if len(server.bodies) % 2 else None  # the second is read, and not answered

    async with triton(closing_after_each) as (client, server):
        assert await infer(client) == [0.5]
        assert await infer(client) == [0.5]
        assert server.connections == 2


async def test_the_answer_to_a_call_that_was_left_is_nobody_elses() -> None:
    gate = asyncio.Event()

    async def slow_at_first(server: Server, _: bytes) -> bytes:
        number = len(server.bodies)
        if number == 1:
            await gate.wait()
        return scores([number / 4])

    async with triton(slow_at_first) as (client, server):
        left = asyncio.create_task(infer(client))
        while not server.bodies:  # noqa: ASYNC110  # the server is on this loop
            await asyncio.sleep(0)
        left.cancel()
        with pytest.raises(asyncio.CancelledError):
            await left
        gate.set()
        assert await infer(client) == [0.5]
        assert await infer(client) == [0.75]


async def test_an_answer_that_ends_its_connection_is_read_and_the_next_call_makes_another() -> None:
    async def last(_: Server, __: bytes) -> bytes:
        return scores([0.5]).replace(b"\r\n", b"\r\nConnection: close\r\n", 1)

    async with triton(last) as (client, server):
        assert [await infer(client) for _ in range(2)] == [[0.5]] * 2
        assert server.connections == 2


def held_back(numbers: Container[int]) -> tuple[Answer, asyncio.Event]:
    """Requests of these numbers, from 1 on, are answered once the event is set; the others at once: a quarter each."""
    gate = asyncio.Event()

    async def answer(server: Server, _: bytes) -> bytes:
        number = len(server.bodies)
        if number in numbers:
            await gate.wait()
        return scores([number / 4])

    return answer, gate


async def turns() -> None:
    """All that can go on without time does."""
    for _ in range(100):
        await asyncio.sleep(0)


def hedges() -> list[Any]:
    return [each for each in asyncio.all_tasks() if "_ask_another" in str(each.get_coro())]


async def test_a_request_without_an_answer_is_sent_over_a_new_connection_too_which_is_kept() -> None:
    answer, gate = held_back({1})
    async with triton(answer, hedge_after=0) as (client, server):
        assert await infer(client) == [0.5]
        assert server.bodies[0] == server.bodies[1]
        client._hedge_after = math.inf
        assert await infer(client) == [0.75]
        assert server.connections == 2
        gate.set()


async def test_a_request_with_an_answer_in_time_is_sent_once() -> None:
    async with triton(one_score, hedge_after=0.02) as (client, server):
        await infer(client)
        await asyncio.sleep(0.05)
        assert server.connections == len(server.bodies) == 1


async def test_an_answer_that_has_begun_is_waited_for() -> None:
    whole, rest = scores([0.5]), asyncio.Event()
    connections = 0

    async def in_two_parts(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await reader.readuntil(b"\r\n\r\n")
        writer.write(whole[:-2])
        await rest.wait()
        writer.write(whole[-2:])
        writer.close()

    listening = await asyncio.start_server(in_two_parts, "127.0.0.1", 0)
    client = TritonHttp(f"127.0.0.1:{listening.sockets[0].getsockname()[1]}", hedge_after=0.02)
    asked = asyncio.create_task(infer(client))
    await asyncio.sleep(0.05)
    rest.set()
    assert await asked == [0.5]
    assert connections == 1
    client.close()
    listening.close()


async def test_once_another_connection_answered_what_was_kept_is_not_used_again() -> None:
    third = asyncio.Event()

    async def third_waits(server: Server, _: bytes) -> bytes:
        number = len(server.bodies)
        if number < 3:
            await until(lambda: len(server.bodies) > 1)
        if number == 3:
            await third.wait()
        return scores([number / 4])

    async with triton(third_waits) as (client, server):
        await asyncio.gather(infer(client), infer(client))  # two are kept
        client._hedge_after = 0.0
        assert await infer(client) == [1.0]
        client._hedge_after = math.inf
        assert [*await asyncio.gather(infer(client), infer(client))] == [[1.25], [1.5]]
        assert server.connections == 4  # the hedge's was kept
        third.set()


async def test_one_hedge_is_on_its_way_at_a_time_though_the_first_answer_came() -> None:
    second, third = asyncio.Event(), asyncio.Event()

    async def in_turn(server: Server, _: bytes) -> bytes:
        number = len(server.bodies)
        if number == 1:
            await until(lambda: len(server.bodies) > 1)
        elif number == 2:
            await second.wait()
        elif number == 3:
            await third.wait()
        return scores([number / 4])

    async with triton(in_turn, hedge_after=0) as (client, server):
        assert await infer(client) == [0.25]
        asked = asyncio.create_task(infer(client))
        await until(lambda: len(server.bodies) == 3)
        await turns()
        assert len(server.bodies) == 3
        second.set()
        assert await asked == [1.0]
        third.set()


async def test_of_many_slow_requests_one_is_hedged() -> None:
    answer, gate = held_back(range(1, 100))
    async with triton(answer, hedge_after=0) as (client, server):
        asked = [asyncio.create_task(infer(client)) for _ in range(5)]
        await until(lambda: len(server.bodies) == 6)
        await turns()
        assert len(server.bodies) == 6
        gate.set()
        await asyncio.gather(*asked)
        await until(lambda: not hedges())
        assert len(server.bodies) == 6


async def test_an_error_that_another_connection_answers_does_not_count() -> None:
    first = asyncio.Event()

    async def second_fails(server: Server, _: bytes) -> bytes:
        if len(server.bodies) > 1:
            return http(b'{"error": "too many"}', 503)
        await first.wait()
        return scores([0.25])

    async with triton(second_fails, hedge_after=0) as (client, server):
        asked = asyncio.create_task(infer(client))
        await until(lambda: len(server.bodies) == 2)
        await until(lambda: not hedges())
        first.set()
        assert await asked == [0.25]


async def test_where_no_second_connection_is_had_the_first_answer_is_waited_for(
    caplog: pytest.LogCaptureFixture,
) -> None:
    answer, gate = held_back({2})
    async with triton(answer) as (client, server):
        await infer(client)
        client._hedge_after, client._port = 0.0, 1  # nobody listens there
        asked = asyncio.create_task(infer(client))
        await until(lambda: len(server.bodies) == 2)
        await until(lambda: not hedges())
        gate.set()
        assert await asked == [0.5]
    gc.collect()
    assert not caplog.records, "a task whose error nobody read"


async def test_a_hedge_ends_with_its_client() -> None:
    async def never(server: Server, _: bytes) -> None:
        await server.ended.wait()

    async with triton(never, hedge_after=0) as (client, server):
        with pytest.raises(Unavailable):
            await infer(client, seconds=0.02)
        assert len(server.bodies) == 2
        assert hedges()
        client.close()
        await turns()
        assert not hedges()


async def test_what_is_answered_after_the_client_was_closed_keeps_no_connection() -> None:
    answer, gate = held_back({1})
    async with triton(answer) as (client, server):
        asked = asyncio.create_task(infer(client))
        await until(lambda: len(server.bodies) == 1)
        client.close()
        gate.set()
        assert await asked == [0.25]
        await until(lambda: not server.serving)


async def test_a_load_is_never_sent_twice() -> None:
    gate = asyncio.Event()

    async def read_and_left(server: Server, _: bytes) -> bytes | None:
        if len(server.bodies) == 1:
            return http(b"")
        await gate.wait()
        return None

    async with triton(read_and_left) as (client, server):
        assert await client.is_ready("tower", 3, 5.0)
        client._hedge_after = 0.0
        loading = asyncio.create_task(client.load("tower", 5.0))
        await until(lambda: len(server.bodies) == 2)
        await turns()
        gate.set()
        with pytest.raises(Unavailable):
            await loading
        assert len(server.bodies) == 2


REFUSALS: dict[str, tuple[bytes, type[ForetasteError], str]] = {
    "a tensor": (http(b'{"error": "users: wrong"}', 400), InvalidInput, "users: wrong"),
    "a version": (http(b'{"error": "Request for unknown model: \'x\'"}', 400), Unavailable, "unknown model"),
    "a defect": (http(b'{"error": "broken"}', 500), Unavailable, "500: broken"),
    "no JSON": (http(b"<html>", 503), Unavailable, "503: <html>"),
    "an answer cut short": (scores([0.5])[:-2], Unavailable, "middle of an answer"),
    "nothing": (b"", Unavailable, "closed"),
    "gRPC": (b"\x00\x00\x18\x04\x00\x00\x00\x00\x00\x00\x04\x00\x40\x00\x00", Unavailable, "is it the gRPC port"),
    "another output": (scores([0.5], name="odd"), BadTowerOutput, "no binary output 'scores'"),
    "other sizes": (scores([0.5], parameters={"binary_data_size": 8}), BadTowerOutput, "no binary output"),
    "another shape": (scores([0.5], shape=[2]), BadTowerOutput, "cannot reshape"),
    "another type": (scores([0.5], datatype="BYTES"), BadTowerOutput, "BYTES"),
    "texts": (scores([], parameters={}), BadTowerOutput, "binary_data_size"),
}


@pytest.mark.parametrize("case", REFUSALS)
async def test_what_is_no_answer_is_an_error_of_the_port(case: str) -> None:
    sent, kind, text = REFUSALS[case]

    async def cut(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(sent)
        writer.close()

    listening = await asyncio.start_server(cut, "127.0.0.1", 0)
    client = TritonHttp(f"127.0.0.1:{listening.sockets[0].getsockname()[1]}")
    with pytest.raises(kind, match=text):
        await infer(client)
    client.close()
    listening.close()


async def test_no_answer_in_time_is_unavailable_and_takes_the_connection_with_it() -> None:
    async def never(server: Server, _: bytes) -> None:
        await server.ended.wait()

    async with triton(never) as (client, _):
        with pytest.raises(Unavailable, match=r"no answer within 0\.02 s"):
            await infer(client, seconds=0.02)
        assert client._idle == []


def certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate of 127.0.0.1 that is its own authority, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "triton")])
    now = datetime.now(UTC)
    built = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    paths = folder / "certificate.pem", folder / "key.pem"
    paths[0].write_bytes(built.public_bytes(Encoding.PEM))
    paths[1].write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return paths


@pytest.mark.parametrize("known", [True, False])
async def test_under_tls_an_authority_of_the_system_must_know_who_answers(
    known: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, key = certificate(tmp_path)
    if known:
        monkeypatch.setenv("SSL_CERT_FILE", str(path))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(path, key)
    server = Server(one_score)
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0, ssl=context)
    client = TritonHttp(f"127.0.0.1:{listening.sockets[0].getsockname()[1]}", tls=TlsFiles("triton").context())
    if known:
        assert await infer(client) == [0.5]
    else:
        with pytest.raises(Unavailable, match="CERTIFICATE_VERIFY_FAILED"):
            await infer(client)
    client.close()
    listening.close()


@pytest.mark.parametrize("address", ["triton", "triton:", ":8000", "triton:http"])
def test_an_address_without_a_port_is_refused(address: str) -> None:
    with pytest.raises(InvalidInput, match="FORETASTE_TRITON: expected host:port"):
        TritonHttp(address)
