"""A thread of a driver: its calls one after the other, and a process that ends though one hangs."""

import subprocess
import sys
import threading

import pytest

from features.driver_thread import DriverThread


def test_calls_are_carried_out_in_order_and_their_errors_are_raised_where_they_are_waited_for() -> None:
    thread, done = DriverThread("driver"), list[str]()
    begun, end = threading.Event(), threading.Event()

    def first() -> str:
        begun.set()
        end.wait(10)
        done.append("first")
        return "first"

    calls = [thread.submit(first), thread.submit(lambda: done.append("second")), thread.submit(lambda: done[9])]
    assert begun.wait(10)
    left_out = thread.submit(lambda: done.append("left out"))
    assert left_out.cancel()
    thread.end()
    assert thread.is_alive()
    end.set()
    assert calls[0].result(10) == "first"
    with pytest.raises(IndexError):
        calls[2].result(10)
    thread._thread.join(10)
    assert not thread.is_alive()
    assert done == ["first", "second"]


def test_a_process_ends_though_a_call_hangs() -> None:
    program = """
import threading
from features.driver_thread import DriverThread
begun = threading.Event()
def hangs():
    begun.set()
    threading.Event().wait()
DriverThread("driver").submit(hangs)
begun.wait()
print("ends")
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=20, check=True)
    assert ended.stdout == "ends\n"
