"""A study in processes of its own, as `foretaste evaluate` runs it."""

import multiprocessing
import os
import signal
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from foretaste.kernel.errors import InvalidInput
from models.study.running import run
from models.study.scoring import Bench, FitTask
from tests.study_parts import Popular, Refusing, fold


def _tasks(*methods: Any) -> Any:
    return [
        FitTask(f"method {place}", method, seed, ("hidden",)) for place, method in enumerate(methods) for seed in (0, 1)
    ]


def test_many_processes_find_what_one_finds_in_the_order_of_the_tasks(tmp_path: Path) -> None:
    tasks = _tasks(Popular(), Popular(2.0, 30.0))
    heard: list[Any] = []
    found = run(
        Bench.of(fold(), ("hidden",), tmp_path / "many", resamples=30), tasks, 2, lambda *step: heard.append(step)
    )
    alone = run(Bench.of(fold(), ("hidden",), tmp_path / "one", resamples=30), tasks, 1, lambda *_: None)
    ended = [(task.tower, task.seed) for task, done, total in heard if done == total == 1]
    assert sorted(ended) == [(task.tower, task.seed) for task in tasks]
    assert [(one.tower, one.seed) for one in found] == [(task.tower, task.seed) for task in tasks]
    for one, other in zip(found, alone, strict=True):
        assert {key: one.estimates[key].value for key in one.estimates} == {
            key: other.estimates[key].value for key in other.estimates
        }
        assert all((one.estimates[key].drawn == other.estimates[key].drawn).all() for key in one.estimates)


def test_what_a_process_refuses_reaches_the_one_that_waits(tmp_path: Path) -> None:
    bench = Bench.of(fold(), ("hidden",), tmp_path, resamples=5)
    with pytest.raises(InvalidInput, match=r"^power: cannot be 3"):
        run(bench, _tasks(Refusing(), Refusing()), 2, lambda *_: None)


@dataclass(frozen=True)
class Endless:
    """Writes down its process, and never ends."""

    folder: Path
    number: int

    def fit(self, _material: Any) -> None:
        (self.folder / str(os.getpid())).touch()
        while True:
            time.sleep(0.01)

    def trials(self) -> Any:
        return [self] * 4


def _study(folder: Any) -> None:
    run(Bench.of(fold(), ("hidden",), folder, resamples=5), _tasks(Endless(folder, 1), Endless(folder, 2)), 2, print)


def test_workers_end_with_a_study_that_is_killed(tmp_path: Path) -> None:
    study = multiprocessing.get_context("spawn").Process(target=_study, args=(tmp_path,))
    study.start()
    try:
        workers = _until(lambda: [int(path.name) for path in tmp_path.iterdir() if path.name.isdecimal()], 2)
    finally:
        assert study.pid is not None
        assert study.pid is not None
    os.kill(study.pid, signal.SIGKILL)
    study.join()
    _until(lambda: [worker for worker in workers if not _lives(worker)], 2)


def _lives(pid: Any) -> Any:
    with suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    return False


def _until(found: Any, count: Any, seconds: int = 100) -> Any:
    for _ in range(seconds * 20):
        if len(found()) == count:
            return found()
        time.sleep(0.05)
    raise AssertionError(f"{count} were awaited, there are {found()}")
