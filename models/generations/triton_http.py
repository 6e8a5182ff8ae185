"""Triton's HTTP endpoint: tensors in, tensors out, over connections that are kept.

The protocol is KServe's v2 with Triton's extension for binary tensors: a head of JSON, behind it the tensors as they
lie in memory, and the length of the head in a header.
"""

import asyncio
import json
import ssl
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from http import HTTPStatus
from typing import Any, cast

import numpy as np
import numpy.typing as npt
from httptools import HttpParserError, HttpResponseParser

from foretaste.kernel.errors import BadTowerOutput, InvalidInput, Unavailable

Tensor = npt.NDArray[Any]
_TYPES: dict[str, np.dtype[Any]] = {
    "INT64": np.dtype(np.int64),
    "FP32": np.dtype(np.float32),
    "UINT8": np.dtype(np.uint8),
}
_NAMES = {dtype: name for name, dtype in _TYPES.items()}
_HEAD_LENGTH = b"inference-header-content-length"
HEDGE_AFTER = 0.05
"""Seconds without an answer after which a request is sent over a new connection too."""
LONGEST_HEDGE = 2.0
"""Seconds for which one hedge may hold back the next."""


class TritonHttp:
    """One Triton; each call has a connection of its own, which is kept for the next one.

    A call that is cancelled or late takes its connection with it: the answer to it must not be read as another's.
    A request of which no answer has begun within `hedge_after` seconds is hedged: sent over a new connection too, and
    the first good answer counts. One hedge is on its way at a time, to its end, so that a slow Triton has one request
    more to answer at most. While Triton loads a model, it reads nothing of the connections that share a thread with the
    request for the load, which are most of them as a rule; a new connection goes to another thread
    (docs/decisions/0079). A load has a connection of its own, and is never sent twice.

    Raises `Unavailable` where Triton is away, late or unwell, `InvalidInput` where it refuses what was sent, and
    `BadTowerOutput` for an answer that is none.
    """

    def __init__(self, address: str, *, tls: ssl.SSLContext | None = None, hedge_after: float = HEDGE_AFTER) -> None:
        """`address` is `host:port`; raises `InvalidInput` for any other. `tls` is for what stands before Triton."""
        host, _, port = address.rpartition(":")
        if not host or not port.isdecimal():
            raise InvalidInput("FORETASTE_TRITON", address, "expected host:port")
        self._host, self._port = host.strip("[]"), int(port)
        self._host_line = f"Host: {address}\r\n".encode()
        self._tls = tls
        self._idle: list[_Connection] = []
        self._hedge_after = hedge_after
        self._one_hedge = asyncio.Semaphore(1)
        self._hedges: set[asyncio.Task[None]] = set()
        self._closed = False

    async def infer(
        self, model: str, version: int, inputs: Mapping[str, Tensor], output: str, seconds: float
    ) -> Tensor:
        """The output of one version of a model for these inputs, of the types that `_TYPES` names."""
        shapes = tuple((name, _NAMES[values.dtype], values.shape, values.nbytes) for name, values in inputs.items())
        head = _infer_head(shapes, output)
        body = b"".join([head, *(values.tobytes() for values in inputs.values())])
        path = f"/v2/models/{model}/versions/{version}/infer"
        extra = b"%s: %d\r\nContent-Type: application/octet-stream\r\n" % (_HEAD_LENGTH, len(head))
        answer = await self._ask("POST", path, body, seconds, extra)
        _check(answer)
        return _tensor(answer, f"{model} {version}", output)

    async def is_ready(self, model: str, version: int, seconds: float) -> bool:
        """Whether a version of a model can answer."""
        answer = await self._ask("GET", f"/v2/models/{model}/versions/{version}/ready", b"", seconds)
        return answer.status == HTTPStatus.OK

    async def load(self, model: str, seconds: float) -> None:
        """Have Triton read a model's versions anew; raises `Unavailable` with its reason where it cannot."""
        answer = await self._ask("POST", f"/v2/repository/models/{model}/load", b"{}", seconds, kept=False)
        if answer.status != HTTPStatus.OK:
            raise Unavailable("triton", answer.refusal.partition("\n")[0])  # below it are lines of the server's Python

    def close(self) -> None:
        """Close what is kept; what is asked still, and what is asked from now on, keeps no connection."""
        self._closed = True
        for hedge in self._hedges:
            hedge.cancel()
        self._abort_idle()

    async def _ask(
        self, method: str, path: str, body: bytes, seconds: float, extra: bytes = b"", *, kept: bool = True
    ) -> "_Answer":
        head = f"{method} {path} HTTP/1.1\r\nContent-Length: {len(body)}\r\n".encode()
        request = b"".join((head, self._host_line, extra, b"\r\n", body))
        try:
            async with asyncio.timeout(seconds):
                return await (self._answered(request) if kept else self._on(await self._connected(), request))
        except TimeoutError as error:
            raise Unavailable("triton", f"no answer within {seconds:g} s") from error
        except (OSError, EOFError) as error:
            raise Unavailable("triton", str(error) or type(error).__name__) from error
        except HttpParserError as error:
            detail = f"{self._host}:{self._port} speaks no HTTP/1.1 ({error}): is it the gRPC port?"
            raise Unavailable("triton", detail) from error

    async def _answered(self, request: bytes) -> "_Answer":
        """A connection that was kept may have ended meanwhile, unread: then one that is new is asked."""
        while self._idle:
            kept = self._idle.pop()
            if kept.is_open:
                try:
                    return await self._hedged(kept, request)
                except _NothingRead:
                    break
                except asyncio.CancelledError:
                    self._abort_idle()  # late: what forgot this connection may have forgotten the others too
                    raise
        return await self._hedged(await self._connected(), request)

    async def _hedged(self, connection: "_Connection", request: bytes) -> "_Answer":
        late = asyncio.get_running_loop().call_later(self._hedge_after, self._hedge, connection, request)
        try:
            return await self._on(connection, request)
        finally:
            late.cancel()

    async def _on(self, connection: "_Connection", request: bytes) -> "_Answer":
        try:
            return await connection.ask(request)
        finally:
            if connection.is_whole and connection.is_open and not self._closed:
                self._idle.append(connection)
            else:  # cancelled too: its answer must not be read as that of the next request
                connection.abort()

    def _hedge(self, connection: "_Connection", request: bytes) -> None:
        answer = connection.unanswered
        if answer is not None and not self._closed:
            hedge = asyncio.create_task(self._ask_another(request, answer))
            self._hedges.add(hedge)
            hedge.add_done_callback(self._hedges.discard)

    async def _ask_another(self, request: bytes, answer: "asyncio.Future[_Answer]") -> None:
        with suppress(OSError, EOFError, HttpParserError):  # a late one too: the first answer is still waited for
            async with self._one_hedge:
                if answer.done():
                    return
                async with asyncio.timeout(LONGEST_HEDGE):
                    made = await self._connected()
                    found = await self._on(made, request)
            if found.status == HTTPStatus.OK and not answer.done():
                self._abort_idle(but=made)  # what does not answer here may not answer on the others either
                answer.set_result(found)

    def _abort_idle(self, but: "_Connection | None" = None) -> None:
        for each in self._idle:
            if each is not but:
                each.abort()
        self._idle = [each for each in self._idle if each is but]

    async def _connected(self) -> "_Connection":
        _, made = await asyncio.get_running_loop().create_connection(_Connection, self._host, self._port, ssl=self._tls)
        return made


