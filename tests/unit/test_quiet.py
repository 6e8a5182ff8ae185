"""Work that lets others go first, and leaves the caller's own priority alone."""

import os
import threading

import pytest

from models.quiet import NICENESS, quietly


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
