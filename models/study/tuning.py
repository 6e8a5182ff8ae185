"""The settings of each method: as many trials for each, judged inside the training period by new and warm users."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from foretaste.kernel.errors import InvalidInput
from models.rivals.methods import TRIALS, Method, by_name
from models.study.protocols import NEW, WARM, Fold, ProtocolName
from models.study.running import run
from models.study.scoring import ALL, OWN, Bench, Device, FitOutcome, FitTask

SEED = 0
JUDGED: tuple[ProtocolName, ...] = ("hidden", "first_steps")


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


def tune(
    fold: Fold,
    towers: Sequence[str],
    home: Path,
    *,
    jobs: int = 1,
    device: Device = "cpu",
    fresh: bool = False,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> dict[str, Tuned]:
    """The trials of each tower. `progress` gets trials done and in all.

    Reads nothing at or after the fold's own instant.
    Raises `InvalidInput` for a method that has not `TRIALS` of them.
    """
    trials = {name: _trials(name) for name in towers}
    tasks = [FitTask(name, method, SEED, JUDGED) for name, methods in trials.items() for method in methods]
    bench = Bench.of(fold.validation(), JUDGED, home, resamples=0, device=device)
    done: list[FitTask] = []

    def report_fit(task: FitTask) -> None:
        done.append(task)
        progress(len(done), len(tasks))

    outcomes = run(bench, tasks, jobs, report_fit, fresh=fresh)
    figures = [_trial(task.method, outcome) for task, outcome in zip(tasks, outcomes, strict=True)]
    return {name: Tuned(tuple(figures[place * TRIALS : (place + 1) * TRIALS])) for place, name in enumerate(trials)}


def write_tuned(tuned: Mapping[str, Tuned], fold: Fold, path: Path) -> None:
    """Beside what the file holds of other towers on the same data; one of other data, or a damaged one, is replaced."""
    try:
        there = _read(path, fold) if path.is_file() else {}
    except InvalidInput:
        there = {}
    ours = {
        name: {"chosen": one.chosen, "trials": [_to_dict(trial) for trial in one.trials]} for name, one in tuned.items()
    }
    validation = fold.validation().split.instant_ms
    whole = {
        "data": fold.dataset.description.name,
        "fingerprint": fold.dataset.fingerprint,
        "split_ms": fold.split.instant_ms,
        "validation_split_ms": validation,
        "towers": dict(sorted((there | ours).items())),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(whole, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def tuned_methods(towers: Sequence[str], fold: Fold, path: Path) -> dict[str, tuple[Method, int | None]]:
    """Each tower's method with the settings that were chosen, and which trial that is; None: as it is, never tuned.

    Raises `InvalidInput` where the file is of other data, or a method has changed since it was tuned.
    """
    there = _read(path, fold) if path.is_file() else {}
    return {name: _chosen(name, there.get(name), path) for name in towers}


def settings_of(method: Method) -> str:
    """All settings, as text that is the same for the same settings."""
    return repr(method)


def _chosen(name: str, kept: Mapping[str, Any] | None, path: Path) -> tuple[Method, int | None]:
    if kept is None:
        return by_name(name), None
    methods, place = _trials(name), int(kept["chosen"])
    settings = [trial["settings"] for trial in kept["trials"]]
    if settings != [settings_of(method) for method in methods]:
        raise InvalidInput(
            "tuned", str(path), f"holds other settings of {name!r} than it has now: evaluate with --tune"
        )
    return methods[place], place


def _trials(name: str) -> Sequence[Method]:
    methods = by_name(name).trials()
    if len(methods) != TRIALS:
        raise InvalidInput("towers", name, f"has {len(methods)} trials; every method has {TRIALS}")
    return methods


def _trial(method: Method, outcome: FitOutcome) -> Trial:
    figures = outcome.estimates
    return Trial(
        settings_of(method),
        figures["hidden", OWN, NEW, "gauc"].value,
        figures["first_steps", OWN, ALL, "gauc"].value,
        figures["hidden", OWN, WARM, "gauc"].value,
    )


def _read(path: Path, fold: Fold) -> dict[str, Any]:
    try:
        whole = json.loads(path.read_text(encoding="utf-8"))
        made_on = (whole["fingerprint"], whole["split_ms"])
        towers: dict[str, Any] = whole["towers"]
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise InvalidInput("tuned", str(path), f"is no record of tuning: {error!r}") from error
    if made_on != (fold.dataset.fingerprint, fold.split.instant_ms):
        raise InvalidInput(
            "tuned",
            str(path),
            "was tuned on other data, or at another split: evaluate with --tune, or with another --out",
        )
    return towers


def _to_dict(trial: Trial) -> dict[str, str | float | None]:
    values = asdict(trial) | {"criterion": trial.criterion}
    return {key: None if isinstance(value, float) and math.isnan(value) else value for key, value in values.items()}


def _known(value: float) -> float:
    return -math.inf if math.isnan(value) else value
