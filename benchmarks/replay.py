"""A dataset replayed week by week: what refreshed generations are worth to new users beside the first one kept.

Generation 1 learns from what lies before an instant. Each week is ranked by the generations as they stood when it
began; then it becomes a training log, and the newest generation is refreshed on it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from benchmarks.replay_judging import Answers, asked
from benchmarks.replay_log import Week, log_of, up_to, weeks_of
from benchmarks.replay_training import Kind, Trainer, Training
from benchmarks.stopwatch import Clock, now
from models.data.dataset import Dataset
from models.data.split import split_by_time
from models.log.join import joined
from models.log.window import LogWindow
from models.refresh.prepare import RefreshPlan
from models.training.config import TrainingConfig
from models.training.trained import Trained

OUTCOME_MS = 1
"""What was done about a ranking bears its time."""


@dataclass(frozen=True, slots=True)
class ReplayPlan:
    """What is replayed, and how."""

    since_ms: int | None = None
    """When generation 1 ends and the first week begins (epoch milliseconds); None: at the data's own split."""
    until_ms: int | None = None
    """Nothing is read of what comes later."""
    weeks: int | None = None
    """At most; None: for as long as each holds a new user."""
    negatives: int = 4
    """For each event of a ranking, where the data have no labels."""
    training: TrainingConfig = field(default_factory=TrainingConfig)
    """Of generation 1 and of every cold start."""
    refresh: RefreshPlan = field(default_factory=RefreshPlan)
    cold_weeks: Sequence[int] = (2, -1)
    """Weeks that a generation is asked too that was trained cold on all before; -1 is the last."""
    rounds: int = 1
    """How often such a cold start and the refresh at the same instant are made, in turn, for their seconds."""
    seed: int = 1
    """Of the log's negatives."""
    resamples: int = 1000
    """Draws of the users, for the intervals."""


@dataclass(frozen=True, slots=True)
class WeekLog:
    """How many rankings a week had, of how many items shown, and how many new users."""

    week: Week
    rankings: int
    impressions: int
    new_users: int


@dataclass(frozen=True, eq=False, slots=True)
class Replay:
    """What came of it: the log and the answers of each week, and the trainings."""

    logs: Sequence[WeekLog]
    answers: Sequence[Answers]
    trainings: Sequence[Training]


def replay(
    dataset: Dataset,
    plan: ReplayPlan,
    report: Callable[[str, int, int], None],
    home: Path | None = None,
    clock: Clock = now,
) -> Replay:
    """Replay the weeks. With `home`, generation 1 is kept there and found again.

    1. The newest generation is refreshed on the week before. 2. The week's rankings are put to the generations as they
    stand when it begins. `report(step, done, total)` hears of both. Raises `InvalidInput` for fewer than two weeks with
    new users.
    """
    known = dataset if plan.until_ms is None else up_to(dataset, plan.until_ms)
    since_ms = split_by_time(known).instant_ms if plan.since_ms is None else plan.since_ms
    weeks = weeks_of(known, since_ms, plan.until_ms, plan.weeks)
    cold = {number % (len(weeks) + 1) for number in plan.cold_weeks}
    trainer = Trainer(known, plan.training, plan.refresh, home, clock)
    report("train generation 1", 0, 1)
    first = newest = trainer.cold(weeks[0], "frozen")
    report("train generation 1", 1, 1)
    logs: list[WeekLog] = []
    answers: list[Answers] = []
    before: LogWindow | None = None
    for week in weeks:
        report("replay weeks", week.number - 1, len(weeks))
        asks: dict[Kind, Trained] = {"frozen": first}
        if before is not None:
            base, newest = newest, trainer.refreshed(week, before, newest)  # 1
            if week.number in cold:
                asks["cold"] = _cold(trainer, week, before, base, plan.rounds)
        window = joined(log_of(known, week, plan.negatives, plan.seed), OUTCOME_MS, week.until_ms)
        answers.append(asked(known, week, window, asks | {"refreshed": newest}))  # 2
        new_users = len(np.unique(answers[-1]["hidden"].persons))
        logs.append(WeekLog(week, len(window), len(window.labels), new_users))
        before = window
    report("replay weeks", len(weeks), len(weeks))
    return Replay(logs, answers, trainer.trainings)


def _cold(trainer: Trainer, week: Week, window: LogWindow, base: Trained, rounds: int) -> Trained:
    """On all before a week; again, in turn with the refresh before that week, for each further round."""
    trained = trainer.cold(week, "cold")
    for _ in range(rounds - 1):
        trainer.refreshed(week, window, base)
        trainer.cold(week, "cold")
    return trained
