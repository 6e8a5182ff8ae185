"""The lock and the record of a home, and what a killed stack leaves of them."""

import fcntl
import json
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from foretaste.kernel.errors import InvalidInput, Unavailable
from foretaste.stack.record import (
    FAMILY,
    OWNER,
    RECORD,
    HomeLock,
    PartRecord,
    StackRecord,
    remove_record,
    running_stack,
    write_record,
)

PID = 2**22 + 1
"""One that no Linux gives out."""


@contextmanager
def hold(lock: Path) -> Iterator[None]:
    """As a guard does."""
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield


def a_record(pid: int) -> StackRecord:
    parts = {"kafka": PartRecord(pid=11, guard_pid=10, log="logs/kafka.log")}
    return StackRecord(pid, {"kafka": "127.0.0.1:1"}, parts)


def test_record_of_a_running_stack_is_read_back_whole(tmp_path: Path) -> None:
    lock = HomeLock.take(tmp_path)
    write_record(tmp_path, a_record(os.getpid()))
    assert running_stack(tmp_path) == a_record(os.getpid())
    assert stat.S_IMODE((tmp_path / RECORD).stat().st_mode) == 0o600
    assert sorted(path.name for path in tmp_path.iterdir()) == [RECORD, FAMILY, OWNER]
    remove_record(tmp_path)
    assert running_stack(tmp_path) is None
    lock.release()


def test_no_stack_where_there_never_was_one(tmp_path: Path) -> None:
    assert running_stack(tmp_path) is None
    assert running_stack(tmp_path / "missing") is None


def test_record_whose_owner_is_gone_does_not_count(tmp_path: Path) -> None:
    HomeLock.take(tmp_path).release()
    write_record(tmp_path, a_record(os.getpid()))  # as if the pid had been given to another process
    assert running_stack(tmp_path) is None


def test_killed_stack_does_not_count_while_its_guards_wind_down(tmp_path: Path) -> None:
    with hold(tmp_path / FAMILY):
        write_record(tmp_path, a_record(os.getpid()))
        assert running_stack(tmp_path) is None


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"parts": {"kafka": {}}}', '{"pid": 1, "parts": {}}'])
def test_damaged_record_does_not_count(tmp_path: Path, text: str) -> None:
    lock = HomeLock.take(tmp_path)
    (tmp_path / RECORD).write_text(text)
    assert running_stack(tmp_path) is None
    lock.release()


def test_record_of_another_version_does_not_count(tmp_path: Path) -> None:
    lock = HomeLock.take(tmp_path)
    (tmp_path / RECORD).write_text(json.dumps({"pid": os.getpid(), "parts": {}, "from": "tomorrow"}))
    assert running_stack(tmp_path) is None
    lock.release()


def test_second_stack_of_a_home_is_refused_by_pid(tmp_path: Path) -> None:
    lock = HomeLock.take(tmp_path)
    with pytest.raises(InvalidInput, match=f"with pid {os.getpid()}"):
        HomeLock.take(tmp_path)
    lock.release()
    lock.release()
    HomeLock.take(tmp_path).release()


def test_parts_of_a_killed_stack_are_waited_for_but_not_for_ever(tmp_path: Path) -> None:
    times = iter([0.0, 10.0, 11.0, 1000.0])
    with hold(tmp_path / FAMILY), pytest.raises(Unavailable, match="parts of a killed stack") as caught:
        HomeLock.take(tmp_path, clock=lambda: next(times))
    assert caught.value.retriable
    HomeLock.take(tmp_path).release()


def test_taking_the_lock_removes_a_stale_record(tmp_path: Path) -> None:
    write_record(tmp_path, a_record(PID))
    lock = HomeLock.take(tmp_path)
    assert not (tmp_path / RECORD).exists()
    lock.release()
