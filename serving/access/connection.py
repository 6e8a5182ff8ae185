"""One HTTP connection with deadlines: uvicorn has one for an idle connection alone, and none for half a request."""

import asyncio
import json
from asyncio.events import TimerHandle
from http import HTTPStatus
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

MAX_HEAD = 65_536
"""Bytes of a request line and headers, at most."""
_GRACE = 1.0
"""Seconds for what was written last to reach a client, before the connection is torn down."""


class BoundedConnection(HttpToolsProtocol):
    """Cuts off a client that holds a connection and does nothing with it.

    - A request, from the first byte (of the connection, or after the answer before) to the end of its body: `seconds`.
      Whoever waits for the rest of the body inside the service is told that the client is gone.
    - Headers: `MAX_HEAD` bytes, else 431.
    - What is written must be taken within `seconds`.
    - Between requests uvicorn's own keep-alive timeout holds.
    """

    def __init__(self, seconds: float, /, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._seconds = seconds
        self._reading: TimerHandle | None = None
        self._writing: TimerHandle | None = None
        self._in_head = True
        self._head_bytes = 0
        self._heads = 0
        """That were read whole."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        super().connection_made(transport)
        self._begin()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end_reading()
        self._end_writing()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        unfinished = self._heads if self._in_head else None
        super().data_received(data)
        if self._in_head and self._heads == unfinished:  # all of it belongs to one head
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD:
                self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "the headers are too large")
        if self._is_unwatched() and not self.transport.is_closing():
            self._begin()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        if self._reading is None:
            self._begin()

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._heads += 1
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._end_reading()
        self._in_head, self._head_bytes = True, 0
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """What is no HTTP."""
        self._refuse(HTTPStatus.BAD_REQUEST, msg)

    def timeout_keep_alive_handler(self) -> None:
        super().timeout_keep_alive_handler()
        self._tear_down()

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._writing is None:
            self._writing = self.loop.call_later(self._seconds, self.transport.abort)

    def resume_writing(self) -> None:
        self._end_writing()
        super().resume_writing()

    def _begin(self) -> None:
        self._reading = self.loop.call_later(self._seconds, self._cut_off)

    def _end_reading(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
            self._reading = None

    def _end_writing(self) -> None:
        if self._writing is not None:
            self._writing.cancel()
            self._writing = None

    def _cut_off(self) -> None:
        self._reading = None
        if self._in_head and self._head_bytes:
            self._refuse(HTTPStatus.REQUEST_TIMEOUT, f"the request did not come within {self._seconds:g} s")
        else:
            self.transport.close()
            self._tear_down()

    def _refuse(self, status: HTTPStatus, detail: str) -> None:
        """As a problem document, and the end of the connection; nothing where an answer is on its way."""
        if not self.transport.is_closing() and self._is_idle():
            document = {"type": "about:blank", "title": status.phrase, "status": status.value, "detail": detail}
            body = json.dumps(document).encode()
            head = (
                f"HTTP/1.1 {status.value} {status.phrase}\r\ncontent-type: application/problem+json\r\n"
                f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
            )
            self.transport.write(head.encode() + body)
        self.transport.close()
        self._tear_down()

    def _is_idle(self) -> bool:
        """No request is in process."""
        cycle: RequestResponseCycle | None = self.cycle  # uvicorn's annotation leaves the None out
        return cycle is None or cycle.response_complete

    def _is_unwatched(self) -> bool:
        """Nothing would end the connection: bytes after an answer that begin no request end uvicorn's own timeout."""
        return self._reading is None and self.timeout_keep_alive_task is None and self._is_idle()

    def _tear_down(self) -> None:
        """Closing waits until what was written is taken, for ever; this ends the wait."""
        self.loop.call_later(_GRACE, self.transport.abort)
