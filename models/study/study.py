"""A whole study: which towers, under which protocols, with which seeds; and what came out."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydantic.dataclasses
from pydantic import PositiveInt

from foretaste.kernel.configuration import NO_OTHER_FIELDS, raises_invalid_input
from foretaste.kernel.errors import InvalidInput
from foretaste.kernel.ports import Report, no_report
from models.data.dataset import Dataset
from models.rivals.methods import Method, by_name
from models.rivals.towers import Alike, TowerMethod
from models.study.fold import MAKES_NEW, OF_USERS, Fold, ProtocolName, check_protocols, sharing
from models.study.reporting import reported_fits
from models.study.rows import ResultRow, rows
from models.study.running import run
from models.study.scoring import Bench, Device, FitTask, forget, kept_vectors
from models.study.tuning import tuned_methods
from models.study.vectors import Vectors

OURS = "foretaste-"
"""Before the name of a ranking tower: the default's zero-shot tower and mixture around it. It is held against it."""
BASES = ("dnn", "dnn-flagged", "dnn-dropout", "item-attribute", "recent-popularity")
"""The trainings of BaseDNN and the two rivals that only count: every tower is held against those that take part."""


@raises_invalid_input
@pydantic.dataclasses.dataclass(frozen=True, slots=True, config=NO_OTHER_FIELDS)
class Study:
    """What a study compares: towers, protocols, seeds."""

    towers: tuple[str, ...]
    """Names that `methods.by_name` knows. The first is held against each of the others."""
    protocols: tuple[ProtocolName, ...] | None = None
    """None: those of which the data have new users."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Of the methods. The candidates, and who is made new, are the same for all of them."""
    against: tuple[str, ...] = BASES
    """Known towers that every other is held against; those that do not take part are passed over."""
    resamples: PositiveInt = 1000
    """Draws of the users, for the intervals."""
    jobs: PositiveInt = 1
    """Processes, a thread each."""
    device: Device = "cpu"
    alike: Alike | None = None
    """The same training for all towers, tuned or not; None: each as it was tuned. Other methods are as tuned anyway."""

    def __post_init__(self) -> None:
        """Raises `InvalidInput` naming the field."""
        for name in ("towers", "seeds"):
            values = getattr(self, name)
            if not values:
                raise InvalidInput(name, list(values), "names none")
            if len(set(values)) < len(values):
                raise InvalidInput(name, list(values), "names one twice")
        if self.protocols is not None:
            check_protocols(self.protocols)
        if min(self.seeds) < 0:
            raise InvalidInput("seeds", list(self.seeds), "must not be negative")
        for field in ("towers", "against"):
            for name in getattr(self, field):
                by_name(name, field)

    def asked_of(self, fold: Fold) -> tuple[ProtocolName, ...]:
        """The protocols of this study on a fold, whose data may have no users who are new by themselves."""
        if self.protocols is not None:
            return self.protocols
        return OF_USERS if fold.split.cold_users else MAKES_NEW

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """Each tower that is held against another, without repetition."""
        first, *others = self.towers
        wanted = [(first, other) for other in others]
        wanted += [(f"{OURS}{tower}", tower) for tower in self.towers if f"{OURS}{tower}" in self.towers]
        wanted += [(tower, base) for base in self.against if base in self.towers for tower in self.towers]
        return [pair for pair in dict.fromkeys(wanted) if pair[0] != pair[1]]


@dataclass(frozen=True, eq=False, slots=True)
class Contender:
    """A tower of a study: its method, and which trial of its tuning that is; None: never tuned."""

    name: str
    method: Method
    trial: int | None
    seconds: float
    """Of a fit, the mean over the seeds, when it was made."""
    vectors: Vectors | None
    """Of the first seed, for the figures."""


@dataclass(frozen=True, eq=False, slots=True)
class Result:
    """The figures of a study, and what made them."""

    study: Study
    protocols: tuple[ProtocolName, ...]
    fold: Fold
    rows: Sequence[ResultRow]
    contenders: Sequence[Contender]
    counts: dict[tuple[ProtocolName, str], tuple[int, int]]
    """Users and rows of each group of each protocol."""
    seconds: float
    """On the wall, for the whole of it, with what was in the cache."""


def evaluate(
    dataset: Dataset,
    study: Study,
    home: Path,
    tuned: Path,
    *,
    fresh: bool = False,
    report: Report = no_report,
    clock: Callable[[], float] = time.perf_counter,
) -> Result:
    """Run a study. Scores are kept under `home`, and made again where `fresh`; `tuned` is the record of tuning, if any.

    1. the settings that were chosen; 2. the questions; 3. each method with each seed; 4. the figures and the pairs.
    """
    started = clock()
    fold = Fold.of(dataset)
    methods = _methods(study, fold, tuned)  # 1
    report("questions", 0, 1)
    asked = study.asked_of(fold)
    bench = Bench.of(fold, asked, home, resamples=study.resamples, device=study.device)  # 2
    report("questions", 1, 1)
    tasks = [
        FitTask(name, method, seed, protocols)
        for name, (method, _) in methods.items()
        for seed in study.seeds
        for protocols in sharing(asked)
    ]
    if fresh:
        forget(bench, tasks)
    outcomes = run(bench, tasks, study.jobs, reported_fits(bench, tasks, study.jobs, report))  # 3
    found = rows(outcomes, study.pairs)  # 4
    contenders = [
        Contender(
            name,
            method,
            trial,
            float(np.mean([outcome.seconds for outcome in outcomes if outcome.tower == name])),
            kept_vectors(bench, FitTask(name, method, study.seeds[0], ())),
        )
        for name, (method, trial) in methods.items()
    ]
    return Result(study, asked, fold, found, contenders, _counts(bench), clock() - started)


def _methods(study: Study, fold: Fold, tuned: Path) -> dict[str, tuple[Method, int | None]]:
    """Each method as it was tuned, and which trial that is; a tower trained as all are where they are trained alike."""
    if study.alike is None:
        return tuned_methods(study.towers, fold, tuned)
    alike = {name: study.alike.of(by_name(name)) for name in study.towers}
    others = tuned_methods([name for name in study.towers if not isinstance(alike[name], TowerMethod)], fold, tuned)
    return {name: others.get(name, (alike[name], None)) for name in study.towers}


def _counts(bench: Bench) -> dict[tuple[ProtocolName, str], tuple[int, int]]:
    counts = {}
    for name, questions in bench.questions.items():
        users = questions.user_of_row
        for place, group in enumerate(questions.groups):
            of_group = questions.group == place
            counts[name, group] = (len(np.unique(users[of_group])), int(of_group.sum()))
    return counts
