"""The trainings of a replay, by the functions that the commands use, and the time of each."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Literal, TypeAlias

from benchmarks.refresh.week_log import Week
from benchmarks.timing import Clock, now
from models.data.dataset import Dataset
from models.data.split import split_by_time
from models.generations.export import export
from models.generations.load import restore
from models.generations.manifest import hash_json
from models.log.window import LogWindow
from models.refresh.prepare import RefreshPlan, prepare, refreshed
from models.training.config import TrainingConfig
from models.training.cotrain import cotrain
from models.training.trained import Trained

GenerationKind: TypeAlias = Literal["frozen", "refreshed", "cold"]
"""Generation 1, kept; the newest one refreshed from it; one trained from scratch on all data before a week."""


@dataclass(frozen=True, slots=True)
class TimedTraining:
    """A training that ended before a week: rows, steps, seconds on the wall and of the processor."""

    week: int
    kind: GenerationKind
    rows: int
    steps: int
    seconds: float
    processor_seconds: float


@dataclass(frozen=True, eq=False, slots=True)
class ReplayTrainer:
    """Trains the generations of a replay and times each. With `home`, generation 1 is kept and found there."""

    dataset: Dataset
    config: TrainingConfig
    plan: RefreshPlan
    home: Path | None = None
    clock: Clock = now
    trainings: list[TimedTraining] = field(default_factory=list)

    def cold(self, week: Week, kind: GenerationKind) -> Trained:
        """Train from scratch on all data before a week, as `foretaste train` does."""
        folder = self.home / self._name(week) if self.home is not None and kind == "frozen" else None
        if folder is not None and (folder / "1").is_dir():
            return restore(folder / "1")
        events = int((self.dataset.interactions["time_ms"] < week.since_ms).sum())
        rows = events if self.dataset.has_labels else events * (1 + self.config.negatives)
        split = split_by_time(self.dataset, week.since_ms)
        trained = self._timed(week, kind, rows, lambda: cotrain(self.dataset, split, self.config))
        if folder is not None:
            export(trained, self.dataset, {}, folder)
        return trained

    def refreshed(self, week: Week, window: LogWindow, base: Trained) -> Trained:
        """Refresh `base` on the log before a week, as `foretaste cotrain` does."""
        plan = replace(self.plan, device=self.config.device)
        return self._timed(week, "refreshed", len(window.labels), lambda: refreshed(prepare(window, base, plan)))

    def _name(self, week: Week) -> str:
        return f"{self.dataset.fingerprint[:16]}-{week.since_ms}-{hash_json(self.config.to_dict())[:16]}"

    def _timed(self, week: Week, kind: GenerationKind, rows: int, train: Callable[[], Trained]) -> Trained:
        started = self.clock()
        trained = train()
        ended = self.clock()
        seconds, processor = ended.wall - started.wall, ended.processor - started.processor
        self.trainings.append(TimedTraining(week.number, kind, rows, len(trained.losses), seconds, processor))
        return trained


@dataclass(frozen=True, slots=True)
class RefreshCost:
    """A refresh beside a cold start before one week: median seconds over `rounds` of each, taken in turn."""

    week: int
    rounds: int
    refresh_seconds: float
    cold_seconds: float
    refresh_processor_seconds: float
    cold_processor_seconds: float

    @property
    def ratio(self) -> float:
        """Processor seconds of the refresh ÷ those of the cold start, which a busy machine disturbs least."""
        return self.refresh_processor_seconds / self.cold_processor_seconds


def refresh_costs(trainings: Sequence[TimedTraining]) -> list[RefreshCost]:
    """The costs of each week before which both were trained."""
    found = []
    for week in sorted({each.week for each in trainings}):
        warm, cold = (
            [each for each in trainings if (each.week, each.kind) == (week, kind)] for kind in ("refreshed", "cold")
        )
        if warm and cold:
            found.append(
                RefreshCost(
                    week,
                    min(len(warm), len(cold)),
                    *(median(each.seconds for each in some) for some in (warm, cold)),
                    *(median(each.processor_seconds for each in some) for some in (warm, cold)),
                )
            )
    return found
