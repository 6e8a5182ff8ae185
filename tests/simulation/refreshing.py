"""Processes that refresh: the real learning way from the lease to the retirement, without the towers' training."""

import asyncio
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from foretaste.kernel.errors import ForetasteError, InvalidInput
from foretaste.kernel.generations import Generation, slot
from foretaste.kernel.leasing import LeaseHeld
from foretaste.kernel.ports import Report
from models.evaluation.verdict import Verdict
from models.generations import publish
from models.generations.publish import PublishParts, Reached
from models.refresh.parts import Learned, RefreshConfig, RefreshParts, RefreshRequest
from models.refresh.prepare import RefreshPlan
from models.refresh.records import (
    CountsBasis,
    CountsFrom,
    LearningRecord,
    RefreshRecord,
    RefreshRecords,
    UnfinishedRefresh,
)
from models.refresh.refresh import refresh
from streams.parts import SignUpParts
from streams.reenrichment import Reenrichment, ReenrichmentConfig
from streams.topics import TopicNames
from tests.simulation.actors import CONNECTION
from tests.simulation.parts.broker import SimulatedEvents
from tests.simulation.parts.client import GroupPositions
from tests.simulation.parts.store import SimulatedGenerations, SimulatedLease, SimulatedProgress, SimulatedStore
from tests.simulation.parts.towers import ITEMS, SimulatedTowers, generation_of
from tests.simulation.parts.world import SimulatedProcess

if TYPE_CHECKING:
    from tests.simulation.system import System

NAMES = TopicNames()
REQUEST = RefreshRequest(RefreshPlan(device="cpu"), window_days=1.0)
LEASE_SECONDS = 3.0
ADMITTED, REFUSED = Verdict(decision="pass", reasons=("better",)), Verdict(decision="fail", reasons=("worse",))
FILLING = ReenrichmentConfig(pages=1, grace=0.5, look_every=0.3, patience=20.0)
HELD_OUT: Any = None
NOWHERE = Path("/nowhere")


@dataclass(eq=False)
class Home:
    """The disk of one machine: its records, and its candidates by number with the name of their training."""

    unfinished: UnfinishedRefresh | None = None
    records: dict[str, RefreshRecord] = field(default_factory=dict)
    candidates: dict[int, str] = field(default_factory=dict)
    refused: set[int] = field(default_factory=set)
    """Candidates that the gate does not admit, however often it judges."""


class SimulatedRecords(RefreshRecords):
    """The records of a refresh on a simulated disk."""

    def __init__(self, home: Home) -> None:
        super().__init__(NOWHERE)
        self._home = home

    def unfinished(self) -> UnfinishedRefresh | None:
        return self._home.unfinished

    def keep(self, run: UnfinishedRefresh) -> UnfinishedRefresh:
        self._home.unfinished = run
        return run

    def forget(self) -> None:
        self._home.unfinished = None

    def add(self, record: RefreshRecord) -> None:
        self._home.records[record.id] = record

    def all(self) -> list[RefreshRecord]:
        return [self._home.records[each] for each in sorted(self._home.records)]


class CandidateFolder:
    """The folder of a candidate, which is there once it is exported."""

    def __init__(self, home: Home, number: int) -> None:
        self.home, self.number = home, number

    def is_dir(self) -> bool:
        return self.number in self.home.candidates


class SimulatedPublishParts(PublishParts):
    """What publishing works on, with folders on a simulated disk."""

    disk: Home

    def artifact(self, number: int) -> Any:
        return CandidateFolder(self.disk, number)


@dataclass(eq=False)
class SimulatedLearner:
    """Makes candidates in some time and, as an export does, gives them the next number that is free here and there."""

    system: "System"
    home: Home
    generations: SimulatedGenerations

    async def basis(self, _number: int | None) -> CountsBasis:
        """Nobody is erased."""
        return CountsBasis(CountsFrom.BASE)

    async def learn(
        self, _request: RefreshRequest, run: UnfinishedRefresh, _stop: threading.Event, _report: Report
    ) -> Learned:
        learning = LearningRecord(rankings=1, impressions=1)
        if run.number is not None and run.number in self.home.candidates:
            return Learned(run.number, "it was trained before", HELD_OUT, run.learning or learning)
        await asyncio.sleep(self.system.world.rng.uniform(0.1, 1.5))
        lowest, _ = await publish.free_number(self.generations)
        number = max([lowest, *(each + 1 for each in self.home.candidates)])
        while run.base is not None and slot(number) == slot(run.base):
            number += 1
        self.home.candidates[number] = f"{run.id} {self.system.next_name()}"
        if self.system.world.rng.random() < 0.15:
            self.home.refused.add(number)
        self.system.world.note("exported", number)
        return Learned(number, "", HELD_OUT, learning)

    async def judge(self, _request: RefreshRequest, _run: UnfinishedRefresh, learned: Learned) -> Verdict:
        return REFUSED if learned.number in self.home.refused else ADMITTED


