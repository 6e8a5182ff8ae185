"""Two workers and the ranking service while faults are tried, under one setting at a time."""

import json
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

from foretaste.stack.parts import Api, Launch, Part, Worker
from foretaste.stack.stack import Stack, StackPlan
from tests.faults.swaps.system import until

Setting = Literal["plain", "disk", "proxied", "stepped"]
"""What the processes run under: plain; `FORETASTE_WAIT_FOR_DISK`; behind proxies; on a clock that can be stepped."""
WORKERS = ("worker", "worker-2")
OK = 200


@dataclass(frozen=True)
class SteppedWorker:
    """A worker whose wall clock is off by as many seconds as the file says."""

    env: Mapping[str, str]
    clock: Path
    name: str = "worker"
    ports: ClassVar[int] = 0
    when_restarted: ClassVar[str] = Worker.when_restarted

    def launch(self, ports: Any) -> Launch:
        command: list[str | Path] = [sys.executable, "-m", "tests.faults.streams.stepped_worker", self.clock]
        return replace(Worker(self.env, self.name).launch(ports), command=command)


@dataclass
class Processes:
    """Started anew under another setting, and after a death: the next one would be waited for longer."""

    home: Path
    environments: Mapping[Setting, Mapping[str, str]]
    clock: Path
    """Says by how many seconds the clock of stepped workers is off."""
    api: str = ""
    """The service's address."""
    _stack: Stack | None = None
    _setting: Setting | None = None
    _opened: ExitStack = field(default_factory=ExitStack)
    _looking: threading.Lock = field(default_factory=threading.Lock)
    """Held while they are looked at, and while they are ended."""
    _starts: int = 0
    _died: bool = False

    def run_under(self, setting: Setting) -> None:
        """They run under this setting, and are ready."""
        if self._setting != setting or self._died:
            self.end()
            self._start(setting)
        until(self._are_ready, "the service is not ready, or a worker reads nothing")

    def end(self) -> None:
        with self._looking:
            self._stack, self._setting, self._died = None, None, False
            self._opened.close()

    def watch(self) -> None:
        """One look: what died is started again."""
        with self._looking:
            if self._stack is not None and self._stack.watch():
                self._died = True

    def pid(self, part: str) -> int:
        """Of the process that runs now as this part."""
        assert self._stack is not None
        return pid_of(self._stack, part)

    def log_lines(self) -> int:
        """That they have written so far."""
        return sum(len(log.read_bytes().splitlines()) for log in self.home.glob("*/logs/*.log"))

    def asked(self, path: str, body: bytes | None = None) -> int:
        """The status that the service answers with; 0 where none came."""
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(f"{self.api}{path}", data=body, headers=headers)  # noqa: S310  # our own server
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
                return int(answer.status)
        except urllib.error.HTTPError as error:
            with error:
                return error.code
        except OSError:
            return 0

    def _are_ready(self) -> bool:
        assert self._stack is not None
        logs = [self._stack.home / "logs" / f"{worker}.log" for worker in WORKERS]
        return self.asked("/readyz") == OK and all("reads " in log.read_text(errors="replace") for log in logs)

    def _start(self, setting: Setting) -> None:
        self._starts += 1
        self.clock.write_text("0", encoding="utf-8")
        env = self.environments[setting]
        stack = self._opened.enter_context(Stack(self.home / str(self._starts), StackPlan([], {}, [])))
        for name in WORKERS:
            part: Part = SteppedWorker(env, self.clock, name) if setting == "stepped" else Worker(env, name)
            stack.start(part)
        self.api = stack.start(Api(env))
        self._stack, self._setting = stack, setting


def pid_of(stack: Stack, part: str) -> int:
    """Of the process that runs now as a part of a stack."""
    record = json.loads((stack.home / "stack.json").read_text(encoding="utf-8"))
    return int(record["parts"][part]["pid"])
