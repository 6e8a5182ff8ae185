"""The whole system in one simulation: its parts, its processes, and its course from the first event to the verdict."""

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import count
from typing import Any
from unittest.mock import patch

import serving.active
import streams.reenrich_worker
import streams.reenrichment
import streams.watch.monitor
import streams.watch.rollback
from streams.topics import TopicNames
from streams.worker import aiokafka_consumer, runner
from streams.worker.health.stalling import StallWatch
from tests.simulation import actors
from tests.simulation.disturbances import Disturbances
from tests.simulation.erasure_invariants import ErasureInvariants
from tests.simulation.invariants import Invariants
from tests.simulation.judging import judge
from tests.simulation.parts.broker import Broker
from tests.simulation.parts.client import GroupPositions, SimulatedConsumer, check_answers
from tests.simulation.parts.log import Logged
from tests.simulation.parts.loop import ProcessState
from tests.simulation.parts.store import Redis
from tests.simulation.parts.towers import ITEMS, Triton, generation_of
from tests.simulation.parts.world import SimulatedProcess, World, at_once
from tests.simulation.plan import ACTIVE, Plan, plan_of
from tests.simulation.reference import Reference
from tests.simulation.refreshing import Home, refresher, simulated_publishing
from tests.simulation.users import Users

NAMES = TopicNames()
SETTLES_WITHIN = 150.0
"""Seconds after the last fault within which all that was sent must have had its effect."""
LOOK_EVERY = 0.5
LAST_RANKINGS = 9
"""Of all users together, at least: a watch needs some before it judges."""


