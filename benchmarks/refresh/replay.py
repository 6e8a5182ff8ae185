"""A dataset replayed week by week: refreshed generations beside the first one, judged on new users.

Generation 1 learns from what lies before an instant. Each week is ranked by the generations as they stood when it
began; then it becomes a training log, and the newest generation is refreshed on it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from benchmarks.refresh.scores import WeekScores, score_week
from benchmarks.refresh.trainings import GenerationKind, ReplayTrainer, TimedTraining
from benchmarks.refresh.week_log import Week, log_of, up_to, weeks_of
from benchmarks.timing import Clock, now
from models.data.dataset import Dataset
from models.data.split import split_by_time
from models.log.join import joined
from models.log.window import LogWindow
from models.refresh.prepare import RefreshPlan
from models.training.config import TrainingConfig
from models.training.trained import Trained

OUTCOME_MS = 1
"""Milliseconds in which behaviours join a ranking: in the replayed log they have the time of their ranking."""


@dataclass(frozen=True, slots=True)
class ReplayPlan:
    """The weeks that are replayed, how generations are trained, and what is timed."""

    since_ms: int | None = None
    """When generation 1 ends and the first week begins (epoch milliseconds); None: at the data's own split."""
    until_ms: int | None = None
    """Interactions at or after it are not read (epoch milliseconds)."""
    weeks: int | None = None
    """Number of weeks, at most; None: for as long as each holds a new user."""
    negatives: int = 4
    """Items shown beside each event of a ranking, where the data have no labels."""
    training: TrainingConfig = field(default_factory=TrainingConfig)
    """Of generation 1 and of every cold start."""
    refresh: RefreshPlan = field(default_factory=RefreshPlan)
    cold_weeks: Sequence[int] = (2, -1)
    """Weeks that are also ranked by a generation trained from scratch on all data before them; -1 is the last."""
    rounds: int = 1
    """How often such a cold start and the refresh of the same week are timed, in turn."""
    seed: int = 1
    """Seed of the log's negatives."""
    resamples: int = 1000
    """Number of bootstrap draws of the users, for the intervals."""


@dataclass(frozen=True, slots=True)
class WeekLog:
    """Number of rankings, shown items and new users of a week."""

    week: Week
    rankings: int
    impressions: int
    new_users: int


@dataclass(frozen=True, eq=False, slots=True)
class ReplayResult:
    """The result of a replay: the log and the scores of each week, and all trainings."""

    logs: Sequence[WeekLog]
    scores: Sequence[WeekScores]
    trainings: Sequence[TimedTraining]


def replay(
    dataset: Dataset,
    plan: ReplayPlan,
    report: Callable[[str, int, int], None],
    home: Path | None = None,
    clock: Clock = now,
) -> ReplayResult:
    """Replay the weeks. With `home`, generation 1 is kept there and found again.

    1. The newest generation is refreshed on the week before. 2. The generations, as they stand when the week begins,
    score its rankings. `report(step, done, total)` is called for each step. Raises `InvalidInput` for fewer than two
    weeks with new users.
    """
    known = dataset if plan.until_ms is None else up_to(dataset, plan.until_ms)
    since_ms = split_by_time(known).instant_ms if plan.since_ms is None else plan.since_ms
    weeks = weeks_of(known, since_ms, plan.until_ms, plan.weeks)
    cold = {number % (len(weeks) + 1) for number in plan.cold_weeks}
    trainer = ReplayTrainer(known, plan.training, plan.refresh, home, clock)
    report("train generation 1", 0, 1)
    first = newest = trainer.cold(weeks[0], "frozen")
    report("train generation 1", 1, 1)
    logs: list[WeekLog] = []
    scores: list[WeekScores] = []
    before: LogWindow | None = None
    for week in weeks:
        report("replay weeks", week.number - 1, len(weeks))
        generations: dict[GenerationKind, Trained] = {"frozen": first}
        if before is not None:
            base, newest = newest, trainer.refreshed(week, before, newest)  # 1
            if week.number in cold:
                generations["cold"] = _cold(trainer, week, before, base, plan.rounds)
        window = joined(log_of(known, week, plan.negatives, plan.seed), OUTCOME_MS, week.until_ms)
        scores.append(score_week(known, week, window, generations | {"refreshed": newest}))  # 2
        new_users = len(np.unique(scores[-1]["hidden"].persons))
        logs.append(WeekLog(week, len(window), len(window.labels), new_users))
        before = window
    report("replay weeks", len(weeks), len(weeks))
    return ReplayResult(logs, scores, trainer.trainings)


def _cold(trainer: ReplayTrainer, week: Week, window: LogWindow, base: Trained, rounds: int) -> Trained:
    """Train from scratch on all data before a week; in further rounds again, in turn with the refresh of that week."""
    trained = trainer.cold(week, "cold")
    for _ in range(rounds - 1):
        trainer.refreshed(week, window, base)
        trainer.cold(week, "cold")
    return trained
