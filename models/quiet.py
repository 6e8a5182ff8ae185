"""Work that lets whatever else wants the processor go first."""

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")

NICENESS = 10
"""Added to that of the process: about a tenth of a core for whom others leave none."""


def quietly(make: Callable[[], T]) -> T:
    """What `make` gives or raises, out of a thread of low priority, and of those that it starts; the caller's stays.

    On Linux each thread has a priority of its own. One that was lowered cannot be raised again without privileges.
    """
    with ThreadPoolExecutor(1, initializer=_yield_to_others) as pool:
        return pool.submit(make).result()


def _yield_to_others() -> None:
    thread = threading.get_native_id()
    os.setpriority(os.PRIO_PROCESS, thread, os.getpriority(os.PRIO_PROCESS, thread) + NICENESS)
