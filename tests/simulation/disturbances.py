"""The faults of a plan, as they come and go."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from foretaste.kernel.errors import ForetasteError
from models.generations import publish
from tests.simulation.actors import MEMBERSHIP
from tests.simulation.parts.store import SimulatedGenerations
from tests.simulation.parts.towers import SimulatedTowers
from tests.simulation.parts.world import UNSENT, Part, SimulatedProcess
from tests.simulation.plan import Fault

if TYPE_CHECKING:
    from tests.simulation.system import System


SPOTS = (("", False), ("", True), ("read", True), ("write", False), ("write", False), ("write", True))
"""Where a process is hit at work: what the name of its call begins with, and whether it is hit behind the effect."""

LOST_AT = (("advance", False), (f"{UNSENT}write", False), (f"{UNSENT}write", False))
"""Likewise, where a worker is when the store loses something."""


class Disturbances:
    """Brings each fault at its time and takes it away after its duration; `end` takes all away."""

    def __init__(self, system: "System") -> None:
        self._system = system
        self._at_work = 0
        self._over_at = -100.0

    async def come(self) -> None:
        """All faults of the plan."""
        await asyncio.gather(*(self._one(fault) for fault in self._system.plan.faults))

    def quiet_for(self, seconds: float) -> bool:
        return not self._at_work and self._system.world.loop.time() - self._over_at >= seconds

    def end(self) -> None:
        """Every part is there and every process runs, from now on."""
        system = self._system
        for part in self._parts().values():
            part.heal()
        for process in list(system.world.processes.values()):
            if process.stopped:
                system.world.loop.resume(process)
        for name, main in system.mains().items():
            if name not in system.world.processes:
                system.world.start(name, main)

    def _parts(self) -> dict[str, Part]:
        system = self._system
        return {"redis": system.redis, "broker": system.broker, "triton": system.triton, "log": system.logged}

    async def _one(self, fault: Fault) -> None:
        await asyncio.sleep(fault.at)
        self._system.world.note("FAULT", fault.kind, fault.target, f"{fault.seconds:.1f}", fault.amount)
        self._at_work += 1
        try:
            await self._brought(fault)
        finally:
            self._at_work -= 1
            self._over_at = self._system.world.loop.time()
            self._system.world.note("over", fault.kind)

    async def _brought(self, fault: Fault) -> None:
        part, _, way = fault.kind.partition(" ")
        if part in self._parts() and way in ("away", "hangs", "flaky"):
            await self._hurt(self._parts()[part], way, fault)
            return
        process = _OF_PROCESSES.get(fault.kind)
        if process is not None:
            await process(self, fault)
            return
        match fault.kind:
            case "evict":
                self._system.broker.evict(fault.target)
            case "lost commits":
                self._system.broker.lose_commits()
            case "clock step" | "broker clock step":
                self._step_clock(fault)
            case "rollback":
                await self._roll_back(fault)
            case _:
                await self._lose(fault)

    async def _hurt(self, part: Part, way: str, fault: Fault) -> None:
        if way == "away":
            part.away = True
            part.break_connections()
        elif way == "hangs":
            if not part.hangs:
                part.hang()
        else:
            part.flaky = 0.3
        await asyncio.sleep(fault.seconds)
        part.heal()

    def _target(self, fault: Fault) -> str:
        """A process: in half of the cases a worker, or one that refreshes where the plan is about these."""
        names = sorted(self._system.world.processes)
        kind = "refresh" if self._system.plan.theme == "refreshes" else "worker"
        workers = [each for each in names if each.startswith(kind)]
        chosen = workers if fault.target % 2 and workers else names
        return chosen[fault.target // 2 % len(chosen)] if chosen else ""

    async def _end_one(self, fault: Fault) -> None:
        world, name = self._system.world, self._target(fault)
        process = world.processes.get(name)
        if process is None or process.stopped:
            return
        if fault.kind == "leave":
            process.asked_to_stop.set()
        elif fault.kind == "kill" or not await self._trapped(process, fault, lambda: world.kill(name)):
            world.kill(name)
        await asyncio.sleep(fault.seconds / 2)
        main = self._system.mains().get(name)
        if main is not None and world.processes.get(name, process) is process:
            world.processes.pop(name, None)
            world.start(name, main)

    async def _freeze(self, fault: Fault) -> None:
        world, name = self._system.world, self._target(fault)
        process = world.processes.get(name)
        if process is None or process.stopped:
            return

        def freeze() -> None:
            world.note("freeze", name)
            process.stopped = True

        if fault.kind == "freeze" or not await self._trapped(process, fault, freeze):
            freeze()
        ends = world.loop.time() + fault.seconds
        if fault.spot // 10 % 2 and fault.seconds > MEMBERSHIP.session_timeout:
            await self._taken_over(name, fault.seconds)
        else:
            await asyncio.sleep(ends - world.loop.time())
        if world.processes.get(name) is process:
            world.note("thaw", name)
            world.loop.resume(process)

    async def _taken_over(self, frozen: str, seconds: float) -> None:
        """Until another worker has read what it is going to write over, or so long."""
        await asyncio.sleep(MEMBERSHIP.session_timeout)
        read = asyncio.Event()
        others = [
            process
            for name, process in self._system.world.processes.items()
            if name.startswith("worker") and name != frozen and not process.stopped and process.trap is None
        ]
        for process in others:
            process.trap, process.trapped_at, process.trapped_behind = read.set, "read", True
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds - MEMBERSHIP.session_timeout):
                await read.wait()
        for process in others:
            if process.trap == read.set:
                process.trap = None

    async def _trapped(
        self, process: SimulatedProcess, fault: Fault, hit: Callable[[], None], at: tuple[str, bool] | None = None
    ) -> bool:
        """Hit a process while it waits for the effect or the answer of a call; False where it makes none for long."""
        sprung = asyncio.Event()

        def trap() -> None:
            hit()
            sprung.set()

        process.trap = trap
        process.trapped_at, process.trapped_behind = at or SPOTS[fault.spot % len(SPOTS)]
        try:
            async with asyncio.timeout(fault.seconds / 2):
                await sprung.wait()
        except TimeoutError:
            if process.trap is not None:
                process.trap = None
                return False
        return True

    async def _join(self, fault: Fault) -> None:
        """One more worker for a while."""
        name = f"worker-more-{fault.target}"
        if name in self._system.world.processes:
            return
        process = self._system.world.start(name, self._system.mains()["worker-0"])
        await asyncio.sleep(fault.seconds)
        process.asked_to_stop.set()

    async def _lose(self, fault: Fault) -> None:
        """The store is away for a moment, or starts anew at once when a worker is about to ask it for something, and is
        without its newest writes, or without all."""
        system = self._system

        def lose() -> None:
            system.lost_something = True
            if fault.kind == "emptied":
                system.redis.empty(restarts=bool(fault.amount % 2))
            else:
                system.redis.lose(fault.amount, power_cut=fault.kind == "power cut")

        if not (fault.spot % 2 and await self._lost_at_work(fault, lose)):
            system.lost_something = True
            system.redis.away = True
            await asyncio.sleep(min(fault.seconds, 1.5))
            lose()
            system.redis.heal()
        if fault.kind == "emptied":
            await asyncio.sleep(1.0)
            system.publish_by_hand(1)
            system.redis.keep_history()

    async def _lost_at_work(self, fault: Fault, lose: Callable[[], None]) -> bool:
        """When a worker is about to tell how far it has come, or to write: False where none is."""
        system = self._system
        names = sorted(each for each in system.world.processes if each.startswith("worker"))
        process = system.world.processes.get(names[fault.target % len(names)]) if names else None
        if process is None or process.stopped or process.trap is not None:
            return False
        return await self._trapped(process, fault, lose, LOST_AT[fault.spot // 2 % len(LOST_AT)])

    def _step_clock(self, fault: Fault) -> None:
        """By up to an hour, either way."""
        seconds = (fault.amount - 6) * 600.0
        process = self._system.world.processes.get(self._target(fault))
        if fault.kind == "broker clock step":
            self._system.broker.ahead = seconds
        elif process is not None:
            process.ahead = seconds

    async def _roll_back(self, fault: Fault) -> None:
        """As a person does, who may change their mind; at work: when a refresh moves the pointer next, or has told how
        far its walk has come."""
        system = self._system
        refreshing = [each for name, each in sorted(system.world.processes.items()) if name.startswith("refresh")]
        at = ("activate", False) if fault.spot // 2 % 2 else ("progress", True)
        process = refreshing[fault.target % len(refreshing)] if fault.spot % 2 and refreshing else None
        if process is None or process.stopped or not await self._trapped(process, fault, system.go_back, at):
            await self._roll_back_by_command()
        if fault.spot // 10 % 2:
            await asyncio.sleep(0.7)
            system.go_back()

    async def _roll_back_by_command(self) -> None:
        system = self._system
        parts = publish.PublishParts(
            SimulatedTowers(system.triton), SimulatedGenerations(system.redis), publish.Path("/"), publish.Path("/")
        )
        try:
            await publish.rollback(parts, "by hand")
        except ForetasteError as error:
            system.world.note("no rollback", error)


_OF_PROCESSES = {
    "kill": Disturbances._end_one,
    "leave": Disturbances._end_one,
    "kill at work": Disturbances._end_one,
    "freeze": Disturbances._freeze,
    "freeze at work": Disturbances._freeze,
    "join": Disturbances._join,
}
