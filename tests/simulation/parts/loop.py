"""An event loop without real time, whose processes can be frozen or killed between any two awaits."""

import asyncio
import heapq
from collections.abc import Callable
from concurrent.futures import Executor
from contextvars import Context, ContextVar, copy_context
from typing import Any, TypeVar, TypeVarTuple, Unpack

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class Deadlock(Exception):
    """Every task waits for another one: nothing would ever happen any more."""


class Endless(Exception):
    """So many steps were taken that the simulation would never end."""


MOST_STEPS = 400_000
"""Of a simulation, many times what one takes."""


class ProcessState:
    """Whether the tasks of one process run. A stopped one keeps what it would have run until it goes on."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.stopped = False
        self.parked: list[asyncio.Handle] = []


PROCESS: ContextVar[ProcessState | None] = ContextVar("process", default=None)
"""The process that a task belongs to; None for what drives the simulation itself."""
NOBODY = copy_context()
"""The context of what belongs to no process, whoever begins it."""
NOBODY.run(PROCESS.set, None)


class SimulatedLoop(asyncio.BaseEventLoop):
    """Runs what is ready in order, and moves its clock to the next timer once nothing is. No thread, no socket.

    A task and its callbacks belong to the process in whose context they were made; a stopped process runs none, while
    the clock and everybody else go on. That is what SIGSTOP does, and for good what SIGKILL does. What is given to a
    thread runs at once.
    """

    def __init__(self) -> None:
        super().__init__()
        self._now = 0.0
        self._at_work: ProcessState | None = None
        self._steps = 0
        self._ready: Any  # of the base class
        self._scheduled: Any

    def time(self) -> float:
        return self._now

    def call_soon(
        self, callback: Callable[[Unpack[Ts]], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, self._marked(context))
        self._ready.append(handle)
        return handle

    def call_soon_threadsafe(
        self, callback: Callable[[Unpack[Ts]], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.Handle:
        return self.call_soon(callback, *args, context=context)

    def call_at(
        self, when: float, callback: Callable[[Unpack[Ts]], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.TimerHandle:
        timer: Any = asyncio.TimerHandle(when, callback, args, self, self._marked(context))
        heapq.heappush(self._scheduled, timer)
        timer._scheduled = True
        return timer  # type: ignore[no-any-return]  # its private state is untyped

    def run_in_executor(
        self, executor: Executor | None, func: Callable[[Unpack[Ts]], T], *args: *Ts
    ) -> "asyncio.Future[T]":
        done: asyncio.Future[T] = self.create_future()
        try:
            done.set_result(func(*args))
        except Exception as error:  # noqa: BLE001  # as an executor hands it on
            done.set_exception(error)
        return done

    def begin_anew(self, steps: int) -> None:
        """From now on so many steps may be taken."""
        self._steps = MOST_STEPS - steps

    def resume(self, process: ProcessState) -> None:
        """The process goes on with all that it would have run meanwhile."""
        process.stopped = False
        self._ready.extend(process.parked)
        process.parked.clear()

    def _marked(self, context: Context | None) -> Context:
        """A context that names the process at work; an empty one stands for the same process."""
        if context is None:
            return copy_context()
        if self._at_work is not None and PROCESS not in context:
            context.run(PROCESS.set, self._at_work)
        return context

    def _run_once(self) -> None:
        ready = self._ready
        if not ready:
            self._advance()
        self._steps += 1
        if self._steps > MOST_STEPS:
            raise Endless
        handle = ready.popleft()
        if handle._cancelled:
            return
        process = handle._context.get(PROCESS)
        if process is not None and process.stopped:
            process.parked.append(handle)
            return
        self._at_work = process
        handle._run()
        self._at_work = None

    def _advance(self) -> None:
        scheduled, ready = self._scheduled, self._ready
        while scheduled and scheduled[0]._cancelled:
            heapq.heappop(scheduled)._scheduled = False
        if not scheduled:
            raise Deadlock
        self._now = max(self._now, scheduled[0]._when)
        while scheduled and scheduled[0]._when <= self._now:
            timer = heapq.heappop(scheduled)
            timer._scheduled = False
            ready.append(timer)
