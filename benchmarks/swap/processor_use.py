"""How many cores the parts of a stack use, and how many the rest of the machine does (Linux)."""

import os
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from benchmarks.processes import PROC, family
from foretaste.stack.record import running_stack

OWN, WITH_ENDED = slice(0, 2), slice(0, 4)
"""Slices of (user, system, user of ended children, system of ended children) in /proc/PID/stat."""
BUSY = (0, 1, 2, 5, 6)
"""user, nice, system, irq and softirq among the columns of /proc/stat."""


@dataclass(frozen=True, slots=True)
class ProcessorReading:
    """Seconds of processor time so far, by part; `machine` is the sum over all processes, these included."""

    at: float
    used: Mapping[str, float]
    machine: float

    def since(self, earlier: "ProcessorReading") -> dict[str, float]:
        """Cores that each part used between two readings, and `others`: the cores of all other processes."""
        seconds = self.at - earlier.at
        used = {part: (spent - earlier.used.get(part, 0.0)) / seconds for part, spent in self.used.items()}
        others = (self.machine - earlier.machine) / seconds - sum(used.values())
        return {part: round(cores, 3) for part, cores in {**used, "others": max(others, 0.0)}.items()}


class ProcessorMeter:
    """Reads the processor time of the stack that runs in `home`, of this process, and of others by name."""

    def __init__(self, home: Path, others: Mapping[str, int]) -> None:
        self._home = home
        self._others = others

    def read(self) -> ProcessorReading:
        record = running_stack(self._home)
        parts = {} if record is None else {name: part.pid for name, part in record.parts.items()}
        used = {name: _of_family(pid) for name, pid in {**parts, **self._others}.items()}
        return ProcessorReading(time.monotonic(), {**used, "swaps": _spent(os.getpid(), OWN)}, _machine())


def _of_family(pid: int) -> float:
    """Seconds of a process and all of its descendants, ended ones included."""
    return sum(_spent(each, WITH_ENDED) for each in family(pid))


def _spent(pid: int, which: slice) -> float:
    """0 for a process that is gone."""
    with suppress(OSError):
        fields = (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
        return _seconds(fields[11:15][which])
    return 0.0


def _machine() -> float:
    with suppress(OSError):
        columns = (PROC / "stat").read_text().splitlines()[0].split()[1:]
        return _seconds([columns[at] for at in BUSY])
    return 0.0


def _seconds(ticks: list[str]) -> float:
    return sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK")
