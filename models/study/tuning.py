"""The settings of each method: as many trials for each, judged inside the training period by new and warm users."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from foretaste.kernel.errors import InvalidInput
from foretaste.kernel.ports import Report, no_report
from models.rivals.methods import TRIALS, Method, by_name
from models.study.fold import MAKES_NEW, PROTOCOLS, Fold, ProtocolName
from models.study.protocols import NEW, WARM
from models.study.reporting import reported_fits
from models.study.running import run
from models.study.scoring import ALL, OWN, Bench, Device, FitOutcome, FitTask, forget

SEED = 0
Judged = tuple[ProtocolName, ProtocolName]
"""Two protocols: of new users with behaviour hidden beside warm ones, and of new users' first steps."""
BY_THEMSELVES: Judged = ("hidden", "first_steps")
MADE: Judged = ("random_40", "random_40_steps")


@dataclass(frozen=True, slots=True)
class Trial:
    """GAUC of one setting on the validation window, nan for a group of nobody."""

    settings: str
    hidden_new: float
    first_steps: float
    """All steps together."""
    warm: float

    @property
    def criterion(self) -> float:
        """The mean of the three, of those that exist."""
        known = [value for value in (self.hidden_new, self.first_steps, self.warm) if not math.isnan(value)]
        return sum(known) / len(known) if known else math.nan


@dataclass(frozen=True, slots=True)
class Tuned:
    """The trials of a method, and which of them is chosen: the best, the earlier of two alike."""

    trials: tuple[Trial, ...]

    @property
    def chosen(self) -> int:
        return max(range(len(self.trials)), key=lambda place: (_known(self.trials[place].criterion), -place))


def judged_by(fold: Fold, protocols: Sequence[ProtocolName] = PROTOCOLS) -> Judged:
    """By what the trials for a study under `protocols` are judged.

    By those who are new by themselves, unless the study asks of none of these or its validation window has none.
    """
    if all(name in MAKES_NEW for name in protocols) or not fold.validation.split.cold_users:
        return MADE
    return BY_THEMSELVES


def tune(
    fold: Fold,
    methods: Mapping[str, Method],
    home: Path,
    *,
    judged: Judged = BY_THEMSELVES,
    jobs: int = 1,
    device: Device = "cpu",
    fresh: bool = False,
    report: Report = no_report,
) -> dict[str, Tuned]:
    """The trials of each method by its name. `report` hears how long they will take, and of each method's hundredths.

    Reads nothing at or after the fold's own instant, nor anything of users whom its protocols make new there.
    Raises `InvalidInput` for a method that has not `TRIALS` of them.
    """
    trials = {name: _trials(name, method) for name, method in methods.items()}
    tasks = [FitTask(name, method, SEED, judged) for name, tried in trials.items() for method in tried]
    bench = Bench.of(fold.under(judged[0]).validation, judged, home, resamples=0, device=device)
    if fresh:
        forget(bench, tasks)
    outcomes = run(bench, tasks, jobs, reported_fits(bench, tasks, jobs, report, "tune "))
    figures = [_trial(task.method, outcome, judged) for task, outcome in zip(tasks, outcomes, strict=True)]
    return {name: Tuned(tuple(figures[place * TRIALS : (place + 1) * TRIALS])) for place, name in enumerate(trials)}


def write_tuned(tuned: Mapping[str, Tuned], fold: Fold, path: Path, judged: Judged = BY_THEMSELVES) -> None:
    """Beside what the file holds of other towers; one of other data, of other users, or a damaged one, is replaced."""
    try:
        there = _read(path, fold, judged) if path.is_file() else {}
    except InvalidInput:
        there = {}
    ours = {
        name: {
            "chosen": one.chosen,
            "trials": [{"settings": trial.settings, **trial_figures(trial)} for trial in one.trials],
        }
        for name, one in tuned.items()
    }
    validation = fold.under(judged[0]).validation.split.instant_ms
    whole = {
        "data": fold.dataset.description.name,
        "fingerprint": fold.dataset.fingerprint,
        "split_ms": fold.split.instant_ms,
        "validation_split_ms": validation,
        "judged_by": judged,
        "towers": dict(sorted((there | ours).items())),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(whole, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def tuned_methods(towers: Sequence[str], fold: Fold, path: Path) -> dict[str, tuple[Method, int | None]]:
    """Each tower's method with the settings that were chosen, and which trial that is; None: as it is, never tuned.

    Raises `InvalidInput` where the file is of other data, or a method has changed since it was tuned.
    """
    there = _read(path, fold) if path.is_file() else {}
    return {name: _chosen(name, by_name(name), there.get(name), path) for name in towers}


def settings_of(method: Method) -> str:
    """All settings, as text that is the same for the same settings."""
    return repr(method)


def _chosen(name: str, method: Method, kept: Mapping[str, Any] | None, path: Path) -> tuple[Method, int | None]:
    if kept is None:
        return method, None
    methods, place = _trials(name, method), int(kept["chosen"])
    settings = [trial["settings"] for trial in kept["trials"]]
    if settings != [settings_of(method) for method in methods]:
        raise InvalidInput(
            "tuned", str(path), f"holds other settings of {name!r} than it has now: tune anew with --tune"
        )
    return methods[place], place


def _trials(name: str, method: Method) -> Sequence[Method]:
    methods = method.trials()
    if len(methods) != TRIALS:
        raise InvalidInput("towers", name, f"has {len(methods)} trials; every method has {TRIALS}")
    return methods


def _trial(method: Method, outcome: FitOutcome, judged: Judged) -> Trial:
    figures, (hidden, steps) = outcome.estimates, judged
    return Trial(
        settings_of(method),
        figures[hidden, OWN, NEW, "gauc"].value,
        figures[steps, OWN, ALL, "gauc"].value,
        figures[hidden, OWN, WARM, "gauc"].value,
    )


def _read(path: Path, fold: Fold, judged: Judged | None = None) -> dict[str, Any]:
    try:
        whole = json.loads(path.read_text(encoding="utf-8"))
        made_on = (whole["fingerprint"], whole["split_ms"])
        towers: dict[str, Any] = whole["towers"]
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise InvalidInput("tuned", str(path), f"is no record of tuning: {error!r}") from error
    if judged is not None and whole.get("judged_by", list(BY_THEMSELVES)) != list(judged):
        raise InvalidInput("tuned", str(path), f"was not judged by {', '.join(judged)}")
    if made_on != (fold.dataset.fingerprint, fold.split.instant_ms):
        raise InvalidInput(
            "tuned",
            str(path),
            "was tuned on other data, or at another split: tune anew with --tune, or name another place for the record",
        )
    return towers


def trial_figures(trial: Trial) -> dict[str, float | None]:
    """The figures of a trial and their mean, as JSON keeps them: null for nan."""
    values = {name: getattr(trial, name) for name in ("hidden_new", "first_steps", "warm", "criterion")}
    return {name: None if math.isnan(value) else value for name, value in values.items()}


def _known(value: float) -> float:
    return -math.inf if math.isnan(value) else value
