"""The run of a server is asked for where it may be another one, and never else."""

from types import SimpleNamespace
from typing import Any

from features.redis.server_run import ASK_EVERY, ServerRun


class Server:
    """A client whose pool makes connections as the test says, and the server behind it."""

    def __init__(self) -> None:
        self.run = "first"
        self.asked = 0
        self.now = 0.0
        self.connection_pool = SimpleNamespace(connection_kwargs={})
        self.greeted = 0

    async def execute_command(self, *command: str) -> dict[str, Any]:
        assert command == ("INFO", "server")
        self.asked += 1
        return {"redis_version": "7.2", "run_id": self.run}

    async def on_connect(self) -> None:
        self.greeted += 1

    async def connects(self) -> None:
        await self.connection_pool.connection_kwargs["redis_connect_func"](self)


def opened(server: Any) -> ServerRun:
    return ServerRun(server, lambda: server.now)


async def test_a_server_that_keeps_its_connections_is_asked_once() -> None:
    server = Server()
    run = opened(server)
    assert [await run.name() for _ in range(3)] == ["first"] * 3
    assert server.asked == 1


async def test_after_a_connection_was_made_it_is_asked_again() -> None:
    server = Server()
    run = opened(server)
    await server.connects()
    await run.name()
    server.run = "second"
    assert await run.name() == "first", "nothing told of it"
    await server.connects()
    assert await run.name() == "second"
    assert (server.asked, server.greeted) == (2, 2)


async def test_behind_a_proxy_it_is_seen_within_a_second() -> None:
    server = Server()
    run = opened(server)
    await run.name()
    server.run, server.now = "second", ASK_EVERY
    assert await run.name() == "second"
