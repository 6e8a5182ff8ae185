"""Work that lets others go first, and leaves the caller's own priority alone."""

import os
import subprocess
import sys
import threading

import pytest

from models.runtime.priority import NICENESS, quietly


def niceness() -> int:
    return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())


def test_it_runs_at_a_low_priority_and_the_caller_keeps_its_own() -> None:
    own = niceness()
    assert quietly(niceness) == own + NICENESS
    assert niceness() == own


def test_threads_that_it_starts_are_as_quiet() -> None:
    seen: list[int] = []

    def start_another() -> None:
        other = threading.Thread(target=lambda: seen.append(niceness()))
        other.start()
        other.join()

    quietly(start_another)
    assert seen == [niceness() + NICENESS]


def test_what_it_raises_is_raised() -> None:
    with pytest.raises(ZeroDivisionError):
        quietly(lambda: 1 // 0)


def test_a_process_that_yields_lowers_threads_that_it_has_and_those_to_come() -> None:
    code = """
import os, threading
from models.runtime.priority import yield_to_what_serves
own = os.getpriority(os.PRIO_PROCESS, 0)
seen, go = [], threading.Event()
def look():
    go.wait()
    seen.append(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()) - own)
early = threading.Thread(target=look)
early.start()
yield_to_what_serves()
late = threading.Thread(target=look)
late.start()
go.set()
early.join(); late.join()
print(seen)
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == str([NICENESS, NICENESS])
