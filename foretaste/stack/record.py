"""What a running stack leaves in its home for other processes: two locks and a record of its parts.

`stack.pid` is locked by the stack's process alone and says whether it lives, even while it is a zombie or after its
pid was given away. `stack.lock` is held by the guards as well, and so says whether anything of a stack still lives.
"""

import fcntl
import json
import os
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from foretaste.kernel.errors import InvalidInput, Unavailable
from foretaste.kernel.ports import Clock

RECORD = "stack.json"
OWNER = "stack.pid"
FAMILY = "stack.lock"
GLANCE = 0.5
"""Seconds for which another process that only looks may hold a lock."""
WIND_DOWN = 8.0
"""Seconds that the parts of a killed stack are given to end before a new one starts: above a guard's longest grace."""


@dataclass(frozen=True)
class PartRecord:
    """A running part: the pids of server and guard, and its log."""

    pid: int
    guard_pid: int
    log: str


@dataclass(frozen=True)
class StackRecord:
    """The running stack of a home. A part that the user brings is not in it: its address may hold a password."""

    pid: int
    """Of the parent, that is of `foretaste up` or `foretaste demo`."""
    addresses: Mapping[str, str]
    """Of each embedded part by name, `in-process` for a Triton that cannot be had here."""
    parts: Mapping[str, PartRecord]


def running_stack(home: Path) -> StackRecord | None:
    """The stack that now runs in `home`, or None; what a killed one left behind does not count."""
    try:
        loaded = json.loads((home / RECORD).read_text(encoding="utf-8"))
        parts = {name: PartRecord(**part) for name, part in loaded["parts"].items()}
        record = StackRecord(**{**loaded, "parts": parts})
    except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return record if _held(home / OWNER) else None


def write_record(home: Path, record: StackRecord) -> None:
    """Written whole to another name, readable by the owner alone, and renamed."""
    new = home / f"{RECORD}.{os.getpid()}"
    with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as out:  # noqa: PTH123
        json.dump(asdict(record), out, indent=2)  # Path.open takes no mode
    new.replace(home / RECORD)


def remove_record(home: Path) -> None:
    (home / RECORD).unlink(missing_ok=True)


class HomeLock:
    """The one stack of a home."""

    def __init__(self, owner: int, family: int) -> None:
        self._owner = owner
        self.family = family
        """The descriptor that guards hold open too."""

    @classmethod
    def take(cls, home: Path, clock: Clock = time.monotonic) -> Self:
        """Raises `InvalidInput` naming the pid when a stack runs there; waits for the parts of a killed one to end."""
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        with ExitStack() as on_failure:
            owner = os.open(home / OWNER, os.O_RDWR | os.O_CREAT, 0o600)
            on_failure.callback(os.close, owner)
            if not _lock_within(owner, GLANCE, clock):
                pid = os.pread(owner, 32, 0).decode() or "unknown"
                raise InvalidInput("home", str(home), f"a stack runs there already, with pid {pid}")
            os.ftruncate(owner, 0)
            os.pwrite(owner, str(os.getpid()).encode(), 0)
            family = os.open(home / FAMILY, os.O_RDWR | os.O_CREAT, 0o600)
            on_failure.callback(os.close, family)
            if not _lock_within(family, WIND_DOWN, clock):
                problem = f"parts of a killed stack still end after {WIND_DOWN:g} s"
                raise Unavailable("stack", f"{problem} in {home}")
            remove_record(home)
            on_failure.pop_all()
        return cls(owner, family)

    def release(self) -> None:
        """Safe to call again."""
        if self.family >= 0:
            os.close(self.family)
            os.close(self._owner)
            self.family = -1


def _lock_within(descriptor: int, seconds: float, clock: Clock) -> bool:
    deadline = clock() + seconds
    while not _try_lock(descriptor):
        if clock() >= deadline:
            return False
        time.sleep(0.02)
    return True


def _try_lock(descriptor: int, mode: int = fcntl.LOCK_EX) -> bool:
    try:
        fcntl.flock(descriptor, mode | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _held(lock: Path) -> bool:
    """Whether anyone holds it. Looking takes a shared lock for less than `GLANCE`."""
    try:
        descriptor = os.open(lock, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        return not _try_lock(descriptor, fcntl.LOCK_SH)
    finally:
        os.close(descriptor)
