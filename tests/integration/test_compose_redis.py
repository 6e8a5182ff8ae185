"""The command by which docker-compose.yml starts Redis, run with the embedded server in the image's place."""

import os
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
import yaml
from redis import Redis
from redis.exceptions import AuthenticationError

from foretaste.stack.parts import valkey_binary
from foretaste.stack.processes import Child, free_ports, spawn
from tests.images import ROOT

PASSWORD = "not-on-a-command-line"  # noqa: S105 - of a server that lives for one test
ENTRY = '#!/bin/sh\n[ "$1" = redis-server ] || exit 9\nshift\nexec redis-server "$@" --bind 127.0.0.1 --port {port}\n'
"""What the image's entry point does with the command, on a port of the test's own."""


@dataclass(frozen=True)
class Server:
    child: Child
    port: int


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    binaries = tmp_path / "bin"
    binaries.mkdir()
    (binaries / "redis-server").symlink_to(valkey_binary())
    entry = binaries / "docker-entrypoint.sh"
    (port,) = free_ports(1)
    entry.write_text(ENTRY.format(port=port))
    entry.chmod(0o755)
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
    command = [word.replace("$$", "$") for word in compose["services"]["redis"]["command"]]
    env = {"PATH": f"{binaries}:{os.defpath}", "REDISCLI_AUTH": PASSWORD}
    with (tmp_path / "log").open("wb") as log:
        child = spawn(command, env=env, cwd=tmp_path, output=log)
    try:
        yield Server(child, port)
    finally:
        child.stop()
        child.wait(5)


def _until_it_listens(port: int) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            probe.settimeout(1)
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        os.sched_yield()
    pytest.fail("it did not listen")


def test_redis_asks_for_the_password_that_no_command_line_shows(server: Server, tmp_path: Path) -> None:
    _until_it_listens(server.port)
    with Redis(port=server.port, password=PASSWORD) as client:
        assert client.ping()
        assert client.config_get("appendonly") == {"appendonly": "yes"}
    with Redis(port=server.port) as stranger, pytest.raises(AuthenticationError):
        stranger.ping()
    process = psutil.Process(server.child.pid)
    assert process.children() == [], "the server takes the shell's place, so that it is told to stop"
    assert "redis-server" in process.cmdline()[0]
    assert PASSWORD not in " ".join(process.cmdline())
    server.child.stop()
    assert server.child.wait(5) == 0
