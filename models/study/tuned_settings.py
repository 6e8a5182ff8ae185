"""The settings of the towers that were chosen for a data set, kept so that later trainings on these data use them."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from foretaste.kernel.errors import InvalidInput
from foretaste.kernel.files import write_file
from foretaste.kernel.ports import Report, no_report
from models.data.dataset import Dataset
from models.data.times import utc_text
from models.rivals.towers import TowerMethod
from models.study.fold import Fold
from models.study.page import differing_settings, file_name
from models.study.scoring import Device
from models.study.tuning import Tuned, judged_by, trial_figures, tune
from models.training.config import TrainingConfig


@dataclass(frozen=True, slots=True)
class TunedSettings:
    """What was tried for two towers on a data set: (T,) configurations, and what each came to."""

    towers: str
    configs: Sequence[TrainingConfig]
    tuned: Tuned

    @property
    def config(self) -> TrainingConfig:
        """The one that was chosen."""
        return self.configs[self.tuned.chosen]

    def lines(self) -> list[str]:
        """A line a trial: GAUC of each group on the validation window, and the settings that are not the defaults."""
        usual = TrainingConfig()
        plain = [replace(config, seed=usual.seed, device=usual.device) for config in self.configs]
        return [
            f"{'chosen' if place == self.tuned.chosen else 'tried'}: new {_shown(trial.hidden_new)}, first steps "
            f"{_shown(trial.first_steps)}, warm {_shown(trial.warm)}, mean {_shown(trial.criterion)}: "
            f"{differing_settings(config) or 'the defaults'}"
            for place, (config, trial) in enumerate(zip(plain, self.tuned.trials, strict=True))
        ]


def tune_settings(
    dataset: Dataset,
    config: TrainingConfig,
    home: Path,
    *,
    jobs: int = 1,
    device: Device = "cpu",
    report: Report = no_report,
) -> TunedSettings:
    """Try settings around `config` inside the training period, write what was chosen under `home`, and return it.

    Judged on the last fifth of that period, by new and warm users (`models.study.tuning`); nothing after the split is
    read.
    """
    fold, method, towers = Fold.of(dataset), TowerMethod(config), _towers(config)
    judged = judged_by(fold)
    found = tune(fold, {towers: method}, home, judged=judged, jobs=jobs, device=device, report=report)[towers]
    configs = [one.config for one in method.trials()]
    path = record_path(home, dataset)
    kept = _read(path)["towers"] if path.is_file() else {}
    record = {
        "data": dataset.description.name,
        "fingerprint": dataset.fingerprint,
        "split": utc_text(fold.split.instant_ms),
        "judged_by": judged,
        "towers": kept
        | {
            towers: {
                "chosen": found.chosen,
                "trials": [
                    {"config": one.to_dict(), **trial_figures(trial)}
                    for one, trial in zip(configs, found.trials, strict=True)
                ],
            }
        },
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    write_file(path, json.dumps(record, indent=1, allow_nan=False) + "\n")
    return TunedSettings(towers, configs, found)


def kept_settings(dataset: Dataset, config: TrainingConfig, home: Path) -> TrainingConfig | None:
    """What was chosen for these towers on data of this name, whatever has been added to them since; None: nothing.

    Raises `InvalidInput` naming the file for one that is no such record.
    """
    path = record_path(home, dataset)
    if not path.is_file():
        return None
    found = _read(path)["towers"].get(_towers(config))
    if found is None:
        return None
    try:
        return TrainingConfig(**found["trials"][found["chosen"]]["config"])
    except (LookupError, TypeError) as error:
        raise _no_record(path, repr(error)) from error


def record_path(home: Path, dataset: Dataset) -> Path:
    """Where the settings for a data set are kept, by its name."""
    return home / "tuned" / f"{file_name(dataset.description.name)}.json"


def _towers(config: TrainingConfig) -> str:
    return f"{config.architecture.zero_shot} + {config.architecture.ranking}"


def _read(path: Path) -> Mapping[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise _no_record(path, str(error)) from error
    if not isinstance(found, dict) or not isinstance(found.get("towers"), dict):
        raise _no_record(path, "it names no towers")
    return found


def _no_record(path: Path, problem: str) -> InvalidInput:
    return InvalidInput("tuned settings", str(path), f"are no record of train --tune: {problem}; delete the file")


def _shown(value: float) -> str:
    return f"{value:.4f}"
