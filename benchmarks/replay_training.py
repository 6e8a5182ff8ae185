"""The trainings of a replay, each by the functions that the commands use, and how long each took."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Literal, TypeAlias

from benchmarks.replay_log import Week
from benchmarks.stopwatch import Clock, now
from models.data.dataset import Dataset
from models.data.split import split_by_time
from models.generations.export import export
from models.generations.load import restore
from models.generations.manifest import fingerprint
from models.log.window import LogWindow
from models.refresh.prepare import RefreshPlan, prepare, refreshed
from models.training.config import TrainingConfig
from models.training.cotrain import cotrain
from models.training.trained import Trained

Kind: TypeAlias = Literal["frozen", "refreshed", "cold"]
"""Generation 1, as it stays; the newest of those refreshed from it; one trained anew on all before a week."""


@dataclass(frozen=True, slots=True)
class Training:
    """A training that ended before a week: rows read, steps taken, seconds on the wall and of the processor."""

    week: int
    kind: Kind
    rows: int
    steps: int
    seconds: float
    processor_seconds: float


@dataclass(frozen=True, eq=False, slots=True)
class Trainer:
    """Trains, and notes in `trainings` how long it took. With `home`, generation 1 is kept there and found again."""

    dataset: Dataset
    config: TrainingConfig
    plan: RefreshPlan
    home: Path | None = None
    clock: Clock = now
    trainings: list[Training] = field(default_factory=list)

    def cold(self, week: Week, kind: Kind) -> Trained:
        """On all that lies before a week, as `foretaste train` does."""
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
        """From the `base` on, on the log of what lies before a week, as `foretaste cotrain` does."""
        plan = replace(self.plan, device=self.config.device)
        return self._timed(week, "refreshed", len(window.labels), lambda: refreshed(prepare(window, base, plan)))

    def _name(self, week: Week) -> str:
        return f"{self.dataset.fingerprint[:16]}-{week.since_ms}-{fingerprint(self.config.to_dict())[:16]}"

    def _timed(self, week: Week, kind: Kind, rows: int, train: Callable[[], Trained]) -> Trained:
        begun = self.clock()
        trained = train()
        ended = self.clock()
        seconds, processor = ended.wall - begun.wall, ended.processor - begun.processor
        self.trainings.append(Training(week.number, kind, rows, len(trained.losses), seconds, processor))
        return trained


@dataclass(frozen=True, slots=True)
class Compared:
    """A refresh beside a cold start before one week: median seconds over `rounds` of each, taken in turn."""

    week: int
    rounds: int
    refresh_seconds: float
    cold_seconds: float
    refresh_processor_seconds: float
    cold_processor_seconds: float

    @property
    def ratio(self) -> float:
        """Of the processor's seconds, which a busy machine disturbs least."""
        return self.refresh_processor_seconds / self.cold_processor_seconds


def compared(trainings: Sequence[Training]) -> list[Compared]:
    """Of each week before which both were made."""
    found = []
    for week in sorted({each.week for each in trainings}):
        warm, cold = (
            [each for each in trainings if (each.week, each.kind) == (week, kind)] for kind in ("refreshed", "cold")
        )
        if warm and cold:
            found.append(
                Compared(
                    week,
                    min(len(warm), len(cold)),
                    *(median(each.seconds for each in some) for some in (warm, cold)),
                    *(median(each.processor_seconds for each in some) for some in (warm, cold)),
                )
            )
    return found
