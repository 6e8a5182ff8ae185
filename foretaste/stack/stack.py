"""The embedded stack: the parts that the user did not bring, started together, watched, and ended with this process."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Self

from foretaste.kernel.errors import InvalidInput, NotOnThisMachine, Unavailable
from foretaste.kernel.ports import Clock
from foretaste.stack.environment import TritonEnvironment, ensure_triton_environment
from foretaste.stack.machine import IN_PROCESS, Machine, available_parts, this_machine
from foretaste.stack.parts import Kafka, Part, Redis, Triton
from foretaste.stack.processes import tail
from foretaste.stack.progress import Report, silent
from foretaste.stack.record import HomeLock, StackRecord, remove_record, write_record
from foretaste.stack.running import Incident, Running

EMBEDDED_KAFKA: Mapping[str, Any] = {
    "kafka_idempotent": False,
    "kafka_fetch_wait": 0.005,
    "kafka_idle_fetch_wait": 1.0,
    "kafka_session_timeout": 3.0,
}
"""Settings for Tansu, which has no idempotent producer, looks for new records after half of a fetch's wait (and half of
what is left, and so on), and forms a group after half of the session's timeout."""
START_TIMEOUT = 30.0
"""Seconds that a part may take to become healthy; Triton with both towers takes about 3."""


@dataclass(frozen=True)
class StackPlan:
    """What to start. `addresses` holds what is decided before anything runs: `in-process` where Triton is not."""

    parts: Sequence[Part]
    addresses: Mapping[str, str]
    notices: Sequence[str]
    """What the user must be told: a part that cannot be had here, and what runs instead."""


def plan(
    home: Path,
    own: Mapping[str, str],
    *,
    repository: Path | None = None,
    triton_environment: TritonEnvironment | None = None,
    machine: Machine | None = None,
    device: str = "cpu",
    report: Report = silent,
) -> StackPlan:
    """The embedded parts for a user who brings those in `own` (part: address), and Triton's environment made for it.

    Raises `NotOnThisMachine` for a Kafka or a Redis that has no wheel here and no address, and `InvalidInput` for a
    `device` other than the CPU without a Triton of the user's own.
    """
    if device != "cpu" and "triton" not in own:
        problem = "the embedded Triton runs on the CPU alone; set FORETASTE_TRITON to one on a GPU"
        raise InvalidInput("triton_device", device, problem)
    machine = machine or this_machine()
    home = home.resolve()
    parts: list[Part] = []
    addresses: dict[str, str] = {}
    notices: list[str] = []
    for each in available_parts(machine):
        if each.part in own:
            continue
        if not each.available:
            if each.part != "triton":
                raise NotOnThisMachine(f"{each.part}: {each.reason}")
            addresses["triton"] = IN_PROCESS
            notices.append(f"triton: {each.reason}")
        elif each.part == "kafka":
            parts.append(Kafka(home / "kafka"))
        elif each.part == "redis":
            parts.append(Redis(home / "redis"))
        else:
            environment = triton_environment or ensure_triton_environment(home, report, machine)
            parts.append(Triton(home / "triton", (repository or home / "triton_repo").resolve(), environment))
    return StackPlan(parts, addresses, notices)


