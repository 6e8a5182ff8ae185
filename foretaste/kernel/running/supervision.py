"""Background tasks that do not end unseen."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from foretaste.kernel.ports import Clock
from foretaste.kernel.running.readiness import ProcessReadiness

log = logging.getLogger(__name__)

FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0
"""Seconds until a task that ended is started again; each pause is twice as long, up to the longest."""
STEADY = 60.0
"""Seconds of running after which earlier ends are forgotten, and the process counts as ready again."""


async def cancel_and_wait(*tasks: "asyncio.Future[Any]") -> None:
    """End tasks, so that what they hold may be closed after this; what they raised is for whoever asks them."""
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks)


class Supervision:
    """Runs tasks that are to run for ever. One that ends nevertheless is said, counted, and started again.

    Until the next run has been steady, the process is not ready. `ended` is called with the task's name. Times are in
    seconds; the `clock` never falls.
    """

    def __init__(
        self,
        readiness: ProcessReadiness,
        ended: Callable[[str], object],
        *,
        clock: Clock = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._readiness = readiness
        self._ended = ended
        self._clock = clock
        self._sleep = sleep
        self._tasks: list[asyncio.Task[None]] = []

    def start(self, name: str, run: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run it from now on, in the running loop."""
        self._tasks.append(asyncio.get_running_loop().create_task(self._keep(name, run), name=f"keep {name}"))

    async def close(self) -> None:
        """End all tasks, and wait until they have ended."""
        tasks, self._tasks = self._tasks, []
        await cancel_and_wait(*tasks)
        for task in tasks:
            if not task.cancelled():
                task.result()

    async def _keep(self, name: str, run: Callable[[], Coroutine[Any, Any, None]]) -> None:
        ends = 0
        while True:
            began, task = self._clock(), asyncio.create_task(run(), name=name)
            try:
                if ends:
                    await asyncio.wait({task}, timeout=STEADY)
                    if not task.done():
                        ends = 0
                        self._readiness.ready(name)
                await asyncio.wait({task})
            finally:
                if task.cancel():
                    await asyncio.wait({task})
            ends = 0 if self._clock() - began > STEADY else ends
            pause = min(FIRST_PAUSE * 2**ends, LONGEST_PAUSE)
            ends += 1
            self._note(name, task, pause)
            await self._sleep(pause)

    def _note(self, name: str, task: "asyncio.Task[None]", pause: float) -> None:
        error = None if task.cancelled() else task.exception()
        why = "it returned" if error is None else f"{type(error).__name__}: {error}"
        self._ended(name)
        self._readiness.unready(name, f"the task ended: {why}")
        log.error("the task %r ended, and starts again in %.1f s: %s", name, pause, why, exc_info=error)
