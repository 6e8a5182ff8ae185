"""Many tasks on one bench, side by side in processes of their own."""

import multiprocessing
import os
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from functools import partial
from multiprocessing.queues import Queue
from typing import TypeAlias

from foretaste.kernel.errors import ForetasteError, InvalidInput
from models.study.scoring import Bench, FitOutcome, FitTask, judge

PIECE = 0.5
"""Seconds between two reports of one fit, and between two looks at those of the worker processes."""

TaskProgress: TypeAlias = Callable[[FitTask, int, int], None]
"""Gets a task with its steps done and in all; both are 1 at last, whatever the method told before."""
_Steps: TypeAlias = "Queue[tuple[int, int, int]]"
"""The place of a task among all, and its steps done and in all."""

_bench: list[Bench] = []
"""The bench of a worker process, given to it once and not with every task."""
_steps: list[_Steps] = []
"""Where a worker process tells of its steps."""


def run(bench: Bench, tasks: Sequence[FitTask], jobs: int, progress: TaskProgress) -> list[FitOutcome]:
    """The outcome of each task, in the order of the tasks.

    Raises what the first task that failed raised, and begins no other; what was done until then is in the cache.
    """
    if jobs == 1 or len(tasks) < 2:  # noqa: PLR2004  # one needs no company
        return [_ended(_judged(bench, task, partial(progress, task)), task, progress) for task in tasks]
    workers = min(jobs, len(tasks))
    context = multiprocessing.get_context("spawn")
    steps: _Steps = context.Queue()
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_begin, initargs=(bench, steps))
    try:
        places = {pool.submit(_in_worker, place, task): place for place, task in enumerate(tasks)}
        outcomes: dict[int, FitOutcome] = {}
        running = set(places)
        while running:
            ended, running = wait(running, timeout=PIECE, return_when=FIRST_COMPLETED)
            for place, done, total in _waiting(steps):
                if place not in outcomes:
                    progress(tasks[place], done, total)
            for future in ended:
                place = places[future]
                outcomes[place] = _ended(future.result(), tasks[place], progress)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
    return [outcomes[place] for place in range(len(tasks))]


def _ended(outcome: FitOutcome, task: FitTask, progress: TaskProgress) -> FitOutcome:
    progress(task, 1, 1)
    return outcome


def _waiting(steps: _Steps) -> Iterator[tuple[int, int, int]]:
    """All that the workers have told since the last look."""
    while True:
        try:
            yield steps.get_nowait()
        except queue.Empty:
            return


def _begin(bench: Bench, steps: _Steps) -> None:
    _bench.append(bench)
    steps.cancel_join_thread()  # what was told last may be lost, and nobody waits for it
    _steps.append(steps)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A worker whose study was killed would go on training for nobody."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _in_worker(place: int, task: FitTask) -> FitOutcome:
    def tell(done: int, total: int) -> None:
        _steps[0].put((place, done, total))

    return _judged(_bench[0], task, tell)


def _judged(bench: Bench, task: FitTask, tell: Callable[[int, int], None]) -> FitOutcome:
    try:
        return judge(bench, task, _now_and_then(tell))
    except InvalidInput:
        raise
    except ForetasteError as error:
        raise ForetasteError(f"{task.tower}, seed {task.seed}: {error}") from error


def _now_and_then(
    tell: Callable[[int, int], None], clock: Callable[[], float] = time.monotonic
) -> Callable[[int, int], None]:
    """`tell`, at most once in `PIECE` seconds: a fit may take many steps in that time."""
    due = clock() + PIECE

    def heard(done: int, total: int) -> None:
        nonlocal due
        if clock() >= due:
            due = clock() + PIECE
            tell(done, total)

    return heard
