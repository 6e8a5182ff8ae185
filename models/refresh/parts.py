"""What a refresh works on: ports and folders, opened once by the composition root, in memory in tests."""

import threading
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Protocol

from foretaste.kernel.leasing import Lease
from foretaste.kernel.ports import Clock, Coverage, Report
from models.evaluation.verdict import Verdict
from models.generations.publish import PublishParts
from models.refresh.prepare import RefreshPlan
from models.refresh.records import CountsBasis, LearningRecord, RefreshRecords, UnfinishedRefresh

if TYPE_CHECKING:
    from models.log.window import LogWindow


@dataclass(frozen=True, slots=True)
class RefreshRequest:
    """One refresh as it is requested: its training, its window, and what becomes of its candidate."""

    plan: RefreshPlan = field(default_factory=RefreshPlan)
    window_days: float | None = None
    """Days of the log; None: all that the active generation has not learned from."""
    force: bool = False
    """Publish whatever the gate decides; its verdict records that."""
    compile: bool = False
    """Compile the ranking tower."""

    @property
    def requested(self) -> dict[str, str | int | float | bool | None]:
        """All that decides what is learned, fit for JSON."""
        catalogue = None if self.plan.catalogue is None else str(self.plan.catalogue.resolve())
        return asdict(self.plan) | {"catalogue": catalogue, "window_days": self.window_days}


@dataclass(frozen=True, eq=False, slots=True)
class Learned:
    """What learning left. `number` is the candidate's; None where there was nothing to learn, for `reason`."""

    number: int | None
    reason: str
    held_out: "LogWindow"
    """The rankings that judge the candidate, and were not learned from."""
    record: LearningRecord


class Learner(Protocol):
    """Makes a candidate generation from the log, and the gate's verdict on it."""

    async def basis(self, number: int | None) -> CountsBasis:
        """What a refresh of generation `number` adds its counts to; None: there is no generation."""
        ...

    async def learn(
        self, request: RefreshRequest, run: UnfinishedRefresh, stop: threading.Event, report: Report
    ) -> Learned:
        """Raises `Stopped` soon after `stop` is set, before anything is exported."""
        ...

    async def judge(self, request: RefreshRequest, run: UnfinishedRefresh, learned: Learned) -> Verdict:
        """The verdict on `learned.number`, kept beside the generations."""
        ...


@dataclass(frozen=True, slots=True)
class RefreshConfig:
    """How a refresh goes on."""

    lease_seconds: float = 60.0
    """After which a refresh that died no longer stands in another's way."""
    log_settles: float = 10.0
    """Seconds by which a window ends before now: what was served since may still be on its way to the log."""
    keep: int = 2
    """Generations that stay loaded, the active one and the one before among them."""
    refused_days: float = 7.0
    """After which the files of a candidate that the gate refused are deleted."""


@dataclass(frozen=True, slots=True)
class RefreshParts:
    """All that a refresh reads and writes."""

    lease: Lease
    records: RefreshRecords
    unlogged: Callable[[], Awaitable[int]]
    """Events that Kafka holds by now and that the training log lacks although it was waited for."""
    learner: Learner
    publish: PublishParts
    reenrich: Callable[[int, Report], Awaitable[Coverage]]
    """Fills a generation: every cold or warming user gets its virtual behaviour."""
    config: RefreshConfig = field(default_factory=RefreshConfig)
    clock: Clock = time.time
    monotonic: Clock = time.monotonic
