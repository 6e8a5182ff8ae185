"""The settings that a training chooses for its data, and that later trainings take."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from foretaste.kernel.errors import InvalidInput
from models.rivals.methods import TRIALS
from models.rivals.towers import TowerMethod
from models.study.tuned_settings import TunedSettings, kept_settings, record_path, tune_settings
from tests.rivals_factory import base
from tests.study_parts import fold, with_garbage
from tests.towers_factory import config

SMALL = config(masked="nobody", rows=600, epochs=1, architecture=base().architecture)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def chosen(home: Path) -> TunedSettings:
    return _tuned(fold().dataset, home)


def _tuned(dataset: Any, home: Path) -> TunedSettings:
    """As `tune_settings` does, with trials of few steps."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("models.rivals.towers.lengthened", lambda settings: replace(settings, ranking_rate=0.002))
        return tune_settings(dataset, SMALL, home)


def test_the_best_trial_is_chosen_and_is_what_later_trainings_get(chosen: TunedSettings, home: Path) -> None:
    best = max(trial.criterion for trial in chosen.tuned.trials)
    assert chosen.tuned.trials[chosen.tuned.chosen].criterion == best
    assert len(chosen.configs) == TRIALS
    assert kept_settings(fold().dataset, SMALL, home) == chosen.config
    grown = replace(fold().dataset, fingerprint="of the day after")
    assert kept_settings(grown, SMALL, home) == chosen.config, "data go on, the settings stay"


def test_other_towers_and_other_data_have_no_settings_yet(chosen: TunedSettings, home: Path, tmp_path: Path) -> None:
    other = replace(SMALL, architecture=replace(SMALL.architecture, ranking="din"))
    assert kept_settings(fold().dataset, other, home) is None
    assert kept_settings(fold().dataset, SMALL, tmp_path) is None


def test_every_trial_is_shown_with_what_it_came_to(chosen: TunedSettings, home: Path) -> None:
    lines = chosen.lines()
    assert [line.startswith("chosen: ") for line in lines] == [place == chosen.tuned.chosen for place in range(TRIALS)]
    assert all(f"mean {trial.criterion:.4f}" in line for line, trial in zip(lines, chosen.tuned.trials, strict=True))
    assert "architecture.dropout=0.3" in lines[1]
    record = json.loads(record_path(home, fold().dataset).read_text(encoding="utf-8"))
    trials = record["towers"]["absent + dnn"]["trials"]
    assert [trial["criterion"] for trial in trials] == [one.criterion for one in chosen.tuned.trials]
    assert record["judged_by"] == ["hidden", "first_steps"]


def test_what_comes_after_the_split_changes_no_choice(chosen: TunedSettings, tmp_path: Path) -> None:
    assert _tuned(with_garbage(fold()).dataset, tmp_path).tuned == chosen.tuned


@pytest.mark.parametrize(
    "content", ["{", "[]", '{"towers": 1}', '{"towers": {"absent + dnn": {"chosen": 9, "trials": []}}}']
)
def test_a_record_that_cannot_be_read_is_refused_by_its_path(content: str, tmp_path: Path) -> None:
    path = record_path(tmp_path, fold().dataset)
    path.parent.mkdir()
    path.write_text(content, encoding="utf-8")
    with pytest.raises(InvalidInput, match=r"tuned settings: .*delete the file.*synthetic\.json"):
        kept_settings(fold().dataset, SMALL, tmp_path)


def test_a_trial_takes_smaller_steps_than_any_other() -> None:
    *others, slow = TowerMethod(SMALL).trials()
    assert slow.config.ranking_rate < min(one.config.ranking_rate for one in others) / 2