class HandledPages(GroupPositions):
    """The backlog of pages; notes when it was empty."""

    def __init__(self, system: "System") -> None:
        super().__init__(CONNECTION, NAMES.group, NAMES.reenrich)
        self._system = system

    async def remaining(self) -> int:
        remaining = await super().remaining()
        if not remaining:
            self._system.redis.handled_at = self._system.world.loop.time()
        return remaining


async def refresher(system: "System", process: SimulatedProcess, home: Home) -> None:
    """A process that refreshes until it is done, or asked to stop."""
    refreshing = asyncio.create_task(_refreshes(system, process, home))
    stopping = asyncio.create_task(process.asked_to_stop.wait())
    await asyncio.wait({refreshing, stopping}, return_when=asyncio.FIRST_COMPLETED)
    for task in (refreshing, stopping):
        task.cancel()
        await asyncio.wait({task})
    if not refreshing.cancelled() and (error := refreshing.exception()) is not None:
        system.world.violated(f"{process.name} ended by a defect: {error!r}")


async def _refreshes(system: "System", process: SimulatedProcess, home: Home) -> None:
    """Again and again, until users stop acting; then it ends what is unfinished."""
    world = system.world
    store, generations = SimulatedStore(system.redis), SimulatedGenerations(system.redis)
    towers, events = SimulatedTowers(system.triton), SimulatedEvents(system.broker)
    publishing = SimulatedPublishParts(towers, generations, NOWHERE, NOWHERE)
    object.__setattr__(publishing, "disk", home)
    parts = SignUpParts(store, towers, generations, events)
    filling = Reenrichment(
        parts,
        SimulatedProgress(system.redis),
        HandledPages(system),
        topic=NAMES.reenrich,
        config=FILLING,
        clock=world.loop.time,
    )
    await asyncio.sleep(world.rng.uniform(0.0, 2.0))
    while True:
        lease = SimulatedLease(system.redis, "refresh", LEASE_SECONDS)
        system.leases[process] = lease._held
        refreshing = RefreshParts(
            lease=lease,
            records=SimulatedRecords(home),
            unlogged=system.nothing_unlogged,
            learner=SimulatedLearner(system, home, generations),
            publish=publishing,
            reenrich=lambda number, report: filling.run(number, partial(report, "re-enrich")),
            config=RefreshConfig(lease_seconds=LEASE_SECONDS, log_settles=0.0),
            clock=process.now,
            monotonic=world.loop.time,
        )
        try:
            record = await refresh(refreshing, REQUEST)
        except LeaseHeld:
            await asyncio.sleep(1.0)
        except ForetasteError as error:
            world.note("refresh failed", type(error).__name__, error)
            await asyncio.sleep(world.rng.uniform(0.2, 1.0))
        else:
            world.note("refresh", record.outcome, record.number)
            system.refreshes += 1
            if system.acting_is_over:
                return
            await asyncio.sleep(world.rng.uniform(0.5, 3.0))


@contextmanager
def simulated_publishing(system: "System") -> Iterator[None]:
    """The steps of publishing that read and write files: on simulated disks instead."""
    triton = system.triton

    def record_of(folder: CandidateFolder) -> tuple[Generation, Mapping[str, float]]:
        record = generation_of(folder.number, folder.home.candidates[folder.number], 2 + folder.number % 3)
        return record, dict.fromkeys(ITEMS, 1 / len(ITEMS))

    def write_version(folder: CandidateFolder, _repository: Path, _device: str) -> None:
        training = folder.home.candidates[folder.number]
        if triton.published.setdefault(folder.number, training) != training:
            raise InvalidInput("generation", folder.number, "is published by another training")

    async def answering(towers: SimulatedTowers, _folder: object, number: int, reached: Reached) -> None:
        await towers.load(number)
        reached(3)
        reached(4)

    def withdraw(number: int, _repository: Path) -> None:
        triton.published.pop(number, None)

    with patch.multiple(
        publish,
        generation_record=record_of,
        write_version=write_version,
        _answering=answering,
        is_published=lambda number, _repository: number in triton.published,
        published=lambda _repository: sorted(triton.published),
        withdraw=withdraw,
    ):
        yield
