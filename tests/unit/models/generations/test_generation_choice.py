"""Which generation the demo serves first: one that was trained on just its data, or one trained now."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from foretaste import jobs
from foretaste.settings import Settings
from models.generations.manifest import fingerprint

DATASET: Any = SimpleNamespace(fingerprint="these data")


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Generations 1, 2 and 10 were trained on these data, 3 on others; training writes 11."""
    settings = Settings(home=tmp_path)
    for number in (1, 2, 3, 10):
        (settings.generations / str(number)).mkdir(parents=True)
    training = fingerprint(jobs.training_config({}).to_dict())

    def manifest(folder: Path) -> SimpleNamespace:
        data = "others" if folder.name == "3" else DATASET.fingerprint
        return SimpleNamespace(dataset_fingerprint=data, training_fingerprint=training)

    monkeypatch.setattr("models.generations.manifest.read_manifest", manifest)
    monkeypatch.setattr(jobs, "train", lambda *_: settings.generations / "11")
    return settings


@pytest.mark.parametrize(("spent", "chosen"), [(set(), "10"), ({10}, "2"), ({2, 3, 10}, "1"), ({1, 2, 3, 10}, "11")])
def test_the_newest_that_can_still_be_published_is_chosen(settings: Settings, spent: set[int], chosen: str) -> None:
    assert jobs.generation_for(settings, DATASET, spent, lambda *_: None).name == chosen


def test_one_is_trained_where_that_was_asked_for(settings: Settings) -> None:
    assert jobs.generation_for(settings, DATASET, set(), lambda *_: None, retrain=True).name == "11"
