"""Many tasks on one bench, side by side in processes of their own."""

import multiprocessing
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from typing import Any

from foretaste.kernel.errors import ForetasteError, InvalidInput
from models.study.scoring import Bench, FitOutcome, FitTask, forget, judge

_bench: list[Bench] = []
"""The bench of a worker process, given to it once and not with every task."""


def run(
    bench: Bench, tasks: Sequence[FitTask], jobs: int, progress: Callable[[FitTask], None], *, fresh: bool = False
) -> list[FitOutcome]:
    """The outcome of each task, in the order of the tasks; `progress` gets each once it is done.

    With `fresh`, what is in the cache is forgotten first.
    Raises what the first task that failed raised, and begins no other; what was done until then is in the cache.
    """
    if fresh:
        for task in tasks:
            forget(bench, task)
    if jobs == 1 or len(tasks) < 2:  # noqa: PLR2004  # one needs no company
        return [_reported(_judged(bench, task), task, progress) for task in tasks]
    workers = min(jobs, len(tasks))
    pool = ProcessPoolExecutor(
        workers, mp_context=multiprocessing.get_context("spawn"), initializer=_begin, initargs=(bench,)
    )
    try:
        futures = {pool.submit(_in_worker, task): place for place, task in enumerate(tasks)}
        outcomes: dict[int, FitOutcome] = {}
        for future in as_completed(futures):
            place = futures[future]
            outcomes[place] = _reported(future.result(), tasks[place], progress)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
    return [outcomes[place] for place in range(len(tasks))]


def _reported(outcome: FitOutcome, task: FitTask, progress: Callable[[FitTask], Any]) -> FitOutcome:
    progress(task)
    return outcome


def _begin(bench: Bench) -> None:
    _bench.append(bench)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A worker whose study was killed would go on training for nobody."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _in_worker(task: FitTask) -> FitOutcome:
    return _judged(_bench[0], task)


def _judged(bench: Bench, task: FitTask) -> FitOutcome:
    try:
        return judge(bench, task)
    except InvalidInput:
        raise
    except ForetasteError as error:
        raise ForetasteError(f"{task.tower}, seed {task.seed}: {error}") from error
