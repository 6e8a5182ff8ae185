"""What keeps a process from its work, and what others see of it."""

import logging
import os
from pathlib import Path

import pytest

from foretaste.kernel.running.readiness import ProcessReadiness, reasons_of, told_in


def test_each_change_is_one_line(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    readiness = ProcessReadiness()
    readiness.ready("redis")
    readiness.unready("redis", "gone for 30 s")
    readiness.unready("redis", "gone for 40 s")
    assert readiness.reasons == {"redis": "gone for 40 s"}
    readiness.ready("redis")
    readiness.ready("redis")
    assert readiness.reasons == {}
    assert caplog.messages == ["not ready: redis: gone for 30 s", "over: redis: gone for 40 s"]


def test_other_processes_read_why(tmp_path: Path) -> None:
    with told_in(tmp_path) as readiness:
        assert reasons_of(tmp_path, os.getpid()) == {}
        readiness.unready("worker", "its fetcher ended")
        readiness.unready("kafka", "nobody answers")
        assert reasons_of(tmp_path, os.getpid()) == {"worker": "its fetcher ended", "kafka": "nobody answers"}
        readiness.ready("worker")
        assert reasons_of(tmp_path, os.getpid()) == {"kafka": "nobody answers"}
    assert reasons_of(tmp_path, os.getpid()) == {}


def test_what_a_killed_process_of_the_same_pid_told_is_gone(tmp_path: Path) -> None:
    file = tmp_path / "unready" / f"{os.getpid()}.json"
    file.parent.mkdir()
    file.write_text('{"kafka": "away"}')
    assert reasons_of(tmp_path, os.getpid()) == {"kafka": "away"}
    with told_in(tmp_path):
        assert reasons_of(tmp_path, os.getpid()) == {}


@pytest.mark.parametrize("text", ["", "{", "[1]", "7"])
def test_a_file_that_is_no_report_tells_nothing(tmp_path: Path, text: str) -> None:
    file = tmp_path / "unready" / "12.json"
    file.parent.mkdir()
    file.write_text(text)
    assert reasons_of(tmp_path, 12) == {}


def test_a_file_that_cannot_be_written_ends_nobody(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    in_the_way = tmp_path / "unready"
    in_the_way.write_text("no folder")
    readiness = ProcessReadiness(in_the_way / "12.json")
    readiness.unready("redis", "gone for 30 s")
    assert readiness.reasons == {"redis": "gone for 30 s"}
    readiness.ready("redis")
    assert readiness.reasons == {}
    assert sum("could not be told" in each for each in caplog.messages) == 2
