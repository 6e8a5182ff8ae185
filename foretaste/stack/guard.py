"""The guard between a parent and one server: it ends the server, and all that the server started, with the parent.

Run as a file (`python -I -S guard.py PARENT GRACE LOCK NICENESS COMMAND…`, standard library only). The parent holds the
other end of the guard's stdin and nothing is ever written there, so it closes when the parent stops the part and when
the parent ends in any way, kill -9 included. Where a fork of the parent keeps that end open, the poll of the parent's
pid answers instead.

Why a process and not PR_SET_PDEATHSIG from the parent: that signal fires when the *thread* that started the child
ends, reaches the child alone and not its own children, can only be one signal, and exists on Linux alone. A guard
sends TERM first, waits, and then kills the group. PDEATHSIG serves one step further down, for a guard that is killed
itself: the guard has one thread, and the server is its direct child.
"""

import contextlib
import ctypes
import os
import select
import signal
import sys
import time
from types import FrameType

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
POLL = 1.0
"""Seconds between two looks at the parent's pid: rarely needed, and paid for by an idle stack."""
CANNOT_RUN = 127
TRIES, AGAIN = 20, 0.11
"""Of lowering a session, and seconds between two."""


def main(arguments: list[str]) -> int:
    """Start the command, print its pid, and end it when the parent goes; the command's exit status.

    LOCK is a descriptor that the guard keeps open until all has ended and does not pass on, or -1: a lock on it is
    held for as long as something of the old stack lives, even when the parent was killed. NICENESS lowers the command's
    priority.
    """
    parent, grace, lock, niceness = int(arguments[0]), float(arguments[1]), int(arguments[2]), int(arguments[3])
    if lock >= 0:
        os.set_inheritable(lock, False)
    wake, notify = os.pipe()
    os.set_blocking(notify, False)
    signal.set_wakeup_fd(notify, warn_on_full_buffer=False)
    stop = _Flag()
    signal.signal(signal.SIGTERM, stop.set)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    for ignored in (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(ignored, signal.SIG_IGN)

    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    if libc is not None:
        libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)  # what the server leaves behind comes to the guard
    server = _start(arguments[4:], libc, niceness)
    with contextlib.suppress(BrokenPipeError):  # the parent has gone already: the loop below sees it
        os.write(1, f"{server}\n".encode())
    os.close(1)

    family = _Family(server)
    while family.leader_lives():
        ready, _, _ = select.select([0, wake], [], [], POLL)
        if wake in ready:
            os.read(wake, 4096)
        if stop.raised or 0 in ready or os.getppid() != parent:
            break
    family.end(grace)
    return family.status


def lower_session(niceness: int) -> None:
    """Give this process's session that niceness, where the system has one: Linux may weigh sessions before processes.

    It takes one such write every tenth of a second, of all who have no privileges.
    """
    for _ in range(TRIES):
        try:
            with open("/proc/self/autogroup", "w", encoding="ascii") as session:  # noqa: PTH123 - few imports here
                session.write(str(niceness))
        except BlockingIOError:
            time.sleep(AGAIN)
        except OSError:
            return
        else:
            return


class _Flag:
    raised = False

    def set(self, _signal: int, _frame: FrameType | None) -> None:
        self.raised = True


def _start(command: list[str], libc: ctypes.CDLL | None, niceness: int) -> int:
    """Fork and exec; the server leads a process group of its own, reads nothing, and logs to the guard's stderr."""
    guard = os.getpid()
    pid = os.fork()
    if pid:
        with contextlib.suppress(OSError):  # both sides set it, so that it is set before either goes on
            os.setpgid(pid, pid)
        return pid
    try:
        os.setpgid(0, 0)
        if libc is not None:
            libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != guard:  # it ended between fork and prctl
            os._exit(CANNOT_RUN)
        for number in (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(number, signal.SIG_DFL)  # an ignored signal stays ignored over exec
        if niceness:
            lower_session(niceness)
            with contextlib.suppress(OSError):  # refused: it runs all the same
                os.nice(niceness)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(2, 1)
        os.execvp(command[0], command)  # noqa: S606 - the command is a list, no shell is wanted
    except OSError as error:
        os.write(2, f"{command[0]}: {error.strerror}\n".encode())
    finally:
        os._exit(CANNOT_RUN)


class _Family:
    """The server and all it started: its process group, and on Linux whatever left the group as well."""

    def __init__(self, leader: int) -> None:
        self.leader = leader
        self.status = 0
        self._leader_ended = False

    def leader_lives(self) -> bool:
        self._reap()
        return not self._leader_ended

    def end(self, grace: float) -> None:
        """TERM, up to `grace` seconds for all to end, then KILL; returns when none is left."""
        self._signal(signal.SIGTERM)
        deadline = time.monotonic() + grace
        while self._any_lives():
            if time.monotonic() >= deadline:
                self._signal(signal.SIGKILL)
            time.sleep(0.02)

    def _any_lives(self) -> bool:
        self._reap()
        return not self._leader_ended or self._group_lives() or bool(_children())

    def _group_lives(self) -> bool:
        try:
            os.killpg(self.leader, 0)
        except (ProcessLookupError, PermissionError):  # macOS answers EPERM for a group of zombies
            return False
        return True

    def _signal(self, number: signal.Signals) -> None:
        for kill, target in [(os.killpg, self.leader), *((os.kill, pid) for pid in _children())]:
            try:
                kill(target, number)
            except (ProcessLookupError, PermissionError):
                continue

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                self._leader_ended = True
                return
            if pid == 0:
                return
            if pid == self.leader:
                code = os.waitstatus_to_exitcode(status)
                self.status = code if code >= 0 else 128 - code
                self._leader_ended = True


def _children() -> list[int]:
    """The guard's own children, where the system tells (Linux); a subreaper's include every orphan below it."""
    try:
        with open(f"/proc/self/task/{os.getpid()}/children", encoding="ascii") as listed:  # noqa: PTH123 - starts fast
            return [int(pid) for pid in listed.read().split()]
    except OSError:
        return []


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