class Stack:
    """A context manager: inside it the planned parts run and are healthy; after it none of their processes is left.

    So too when this process ends in any other way (see `guard`), and on SIGTERM and SIGHUP, which end it as
    `SystemExit`. Enter it on the main thread for those two. One stack a home.
    """

    def __init__(
        self, home: Path, planned: StackPlan, *, report: Report = silent, clock: Clock = time.monotonic
    ) -> None:
        self.home = home.resolve()
        self.notices = planned.notices
        self._plan = planned
        self._report = report
        self._clock = clock
        self._addresses = dict(planned.addresses)
        self._servers: dict[str, Running] = {}
        self._processes: dict[str, Running] = {}
        self._ending = threading.Event()
        self._cleanup = ExitStack()

    @property
    def addresses(self) -> dict[str, str]:
        """Of each part that runs here, by name, as the settings take it; `in-process` for Triton where it does not."""
        return dict(self._addresses)

    @property
    def variables(self) -> dict[str, str]:
        """The `FORETASTE_*` variables that point a process at this stack."""
        parts = ("kafka", "redis", "triton")
        found = {f"FORETASTE_{part.upper()}": self._addresses[part] for part in parts if part in self._addresses}
        if any(isinstance(part, Kafka) for part in self._plan.parts):
            found |= {f"FORETASTE_{name.upper()}": str(value).lower() for name, value in EMBEDDED_KAFKA.items()}
        return {"FORETASTE_HOME": str(self.home), **found}

    def __enter__(self) -> Self:
        """Raises `InvalidInput` when a stack runs in this home, `Unavailable` with the log's end when a part fails."""
        with ExitStack() as on_failure:
            on_failure.callback(self.close)
            lock = HomeLock.take(self.home)
            self._cleanup.callback(lock.release)
            self._lock = lock
            self._cleanup.enter_context(_signals_end_this_process())
            self._cleanup.callback(remove_record, self.home)
            self._start_all(self._plan.parts)
            self._write_record()
            on_failure.pop_all()
        return self

    def __exit__(self, _type: type[BaseException] | None, _e: BaseException | None, _t: TracebackType | None) -> None:
        self.close()

    def start(self, part: Part) -> str:
        """Start one more, a worker or the ranking service, and wait until it is healthy; its address."""
        self._start(part, self._processes)
        self._write_record()
        return self._addresses.get(part.name, "")

    def watch(self) -> list[Incident]:
        """Look at each part once, about twice a second: a death is reported; a new start follows after a while."""
        seen = [running.look(self._clock()) for running in self._all()]
        incidents = [incident for incident in seen if incident is not None]
        if incidents:
            self._write_record()
        return incidents

    def close(self) -> None:
        """End all: this project's processes first, then the servers. Safe to call again."""
        self._ending.set()
        with self._cleanup:
            for wave in (self._processes, self._servers):
                for running in wave.values():
                    running.stop()
                for running in wave.values():
                    running.wait()
                wave.clear()

    def _all(self) -> list[Running]:
        return [*self._servers.values(), *self._processes.values()]

    def _start_all(self, parts: Sequence[Part]) -> None:
        """Together; the first failure stops the waiting for the others."""
        if not parts:
            return
        with ThreadPoolExecutor(len(parts)) as pool:
            starts = [pool.submit(self._start, part, self._servers) for part in parts]
            try:
                done, _ = wait(starts, return_when=FIRST_EXCEPTION)
                for start in done:
                    start.result()
            except BaseException:
                self._ending.set()
                raise

    def _start(self, part: Part, wave: dict[str, Running]) -> None:
        step = f"start {part.name}"
        self._report(step, 0, 1)
        running, problem = self._try(part, wave)
        if problem is not None and running.lost_its_port():
            running.stop()
            running.wait()
            running, problem = self._try(part, wave)
        if problem is not None:
            running.stop()
            running.wait()
            del wave[part.name]
            raise Unavailable(part.name, f"{problem}; the end of {running.log}:\n{tail(running.log)}")
        self._addresses[part.name] = running.launch.address
        self._report(step, 1, 1)

    def _try(self, part: Part, wave: dict[str, Running]) -> tuple[Running, str | None]:
        running = Running(part, self.home / "logs" / f"{part.name}.log", self._lock.family)
        wave[part.name] = running
        return running, self._wait_until_healthy(running)

    def _wait_until_healthy(self, running: Running) -> str | None:
        """None once it is; what went wrong if it ended or took too long."""
        deadline = time.monotonic() + START_TIMEOUT
        last = "it did not listen"
        while not self._ending.wait(0.02):
            status = running.child.exit_status()
            if status is not None:
                return f"it ended with status {status} while starting"
            health = running.healthy()
            if health is not None and health.ok:
                return None
            last = last if health is None else health.detail
            if time.monotonic() >= deadline:
                return f"it was not healthy after {START_TIMEOUT:g} s ({last})"
        return "the stack is ending"

    def _write_record(self) -> None:
        parts = {running.part.name: running.record for running in self._all()}
        addresses = {name: address for name, address in self._addresses.items() if address}
        write_record(self.home, StackRecord(os.getpid(), addresses, parts))


@contextmanager
def _signals_end_this_process() -> Iterator[None]:
    """SIGTERM and SIGHUP unwind the program as Ctrl-C does; without the main thread they stay as they are."""

    def end(number: int, _frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before: dict[signal.Signals, Callable[[int, FrameType | None], object] | int | None] = {
        number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGHUP)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