class _NothingRead(ConnectionError):
    """The connection ended before anything of an answer was read."""


class _Answer:
    """An HTTP answer, as it comes in."""

    def __init__(self) -> None:
        self.status = 0
        self.head_length: int | None = None
        self._chunks: list[bytes] = []

    def add(self, chunk: bytes) -> None:
        self._chunks.append(chunk)

    @property
    def body(self) -> bytes:
        return self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)

    @property
    def refusal(self) -> str:
        """Why Triton refused."""
        try:
            return str(json.loads(self.body)["error"])
        except (ValueError, KeyError, TypeError):
            return self.body[:200].decode(errors="replace")


class _Connection(asyncio.Protocol):
    """One connection with one request at a time; the callbacks below `connection_lost` are its parser's."""

    def __init__(self) -> None:
        self._waiting: asyncio.Future[_Answer] | None = None
        self._answer = _Answer()
        self._parser = HttpResponseParser(self)
        self.is_whole = True
        """The last answer was read to its end."""

    @property
    def is_open(self) -> bool:
        return not self._transport.is_closing()

    @property
    def unanswered(self) -> asyncio.Future[_Answer] | None:
        """What waits for an answer of which nothing was read."""
        waiting = self._waiting
        return None if waiting is None or waiting.done() or self._answer.status else waiting

    def ask(self, request: bytes) -> asyncio.Future[_Answer]:
        self._waiting = asyncio.get_running_loop().create_future()
        self._answer, self.is_whole = _Answer(), False
        self._transport.write(request)
        return self._waiting

    def abort(self) -> None:
        self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except HttpParserError as error:
            self._end(error)
            self.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._answer.status == 0:
            self._end(_NothingRead(str(exc or "the connection was closed")))
        else:
            self._end(EOFError("the connection was closed in the middle of an answer"))

    def on_message_begin(self) -> None:
        if self.is_whole:  # nothing was asked
            self.abort()

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == _HEAD_LENGTH:
            self._answer.head_length = int(value)

    def on_headers_complete(self) -> None:
        self._answer.status = self._parser.get_status_code()

    def on_body(self, body: bytes) -> None:
        self._answer.add(body)

    def on_message_complete(self) -> None:
        self.is_whole = True
        if not self._parser.should_keep_alive():
            self.abort()
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(self._answer)

    def _end(self, error: Exception) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(error)


