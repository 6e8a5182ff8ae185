"""The HTTP service on parts in memory, behind a real socket."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import uvicorn
from starlette.types import ASGIApp

from serving.server import http_server
from tests.integration.brokers import free_port


@dataclass
class Served:
    """A running server."""

    port: int
    server: uvicorn.Server
    writers: list[asyncio.StreamWriter] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def connections(self) -> int:
        """How many are open at the server."""
        return len(self.server.server_state.connections)

    @property
    def requests(self) -> int:
        """How many are in process."""
        return len(self.server.server_state.tasks)

    async def until_idle(self, seconds: float = 10) -> None:
        """Until nothing is open and nothing in process."""
        await until(lambda: not self.connections and not self.requests, seconds)

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        self.writers.append(writer)
        return reader, writer


async def until(condition: Callable[[], object], seconds: float = 10) -> None:
    for _ in range(round(seconds * 100)):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"it did not come true in {seconds} s")


@asynccontextmanager
async def served(app: ASGIApp, *, read_seconds: float = 10.0) -> AsyncIterator[Served]:
    port = free_port()
    server = http_server(app, host="127.0.0.1", port=port, read_seconds=read_seconds)
    made = Served(port, server)
    task = asyncio.create_task(server._serve([listening(port)]))
    try:
        await until(lambda: server.started or task.done(), 20)
        yield made
    finally:
        for writer in made.writers:
            writer.close()
        server.should_exit = True
        await task


def listening(port: int) -> socket.socket:
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.bind(("127.0.0.1", port))
    return made
