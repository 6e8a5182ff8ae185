"""What everything in one simulation shares: the loop, the seed's random numbers, processes, the trace, violations."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from contextvars import copy_context
from hashlib import blake2b
from typing import Any, TypeVar

from tests.simulation.parts.loop import PROCESS, Endless, ProcessState, SimulatedLoop

T = TypeVar("T")

EPOCH = 1_750_000_000.0
"""The time of day, seconds since the epoch, at which every simulation begins."""
ENDING_STEPS = 20_000
"""In which what still runs at the end must end."""
PATIENCE = 2.0
"""Seconds for which a client waits for the answer of a server."""


class Over(BaseException):
    """The simulation has ended: whatever still runs learns it at its next call."""


class SimulatedProcess(ProcessState):
    """A process of the system, with a clock of its own that may run ahead."""

    def __init__(self, world: "World", name: str) -> None:
        super().__init__(name)
        self.world = world
        self.ahead = 0.0
        """Seconds by which its time of day runs ahead of the true one."""
        self.asked_to_stop = asyncio.Event()
        self.trap: Callable[[], None] | None = None
        """What hits it at its next call of a part, once: before the effect, or behind it."""
        self.trapped_behind = False
        self.trapped_at = ""
        """What the name of that call begins with."""
        self.task: asyncio.Task[None] | None = None
        self.parts: Any = None
        """What its actor lets others reach, once it runs."""

    def now(self) -> float:
        """Its time of day."""
        return self.world.now() + self.ahead


class World:
    """One simulation. All randomness is `rng`'s, all time `loop`'s, so that one seed decides everything."""

    def __init__(self, seed: int, *, keep_trace: bool = False) -> None:
        self.seed = seed
        self.rng = random.Random(seed)  # noqa: S311  # no secret
        self.loop = SimulatedLoop()
        self.violations: list[str] = []
        self.lines: list[str] | None = [] if keep_trace else None
        self.over = False
        self.broker: Any = None
        """The one that every process reaches."""
        self.latency = 0.004
        """Mean seconds of half a round trip."""
        self.processes: dict[str, SimulatedProcess] = {}
        self.tasks: list[asyncio.Task[Any]] = []
        self._ever: list[SimulatedProcess] = []
        self._digest = blake2b(digest_size=16)
        self._broken: asyncio.Future[None] | None = None

    @property
    def digest(self) -> str:
        """Of the whole trace."""
        return self._digest.hexdigest()

    def now(self) -> float:
        """The true time of day."""
        return EPOCH + self.loop.time()

    def note(self, *words: object) -> None:
        """Add a line to the trace."""
        if self.over:
            return
        process = PROCESS.get()
        line = f"{self.loop.time():9.4f} {process.name if process else '-':<10} {' '.join(map(str, words))}"
        self._digest.update(line.encode())
        if self.lines is not None:
            self.lines.append(line)

    def violated(self, what: str) -> None:
        """Something is wrong that must never be: the simulation ends here."""
        self.note("VIOLATION", what)
        self.violations.append(what)
        if self._broken is not None and not self._broken.done():
            self._broken.set_result(None)

    def expect(self, holds: bool, what: str, *details: object) -> None:
        if not holds:
            self.violated(" ".join([what, *map(repr, details)]))

    async def pause(self, mean: float | None = None) -> None:
        """As long as half a round trip takes."""
        await asyncio.sleep(self.rng.expovariate(1 / (mean or self.latency)))

    def start(self, name: str, main: Callable[[SimulatedProcess], Coroutine[Any, Any, None]]) -> SimulatedProcess:
        """A process that runs `main`."""
        process = self.processes[name] = SimulatedProcess(self, name)
        self._ever.append(process)
        context = copy_context()
        context.run(PROCESS.set, process)
        self.note("start", name)
        process.task = self.loop.create_task(main(process), name=name, context=context)
        return process

    def kill(self, name: str) -> None:
        """Nothing of it ever runs again."""
        self.note("kill", name)
        self.processes.pop(name).stopped = True

    def within(self, process: SimulatedProcess, work: Coroutine[Any, Any, T]) -> "asyncio.Task[T]":
        """A task of that process."""
        context = copy_context()
        context.run(PROCESS.set, process)
        task = self.loop.create_task(work, context=context)
        self.tasks.append(task)
        return task

    def run(self, drive: Callable[[], Awaitable[None]]) -> None:
        """Run `drive` until it ends or something is violated; then end everything else."""
        state = random.getstate()
        random.seed(self.seed)  # of the libraries' own pauses
        token = PROCESS.set(None)  # said, so that who drives is no process, whichever wakes it
        try:
            self.loop.run_until_complete(self._driven(drive))
        except Endless:
            self.violated("it goes on for ever, and time does not")
        finally:
            self._end()
            PROCESS.reset(token)
            random.setstate(state)

    async def _driven(self, drive: Callable[[], Awaitable[None]]) -> None:
        self._broken = self.loop.create_future()
        driving = asyncio.ensure_future(drive())
        await asyncio.wait({driving, self._broken}, return_when=asyncio.FIRST_COMPLETED)
        if driving.done():
            driving.result()
        driving.cancel()

    def _end(self) -> None:
        """Wake what was killed, cancel all, and let it end where nothing can be reached."""
        self.over = True
        loop = self.loop
        loop.set_exception_handler(lambda _loop, _context: None)
        for process in self._ever:
            if process.stopped:
                loop.resume(process)
        loop.begin_anew(ENDING_STEPS)
        with suppress(Endless):
            for _ in range(20):
                left = asyncio.all_tasks(loop)
                if not left:
                    break
                for task in left:
                    task.cancel()
                loop.run_until_complete(asyncio.sleep(1.0))
        for task in asyncio.all_tasks(loop):
            task._log_destroy_pending = False  # it outlived twenty cancellations
        loop.close()


UNSENT = "unsent "
"""Before the name of a call that has not reached the server yet: whatever happens to the server then breaks nothing."""


class Part:
    """A server as its clients reach it: it may be away, hang, or break connections before or after an effect.

    A command that a hanging server was sent may have its effect once the server goes on, when its client has long given
    up. `epoch` changes when the server loses its connections.
    """

    def __init__(self, world: World, error: Callable[[str], Exception]) -> None:
        self.world = world
        self.error = error
        self.away = False
        self.flaky = 0.0
        """The share of calls that fail."""
        self.epoch = 0
        self._going_on: asyncio.Event | None = None
        self._sent: list[Callable[[], object]] = []

    @property
    def hangs(self) -> bool:
        return self._going_on is not None

    async def call(self, effect: Callable[[], T], name: str = "") -> T:
        """The answer to one command, whose effect is one step of the server. Raises `error`."""
        world = self.world
        await world.pause()
        if world.over:
            raise Over
        await _sprung(UNSENT + name, behind=False)
        epoch = self.epoch
        if self._going_on is not None:
            await self._waited(self._going_on, effect)
        if self.away:
            raise self.error("connection refused")
        await _sprung(name, behind=False)
        if self.epoch != epoch:
            raise self.error("the connection broke")
        failing = world.rng.random() if self.flaky else 1.0
        if failing < self.flaky / 2:
            raise self.error("the connection broke")
        answer = effect()
        await _sprung(name, behind=True)
        await world.pause()
        if failing < self.flaky or self.away or self.epoch != epoch:
            raise self.error("the connection broke before the answer")
        return answer

    def hang(self) -> None:
        self._going_on = asyncio.Event()

    def heal(self) -> None:
        """It answers as it should from now on; what hung goes on."""
        self.away, self.flaky = False, 0.0
        going_on, self._going_on = self._going_on, None
        if going_on is not None:
            sent, self._sent = self._sent, []
            for effect in sent:
                try:
                    effect()
                except Exception as refusal:  # noqa: BLE001  # nobody waits for the answer any more
                    self.world.note("refused late", type(refusal).__name__)
            going_on.set()

    def break_connections(self) -> None:
        self.epoch += 1

    async def _waited(self, going_on: asyncio.Event, effect: Callable[[], object]) -> None:
        try:
            async with asyncio.timeout(PATIENCE):
                await going_on.wait()
        except TimeoutError as error:
            if self._going_on is going_on and self.world.rng.random() < 0.5:
                self._sent.append(effect)
            raise self.error(f"no answer within {PATIENCE} s") from error


async def _sprung(name: str, *, behind: bool) -> None:
    """A process that is to be hit at work is hit here."""
    process = PROCESS.get()
    if not isinstance(process, SimulatedProcess) or process.trap is None or process.trapped_behind is not behind:
        return
    if name.startswith(process.trapped_at) and name.startswith(UNSENT) is process.trapped_at.startswith(UNSENT):
        trap, process.trap = process.trap, None
        trap()
        await asyncio.sleep(0)


def at_once(work: Coroutine[Any, Any, T]) -> T:
    """What a coroutine of an in-memory port returns, which never waits."""
    try:
        work.send(None)
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]  # untyped in its class
    raise AssertionError("a port in memory waited")
