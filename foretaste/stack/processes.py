"""Child processes that never outlive this one, and the ports they listen on."""

import os
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from importlib import import_module
from pathlib import Path
from typing import IO

from foretaste.kernel.errors import Unavailable
from foretaste.stack import guard

LOOPBACK = "127.0.0.1"


class Child:
    """A running command behind its guard (see `guard`). Close it, or let this process end: both end it whole."""

    def __init__(self, process: "subprocess.Popen[bytes]", pid: int) -> None:
        self._guard = process
        self.pid = pid
        """Of the command; its process group too."""

    @property
    def guard_pid(self) -> int:
        return self._guard.pid

    @property
    def output(self) -> IO[bytes]:
        """What the command prints, for one that was started with `output=subprocess.PIPE`."""
        if self._guard.stderr is None:
            raise ValueError("the command was started with an output of its own")
        return self._guard.stderr

    def exit_status(self) -> int | None:
        """None while it runs; 128 + n for signal n."""
        return self._guard.poll()

    def stop(self) -> None:
        """Ask it to end, without waiting: TERM, then KILL after the grace it was started with."""
        if self._guard.stdin is not None and not self._guard.stdin.closed:
            self._guard.stdin.close()

    def wait(self, timeout: float) -> int:
        """The exit status; whatever is left after `timeout` seconds is killed. Safe to call again."""
        try:
            status = self._guard.wait(timeout)
        except subprocess.TimeoutExpired:
            self._guard.kill()
            status = self._guard.wait()
        if status < 0:  # the guard was killed, so it could not look after the group
            _kill_group(self.pid)
        for stream in (self._guard.stdin, self._guard.stderr):
            if stream is not None:
                stream.close()
        return status


def spawn(
    command: Sequence[str | Path],
    *,
    env: Mapping[str, str],
    cwd: Path,
    output: int | IO[bytes],
    grace: float = 3.0,
    lock: int = -1,
    niceness: int = 0,
) -> Child:
    """Start a command in a session and process group of its own, its output (both streams) going to `output`.

    `lock` is a descriptor that stays open for as long as anything of the command lives. `niceness` is added to this
    process's, and its session gets it. Any thread may call this; the child's life is bound to the process, not to the
    thread. Raises `Unavailable` when not even the guard starts; a command that cannot be run ends with status 127 and
    its reason in `output`.
    """
    held = [] if lock < 0 else [lock]
    arguments = [str(os.getpid()), str(grace), str(lock), str(niceness), *(str(word) for word in command)]
    with ExitStack() as on_failure:
        process = subprocess.Popen(  # noqa: S603 - a list, and no shell
            [sys.executable, "-I", "-S", guard.__file__, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=output,
            env=dict(env),
            cwd=cwd,
            pass_fds=held,
            start_new_session=True,
        )
        on_failure.callback(process.wait)
        on_failure.callback(process.kill)
        if process.stdout is None:
            raise AssertionError("stdout is a pipe")
        with process.stdout as announced:
            line = announced.readline()
        if not line:
            raise Unavailable(Path(command[0]).name, "its guard process did not start")
        on_failure.pop_all()
    return Child(process, int(line))


def free_ports(count: int) -> tuple[int, ...]:
    """`count` different loopback ports that nothing listened on a moment ago.

    Another process may still take one before its server does; the caller tries once more when a server says so.
    """
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind((LOOPBACK, 0))
        return tuple(each.getsockname()[1] for each in sockets)


def listening(pid: int, port: int) -> bool:
    """Whether this process or a child of it takes connections on the port.

    Connecting would not tell: another process that took the port first would answer too.
    """
    psutil = import_module("psutil")  # of the extra `embedded`, as the servers are
    try:
        server = psutil.Process(pid)
        family = [server, *server.children(recursive=True)]
        connections = [each for process in family for each in process.net_connections("tcp")]
    except psutil.Error:
        return False
    return any(each.status == psutil.CONN_LISTEN and each.laddr.port == port for each in connections)


def tail(log: Path, lines: int = 20) -> str:
    """The last lines of a log, from its last 64 KiB; empty where there is none yet."""
    if not log.exists():
        return ""
    with log.open("rb") as data:
        data.seek(max(0, log.stat().st_size - 65536))
        return b"".join(deque(data, maxlen=lines)).decode(errors="replace").rstrip()


def _kill_group(group: int) -> None:
    try:
        os.killpg(group, 9)
    except (ProcessLookupError, PermissionError):
        return
