"""Which generation serves first: one that was trained on just these data, or one trained now."""

import json
from pathlib import Path

import pytest

from models.generations.manifest import hash_json, read_manifest
from models.refresh.train import trained_before
from models.training.config import TrainingConfig
from tests.data_factory import dataset_of
from tests.towers_factory import artifacts


@pytest.fixture
def generations(tmp_path: Path) -> Path:
    """Generations 1, 2 and 10 were trained on these data, 3 on others, and 11 is damaged."""
    manifest = read_manifest(artifacts()[0]).model_dump(mode="json")
    training = hash_json(TrainingConfig().to_dict())
    for number in (1, 2, 3, 10):
        data = "others" if number == 3 else dataset_of([]).fingerprint
        own = {"number": number, "dataset_fingerprint": data, "training_fingerprint": training}
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "manifest.json").write_text(json.dumps(manifest | own), encoding="utf-8")
    (tmp_path / "11").mkdir()
    return tmp_path


@pytest.mark.parametrize(("spent", "chosen"), [(set(), "10"), ({10}, "2"), ({2, 3, 10}, "1"), ({1, 2, 3, 10}, None)])
def test_the_newest_that_can_still_be_published_is_chosen(
    generations: Path, spent: set[int], chosen: str | None
) -> None:
    passed_over: list[str] = []
    found = trained_before(
        dataset_of([]), TrainingConfig(), generations, spent, lambda step, _done, _total: passed_over.append(step)
    )
    assert (found.name if found is not None else None) == chosen
    assert ["11" in step for step in passed_over] == [True]


def test_of_another_configuration_there_is_none(generations: Path) -> None:
    assert trained_before(dataset_of([]), TrainingConfig(seed=7), generations, set()) is None


def test_without_a_folder_there_is_none(tmp_path: Path) -> None:
    assert trained_before(dataset_of([]), TrainingConfig(), tmp_path / "nowhere", set()) is None
