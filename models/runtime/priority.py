"""Work that lets whatever else wants the processor go first."""

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

NICENESS = 10
"""About a tenth of a core where others want all of it."""


def quietly(make: Callable[[], T]) -> T:
    """Run `make` in a thread of low priority, which threads that it starts inherit; the caller keeps its own.

    On Linux each thread has a priority of its own. One that was lowered cannot be raised again without privileges.
    """
    with ThreadPoolExecutor(1, initializer=_yield_to_others) as pool:
        return pool.submit(make).result()


def yield_to_what_serves() -> None:
    """Every thread of this process has a low priority from now on, and so has what they start."""
    threads = Path("/proc/self/task")
    if not threads.is_dir():
        os.nice(NICENESS)
        return
    for each in threads.iterdir():
        _lower(int(each.name))


def _yield_to_others() -> None:
    _lower(threading.get_native_id())


def _lower(thread: int) -> None:
    with suppress(OSError):  # it has ended, or the system has no such thing: courtesy is no reason to fail
        os.setpriority(os.PRIO_PROCESS, thread, os.getpriority(os.PRIO_PROCESS, thread) + NICENESS)
