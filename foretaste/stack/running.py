"""One part of a running stack: its process, its log, its health, and when to start it again."""

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from foretaste.stack.health import Health
from foretaste.stack.parts import Launch, Part
from foretaste.stack.processes import Child, free_ports, listening, spawn, tail
from foretaste.stack.record import PartRecord

LONGEST_BACKOFF = 30.0
STEADY = 60.0
"""Seconds of life after which earlier deaths are forgotten."""


@dataclass(frozen=True)
class Incident:
    """Something that happened to a part while the stack ran."""

    part: str
    what: Literal["died", "recovered"]
    detail: str


class Running:
    """A part that was started. Its ports stay what they are over restarts: other processes know them by address."""

    def __init__(self, part: Part, log: Path, lock: int) -> None:
        self.part = part
        self.log = log
        self._lock = lock
        self._deaths = 0
        self._due: float | None = None
        self._recovering = False
        log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if log.exists():
            log.replace(log.with_suffix(".log.1"))
        self.ports = free_ports(part.ports)
        self.launch, self.child = self._spawn()
        self._born = time.monotonic()

    def _spawn(self) -> tuple[Launch, Child]:
        launch = self.part.launch(self.ports)
        with self.log.open("ab") as output:
            child = spawn(
                launch.command,
                env=launch.env,
                cwd=launch.cwd,
                output=output,
                grace=launch.grace,
                lock=self._lock,
                niceness=launch.niceness,
            )
        return launch, child

    @property
    def record(self) -> PartRecord:
        return PartRecord(pid=self.child.pid, guard_pid=self.child.guard_pid, log=str(self.log))

    def healthy(self) -> Health | None:
        """One look; None while it does not listen yet."""
        if self.ports and not listening(self.child.pid, self.ports[0]):
            return None
        return _answer(self.launch, self.child.pid)

    def lost_its_port(self) -> bool:
        """Whether it says that another process took its port first; Tansu then even ends with status 0."""
        return "in use" in tail(self.log).lower()

    def stop(self) -> None:
        self.child.stop()

    def wait(self) -> None:
        """All of it has ended when this returns."""
        self.child.wait(self.launch.grace + 2)
        self.launch.clean()

    def look(self, now: float) -> Incident | None:
        """One step of watching, `now` in monotonic seconds: notice a death, start again when it is time, see it well.

        Deaths in a row wait 0.5, 1, 2, … up to `LONGEST_BACKOFF` seconds.
        """
        if self._due is not None:
            if now >= self._due:
                self._due, self._recovering = None, True
                self.launch, self.child = self._spawn()
                self._born = now
            return None
        status = self.child.exit_status()
        if status is not None:
            return self._died(status, now)
        if self._deaths and now - self._born > STEADY:
            self._deaths = 0
        if self._recovering:
            health = self.healthy()
            if health is not None and health.ok:
                self._recovering = False
                return Incident(self.part.name, "recovered", f"healthy again after {now - self._born:.1f} s")
        return None

    def _died(self, status: int, now: float) -> Incident:
        self.wait()
        wait = min(0.5 * 2**self._deaths, LONGEST_BACKOFF)
        self._deaths += 1
        self._due = now + wait
        detail = f"ended with status {status}, see {self.log}; {self.part.when_restarted}; starts again in {wait:g} s"
        return Incident(self.part.name, "died", detail)


def _answer(launch: Launch, pid: int) -> Health:
    """Ask from a thread of its own: the caller may run an event loop already."""

    async def ask() -> Health:
        return await launch.check(pid)

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, ask()).result()
