"""What may happen to a Redis: its newest writes gone, another server in its place, no room, no right to write."""

import os
import socket
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import redis

from tests.faults.streams.proxy import tcp_proxy
from tests.faults.streams.system import System, waited
from tests.faults.swaps.system import pause
from tests.integration.brokers import free_port
from tests.integration.redis_server import Valkey
from tests.servers import held

BEHIND_SECONDS = 1.0
"""How much of its newest writes a server loses: the file's sync each second, a replica's delay."""
SIZE_EVERY, PROBE_EVERY = 0.05, 0.02
PROBES = 100
"""The newest, at most: those of the last two seconds."""


def power_cut(system: System) -> None:
    """The server is gone with the last second of its append-only file, which was not on the disk yet."""
    file = _append_only_file(system.redis)
    with _sizes(file) as sizes:
        pause(2 * BEHIND_SECONDS)
        system.redis.kill()
        before = time.monotonic() - BEHIND_SECONDS
    os.truncate(file, max(size for at, size in sizes if at <= before))
    system.redis.start()


def power_cut_behind_the_disk(system: System) -> None:
    """The server is gone with all of its file of which `WAITAOF` told nobody that it was synced.

    Probes write and wait for the disk. The first that was written and got no answer is where the file ends: nobody can
    have been told that it, or what lies behind it, is on the disk.
    """
    file = _append_only_file(system.redis)
    with _probes(system.redis.port, file) as probes:
        pause(2 * BEHIND_SECONDS)
        assert waited(partial(_killed_between_syncs, system, probes, file), 20), (
            "all was synced whenever it was looked at"
        )
    system.redis.start()


def _killed_between_syncs(system: System, probes: "deque[_Probe]", file: Path) -> bool:
    """Whether the server, stopped now, had not synced all; it is dead then, and its file ends where it had not."""
    with system.redis.frozen():
        pause(0.1)  # answers that are on their way arrive
        waiting = [each.size for each in list(probes) if each.size is not None and not each.synced]
        if not waiting or min(waiting) == file.stat().st_size:
            return False
        system.redis.kill()
    os.truncate(file, min(waiting))
    return True


def emptied(system: System) -> None:
    """All is gone, and then brought back as the documentation has it."""
    system.redis_command("FLUSHALL")
    pause(2)
    system.refill()


def failover(system: System) -> None:
    """A replica that is a second behind takes the place, and the address, of a server that is gone."""
    folder = system.redis.folder.with_name(f"replica-{time.monotonic_ns()}")
    folder.mkdir()
    with held(lambda: tcp_proxy(f"127.0.0.1:{system.redis.port}")) as proxy:
        host, port = proxy.address.split(":")
        alone = system.redis.options
        replica = Valkey(folder, (*alone, "--replicaof", host, port))
        replica.start()
        assert waited(lambda: _is_linked(replica), 30), "the replica did not follow"
        proxy.delay = BEHIND_SECONDS
        pause(2 * BEHIND_SECONDS)
        taken = system.redis.port
        system.redis.kill()
        proxy.cut()
        pause(0.2)
    with replica.client() as client:
        client.execute_command("REPLICAOF", "NO", "ONE")
        assert waited(lambda: _takes_port(replica, taken), 10), f"the replica did not take port {taken}"
    replica.options = alone
    system.redis = replica


def killed(system: System) -> None:
    """kill -9, and two seconds until it is started again."""
    system.redis.kill()
    pause(2)
    system.redis.start()


def stopped(system: System) -> None:
    """It holds its connections and answers nothing for six seconds."""
    with system.redis.frozen():
        pause(6)


def read_only(system: System) -> None:
    """For five seconds it is the replica of a server that is away: it answers, and takes no writes."""
    system.redis_command("REPLICAOF", "127.0.0.1", free_port())
    pause(5)
    system.redis_command("REPLICAOF", "NO", "ONE")


def full(system: System) -> None:
    """For five seconds it has no room, and says so."""
    system.redis_command("CONFIG", "SET", "maxmemory", 1)
    pause(5)
    system.redis_command("CONFIG", "SET", "maxmemory", 0)


def evicting(system: System) -> None:
    """It would drop keys when it is full: `foretaste status` says so, and it is set right before it is full."""
    system.redis_command("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    told = "maxmemory-policy allkeys-lru" in system.command("status", "--json")
    system.redis_command("CONFIG", "SET", "maxmemory-policy", "noeviction")
    assert told, "nothing tells of a maxmemory-policy that drops users"
    full(system)


def _append_only_file(server: Valkey) -> Path:
    return max(server.folder.glob("appendonlydir/*.incr.aof"), key=lambda file: file.stat().st_mtime)


@contextmanager
def _sizes(file: Path) -> Iterator[list[tuple[float, int]]]:
    """The file's size by the monotonic clock, as it grows."""
    found: list[tuple[float, int]] = []
    over = threading.Event()

    def look() -> None:
        while not over.wait(SIZE_EVERY):
            found.append((time.monotonic(), file.stat().st_size))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield found
    finally:
        over.set()
        thread.join()


@dataclass
class _Probe:
    """A write of its own connection, and the wait for the disk behind it."""

    size: int | None = None
    """Of the file just after the write; None until it was answered."""
    synced: bool = False


@contextmanager
def _probes(port: int, file: Path) -> Iterator[deque[_Probe]]:
    probes: deque[_Probe] = deque(maxlen=PROBES)
    over = threading.Event()

    def ask(probe: _Probe) -> None:
        try:
            with (
                socket.create_connection(("127.0.0.1", port), timeout=5) as connection,
                connection.makefile("rb") as said,
            ):
                connection.sendall(b"SET faults:probe 1\r\nWAITAOF 1 0 0\r\n")
                said.readline()
                probe.size = file.stat().st_size
                probe.synced = said.readline() == b"*2\r\n"
        except OSError:
            return  # the server is gone: this one was not synced

    def begin() -> None:
        threads = []
        while not over.wait(PROBE_EVERY):
            probe = _Probe()
            probes.append(probe)
            threads.append(threading.Thread(target=ask, args=(probe,)))
            threads[-1].start()
        for thread in threads:
            thread.join()

    thread = threading.Thread(target=begin)
    thread.start()
    try:
        yield probes
    finally:
        over.set()
        thread.join()


def _is_linked(replica: Valkey) -> bool:
    with replica.client() as client:
        return bool(client.info("replication").get("master_link_status") == "up")


def _takes_port(replica: Valkey, port: int) -> bool:
    """Whether it listens there now: the system may hold the port of who is gone for a moment."""
    with replica.client() as client:
        try:
            client.config_set("port", port)
        except redis.ResponseError:
            return False
    replica.port = port
    return True
