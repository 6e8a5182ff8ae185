"""A small TCP proxy that is cut and slowed down: what the network between two parts does."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

CHUNK = 65536
MOST_WAITING = 1000
"""Chunks of one direction that wait for their time."""


@dataclass(eq=False)
class TcpProxy:
    """Passes bytes on between whoever connects to `address` and `target` (both `host:port`). For any thread."""

    target: str
    address: str = ""
    delay: float = 0.0
    """Seconds that each chunk takes more, in each direction; how much goes through is not bounded by it."""
    _is_cut: bool = False
    _loop: asyncio.AbstractEventLoop | None = None
    _connections: set[asyncio.StreamWriter] = field(default_factory=set)

    def cut(self) -> None:
        """All connections break, with what was on its way; new ones end at once."""
        self._is_cut = True
        assert self._loop is not None
        self._loop.call_soon_threadsafe(self._abort)

    def join(self) -> None:
        """New connections are taken again."""
        self._is_cut = False

    def _abort(self) -> None:
        for writer in self._connections:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._is_cut:
            writer.transport.abort()
            return
        host, _, port = self.target.rpartition(":")
        try:
            inner_reader, inner_writer = await asyncio.open_connection(host, int(port))
        except OSError:
            writer.transport.abort()
            return
        both = {writer, inner_writer}
        self._connections |= both
        try:
            await asyncio.gather(self._pass_on(reader, inner_writer), self._pass_on(inner_reader, writer))
        finally:
            self._connections -= both

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        waiting: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(MOST_WAITING)
        delivering = asyncio.create_task(self._deliver(waiting, writer))
        with suppress(OSError):  # whoever is at the other end has gone
            while chunk := await reader.read(CHUNK):
                await waiting.put((asyncio.get_running_loop().time() + self.delay, chunk))
        await waiting.put((0.0, b""))
        await delivering

    async def _deliver(self, waiting: "asyncio.Queue[tuple[float, bytes]]", writer: asyncio.StreamWriter) -> None:
        """Each chunk at its time, and the end behind the last; once the other end has gone, nowhere."""
        gone = False
        while True:
            due, chunk = await waiting.get()
            if not chunk:
                break
            if gone:
                continue
            await asyncio.sleep(due - asyncio.get_running_loop().time())
            try:
                writer.write(chunk)
                await writer.drain()
            except OSError:
                gone = True
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


@asynccontextmanager
async def tcp_proxy(target: str) -> AsyncIterator[TcpProxy]:
    """A running proxy before `target`, whose connections end with it."""
    proxy = TcpProxy(target)
    proxy._loop = asyncio.get_running_loop()
    server = await asyncio.start_server(proxy._serve, "127.0.0.1")
    proxy.address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield proxy
    finally:
        server.close()
        proxy.cut()
        await asyncio.sleep(0)
        await server.wait_closed()