class System:
    """Made by one seed; `run` drives it to its end, and `world.violations` tells what was wrong."""

    def __init__(self, seed: int, *, keep_trace: bool = False) -> None:
        world = self.world = World(seed, keep_trace=keep_trace)
        self.plan: Plan = plan_of(world.rng)
        world.latency = self.plan.latency
        self.broker = Broker(world)
        self.redis = Redis(world)
        self.triton = Triton(world, self.plan.bad_generations)
        self.triton.prepares, self.triton.seconds = self.plan.prepares, self.plan.tower_seconds
        self.logged = Logged(world, exact=self.plan.exact_times)
        self.reference = Reference()
        self.leases: dict[ProcessState, object] = {}
        """The lease that each process which refreshes may hold."""
        self.lost_something = False
        """The store lacks, or lacked, what it had acknowledged."""
        self.acting_is_over = False
        self.refreshes = 0
        self.invariants = Invariants(self)
        self.erasures = ErasureInvariants(self)
        self.users = Users(self)
        self.disturbances = Disturbances(self)
        self.homes = [Home(), Home()]
        self._names = count(1)

    def run(self) -> None:
        with simulated_libraries(self.world), simulated_publishing(self):
            self.world.run(self._course)

    def next_name(self) -> str:
        return f"x{next(self._names)}"

    def quiet_for(self, seconds: float) -> bool:
        """No fault was at work for so long."""
        return self.disturbances.quiet_for(seconds)

    async def nothing_unlogged(self) -> int:
        return 0

    def mains(self) -> dict[str, Any]:
        """The processes, by name: what each runs."""
        plan = self.plan
        found: dict[str, Any] = {f"worker-{each}": partial(actors.user_worker, self) for each in range(plan.workers)}
        if plan.rankings:
            found["service"] = partial(actors.ranking_service, self)
        if plan.watch:
            found["watch"] = partial(actors.watch, self)
        if plan.log:
            found["log"] = partial(actors.log_worker, self)
        for each in range(plan.refreshers):
            home = self.homes[0 if plan.shared_home else each]
            found[f"refresh-{each}"] = partial(self._refresher, home)
        return found

    async def _refresher(self, home: Home, process: SimulatedProcess) -> None:
        await refresher(self, process, home)

    async def _course(self) -> None:
        """1. the first generation is published; 2. all processes start; 3. users act and faults come; 4. faults end,
        and everything settles within its time; 5. each user is ranked for once more; 6. the verdict."""
        self.publish_by_hand(1)  # 1
        if self.plan.loses:
            self.redis.keep_history()
        for name, main in self.mains().items():  # 2
            self.world.start(name, main)
        expiring = asyncio.ensure_future(self._expire())
        await asyncio.gather(self.users.act(), self.disturbances.come(), asyncio.sleep(ACTIVE))  # 3
        self.disturbances.end()  # 4
        self.acting_is_over = True
        self.world.note("faults are over")
        if not await self._settled():
            self.world.violated(f"not settled within {SETTLES_WITHIN:g} s: {self._unsettled()}")
            return
        if not await self._ranked_for_all():  # 5
            return
        expiring.cancel()
        judge(self)  # 6

    def publish_by_hand(self, number: int) -> None:
        """As a person does: a generation is loaded, recorded and active."""
        generations = self.redis.generations
        self.triton.published[number] = "first"
        self.triton.loaded.add(number)
        at_once(generations.record(generation_of(number), dict.fromkeys(ITEMS, 1 / len(ITEMS))))
        at_once(generations.activate(number, None))
        self.redis.written()

    def go_back(self) -> None:
        """A person moves the pointer to where it was before, if that still answers."""
        generations = self.redis.generations
        previous = generations._previous
        if previous is None or previous not in self.triton.loaded or previous not in generations._records:
            return
        at_once(generations.activate(previous, generations._active, "by hand"))
        self.world.note("rolled back", previous)
        self.redis.written()
        self.redis.pointed(f"activate {previous}")

    async def _expire(self) -> None:
        while True:
            await asyncio.sleep(1.0)
            self.broker.expire()

    async def _ranked_for_all(self) -> bool:
        """Again where the pointer moved meanwhile: a watch goes back once it has seen enough."""
        for _ in range(3):
            active = self.redis.generations._active
            await self._last_rankings()
            if not await self._settled():
                self.world.violated(f"the last rankings did not settle: {self._unsettled()}")
                return False
            await asyncio.sleep(2.0)
            if self.redis.generations._active == active:
                break
        return True

    async def _last_rankings(self) -> None:
        for _ in range(8):  # breakers close, and the service hears of the last move and prepares for it
            await asyncio.sleep(1.0)
            self.users.ask("u0")
        await asyncio.sleep(1.0)
        for _ in range(max(3, LAST_RANKINGS // self.plan.users)):
            for number in range(self.plan.users):
                task = self.users.ask(f"u{number}")
                if task is not None:
                    await task
            await asyncio.sleep(1.0)

    async def _settled(self) -> bool:
        """Whether nothing is left to do, within its time."""
        given_up = self.world.loop.time() + SETTLES_WITHIN
        while self._unsettled():
            if self.world.loop.time() > given_up:
                return False
            await asyncio.sleep(LOOK_EVERY)
        return True

    def _unsettled(self) -> list[str]:
        """What is left to do."""
        left = []
        lag = self.broker.lag(NAMES.group, (NAMES.registered, NAMES.behaved, NAMES.erased, NAMES.reenrich))
        if lag:
            left.append(f"{lag} events of users")
        if self.plan.log and (lag := self.broker.lag(NAMES.log_group, (NAMES.ranked, NAMES.behaved, NAMES.erased))):
            left.append(f"{lag} rows of the log")
        if self.plan.watch and (lag := self.broker.lag(actors.WATCHING.group, (NAMES.ranked, NAMES.behaved))):
            left.append(f"{lag} events that the watch has not seen")
        left += [
            f"{name} refreshes"
            for name, process in self.world.processes.items()
            if name.startswith("refresh") and process.task is not None and not process.task.done()
        ]
        return left


@contextmanager
def simulated_libraries(world: World) -> Iterator[None]:
    """What the real modules take from libraries and from Kafka by name, simulated; and some of their sizes, smaller."""
    with ExitStack() as patches:
        for owner, values in (
            (
                aiokafka_consumer,
                {"AIOKafkaConsumer": SimulatedConsumer, "LOOK_SECONDS": 4.0, "UNASSIGNED_SECONDS": 1.0},
            ),
            (
                runner,
                {
                    "check_answers": check_answers,
                    "KafkaPartitions": GroupPositions,
                    "StallWatch": partial(StallWatch, clock=world.loop.time),
                },
            ),
            (serving.active, {"ASKING_SECONDS": 0.5}),
            (streams.reenrichment, {"SHARE": 2}),
            (streams.reenrich_worker, {"SHARE": 2}),
            (streams.watch.monitor, {"LEAST_BLAMED": 2}),
            (streams.watch.rollback, {"LEAST_RANKINGS": 6, "LEAST_NON_FINITE": 2, "LEAST_NEW": 4}),
        ):
            patches.enter_context(patch.multiple(owner, **values))
        yield
