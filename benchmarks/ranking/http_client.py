"""An HTTP client that costs a load generator next to nothing: one connection, one request at a time."""

import asyncio
from types import TracebackType


class Connection:
    """A connection to a port of this machine that is kept alive; it reads answers whose length is announced."""

    def __init__(self, port: int, token: str | None = None) -> None:
        self._port = port
        self._token = "" if token is None else f"Authorization: Bearer {token}\r\n"

    async def __aenter__(self) -> "Connection":
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.close()
        await self._writer.wait_closed()

    async def post(self, path: str, body: bytes) -> tuple[int, bytes]:
        """The status and the body of the answer to a JSON body."""
        head = (
            f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{self._port}\r\nContent-Type: application/json\r\n"
            f"{self._token}Content-Length: {len(body)}\r\n\r\n"
        )
        self._writer.write(head.encode() + body)
        answered = (await self._reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        length = next(int(line.partition(":")[2]) for line in answered if line.lower().startswith("content-length:"))
        return int(answered[0].split()[1]), await self._reader.readexactly(length)
