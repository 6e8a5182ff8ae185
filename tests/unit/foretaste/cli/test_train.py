"""Which settings `foretaste train` trains with: those asked for, those kept for the data, or newly chosen ones."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from foretaste.cli.main import app
from foretaste.cli.train import passes, tuned_config
from foretaste.kernel.errors import InvalidInput
from models.study.tuned_settings import TunedSettings, record_path
from models.study.tuning import Trial, Tuned
from models.training.config import TrainingConfig
from tests.data_factory import write_dataset
from tests.study_parts import fold

CHOSEN = replace(TrainingConfig(), epochs=2, ranking_rate=0.0006, least_steps=1000).with_dropout(0.1)


def _tuned(home: Path, options: dict[str, Any], *, anew: bool = False) -> tuple[TrainingConfig, list[str]]:
    config = TrainingConfig(**options)
    return tuned_config(fold().dataset, config, home, options, lambda *_: None, anew=anew)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    path = record_path(tmp_path, fold().dataset)
    path.parent.mkdir()
    record = {"towers": {"effects + recency": {"chosen": 0, "trials": [{"config": CHOSEN.to_dict()}]}}}
    path.write_text(json.dumps(record), encoding="utf-8")
    return tmp_path


def test_kept_settings_are_used_and_that_is_said(home: Path) -> None:
    config, notices = _tuned(home, {"seed": 3, "device": "cpu"})
    assert config == replace(CHOSEN, seed=3, device="cpu")
    assert ["--untuned" in notice for notice in notices] == [True]


def test_what_is_asked_for_stays_as_asked(home: Path) -> None:
    config, _ = _tuned(home, {"seed": 0, "device": "cpu", "warm_after": 5} | passes(7))
    assert (config.epochs, config.warm_after, config.ranking_rate) == (7, 5, CHOSEN.ranking_rate)
    assert config.least_steps == 1, "those that were chosen ask for no more epochs"
    assert passes(None) == {}


def test_the_command_takes_exactly_the_epochs_that_are_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[TrainingConfig] = []

    def end(_dataset: Any, config: TrainingConfig, *_: Any) -> Any:
        asked.append(config)
        raise InvalidInput("training", 0, "is another test's")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("models.refresh.train.train", end)
    folder = write_dataset(tmp_path / "data", users=30, items=20, interactions=300)
    with pytest.raises(InvalidInput, match="another test's"):
        CliRunner().invoke(app, ["train", "--data", str(folder), "--epochs", "3"], catch_exceptions=False)
    assert [(config.epochs, config.least_steps) for config in asked] == [(3, 1)]


def test_where_nothing_is_kept_the_defaults_are_used_and_nothing_is_said(tmp_path: Path) -> None:
    assert _tuned(tmp_path, {"seed": 1, "device": "cpu"}) == (TrainingConfig(seed=1, device="cpu"), [])


def test_newly_chosen_settings_are_used_with_every_trial_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def choose(dataset: Any, config: TrainingConfig, *_: Any, **options: Any) -> TunedSettings:
        asked.append((config, options["device"]))
        tuned = Tuned((Trial("one", 0.5, 0.5, 0.5), Trial("other", 0.6, 0.6, 0.6)))
        return TunedSettings("effects + recency", [config, replace(CHOSEN, seed=9)], tuned)

    monkeypatch.setattr("models.study.tuned_settings.tune_settings", choose)
    config, notices = _tuned(tmp_path, {"seed": 4, "device": "cpu"}, anew=True)
    assert asked == [(TrainingConfig(seed=4, device="cpu"), "cpu")]
    assert config == replace(CHOSEN, seed=4, device="cpu")
    assert notices[0] == "tried: new 0.5000, first steps 0.5000, warm 0.5000, mean 0.5000: the defaults"
    assert notices[1].startswith("chosen: new 0.6000")
    assert str(record_path(tmp_path, fold().dataset)) in notices[2]