@lru_cache(maxsize=1024)
def _infer_head(inputs: Sequence[tuple[str, str, tuple[int, ...], int]], output: str) -> bytes:
    head = {
        "inputs": [
            {"name": name, "datatype": datatype, "shape": shape, "parameters": {"binary_data_size": size}}
            for name, datatype, shape, size in inputs
        ],
        "outputs": [{"name": output, "parameters": {"binary_data": True}}],
    }
    return json.dumps(head, separators=(",", ":")).encode()


def _check(answer: _Answer) -> None:
    """Raises `InvalidInput` where the model refused what it got, `Unavailable` where it cannot answer."""
    if answer.status == HTTPStatus.OK:
        return
    refusal = answer.refusal
    if answer.status == HTTPStatus.BAD_REQUEST and "unknown model" not in refusal:
        raise InvalidInput("request", refusal, "was refused by the tower")
    raise Unavailable("triton", f"{answer.status}: {refusal}")


def _tensor(answer: _Answer, model: str, output: str) -> Tensor:
    """The one output of an answer. Its memory is the answer's own and cannot be written to."""
    body, length = answer.body, answer.head_length
    try:
        (found,) = json.loads(body if length is None else body[:length])["outputs"]
        values = memoryview(body)[len(body) if length is None else length :]  # no length: the answer has no numbers
        if found["name"] != output or found["parameters"]["binary_data_size"] != len(values):
            raise BadTowerOutput(f"{model}: no binary output {output!r}")
        return np.frombuffer(values, dtype=_TYPES[found["datatype"]]).reshape(found["shape"])
    except (ValueError, KeyError, TypeError) as error:
        raise BadTowerOutput(f"{model}: no output {output!r} that can be read ({error!r})") from error
