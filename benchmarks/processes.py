"""Memory and processor time of processes and their children, read from /proc (Linux)."""

import threading
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

PROC = Path("/proc")


def family(pid: int) -> list[int]:
    """The ids of the process and of all its descendants."""
    children: defaultdict[int, list[int]] = defaultdict(list)
    for stat in PROC.glob("[0-9]*/stat"):
        with suppress(OSError):
            children[int(stat.read_text().rpartition(")")[2].split()[1])].append(int(stat.parent.name))
    found = [pid]
    for each in found:
        found += children[each]
    return found


def processor_seconds(pids: Iterable[int]) -> float:
    """Processor seconds that the living threads of the processes have used so far."""
    used = 0
    for each in pids:
        for task in PROC.glob(f"{each}/task/*/schedstat"):
            with suppress(OSError):
                used += int(task.read_text().split()[0])
    return used / 1e9


def resident_mib(pid: int) -> float:
    """Resident memory of a process; 0 for a process that is gone."""
    with suppress(OSError):
        for line in (PROC / str(pid) / "status").read_text().splitlines():
            if line.startswith("VmRSS"):
                return int(line.split()[1]) / 1024
    return 0.0


@contextmanager
def watched_memory(pids: Mapping[str, int], every: float = 0.25) -> Iterator[dict[str, list[tuple[float, float]]]]:
    """Sample the memory of each process by name while inside, as (epoch seconds, MiB); `pids` may change meanwhile."""
    samples: dict[str, list[tuple[float, float]]] = {}
    over = threading.Event()

    def watch() -> None:
        while not over.wait(every):
            for name, pid in list(pids.items()):
                samples.setdefault(name, []).append((time.time(), resident_mib(pid)))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield samples
    finally:
        over.set()
        thread.join()
