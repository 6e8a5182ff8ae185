"""`foretaste up` as a user runs it: all five parts come up, and a kill -9 of the command leaves none of them."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from foretaste.stack.environment import NAME, TritonEnvironment
from foretaste.stack.record import StackRecord, running_stack

ROOT = Path(__file__).parents[2]
PARTS = {"kafka", "redis", "triton", "worker", "log", "watch", "api"}
UP = 90.0
"""Seconds that the whole system may take to come up on a busy machine."""
GONE = 6.0
"""Seconds after the kill within which nothing of it lives: above the longest grace of a guard."""


@pytest.fixture
def home(tmp_path: Path, triton_environment: TritonEnvironment) -> Path:
    """A home of its own, with Triton's environment by a link to a finished one."""
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    (home / NAME).symlink_to(triton_environment.path)
    return home


@pytest.fixture
def command(home: Path, tmp_path: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """`foretaste up`, its output in a file."""
    given = {name: value for name, value in os.environ.items() if not name.startswith("FORETASTE_")}
    env = {**given, "FORETASTE_HOME": str(home), "FORETASTE_API_PORT": "0"}
    with (tmp_path / "up.log").open("wb") as log:
        process = subprocess.Popen([sys.executable, "-m", "foretaste", "up"], cwd=ROOT, env=env, stdout=log, stderr=log)
    yield process
    process.kill()
    process.wait()
    for each in _living_in(home):
        each.kill()


def _until(holds: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() >= deadline:
            return False
        os.sched_yield()
    return True


def _living_in(home: Path) -> list[psutil.Process]:
    """Every process that was given this home, by its variables, its command line or its folder."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            about = [process.environ().get("FORETASTE_HOME", ""), *process.cmdline(), process.cwd()]
            alive = process.status() != psutil.STATUS_ZOMBIE
            if alive and process.pid != os.getpid() and any(str(home) in each for each in about):
                found.append(process)
    return found


def _alive(processes: list[psutil.Process]) -> list[psutil.Process]:
    found = []
    for each in processes:
        with suppress(psutil.NoSuchProcess):  # it may end between the two looks
            if each.is_running() and each.status() != psutil.STATUS_ZOMBIE:
                found.append(each)
    return found


@pytest.mark.timeout(180)
def test_a_killed_command_leaves_no_process(
    home: Path, command: "subprocess.Popen[bytes]", tmp_path: Path, triton_environment: TritonEnvironment
) -> None:
    record: StackRecord | None = None

    def all_run() -> bool:
        nonlocal record
        record = running_stack(home)
        return command.poll() is not None or (record is not None and set(record.parts) == PARTS)

    assert _until(all_run, UP), (tmp_path / "up.log").read_text()
    assert command.poll() is None, (tmp_path / "up.log").read_text()
    assert record is not None
    family = psutil.Process(command.pid).children(recursive=True)
    servers = {part.pid for part in record.parts.values()}
    assert servers < {each.pid for each in family}, "each behind a guard of its own"
    assert servers <= {each.pid for each in _living_in(home)}, "the search finds what it looks for"
    command.send_signal(signal.SIGKILL)
    command.wait()
    assert _until(lambda: not _alive(family) and not _living_in(home), GONE), (_alive(family), _living_in(home))
    assert running_stack(home) is None
    assert (home / NAME).is_symlink()
    assert triton_environment.server.exists()
