"""A generation's files back to what its training left."""

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from foretaste.kernel.errors import DamagedArtifact, InvalidInput
from foretaste.kernel.files import hash_file
from models.data.dataset import read_dataset
from models.data.split import split_by_time
from models.data.vocabulary import grown
from models.effects.by_gradient.factors import DescentConfig
from models.effects.fit import EffectsConfig
from models.generations.export import export
from models.generations.load import restore, training_config_of
from models.runtime import layout as files
from models.towers.architecture import Architecture
from models.training.config import TrainingConfig
from models.training.cotrain import cotrain
from models.training.warm_start import WarmStart
from tests.data_factory import write_dataset
from tests.towers_factory import (
    METRICS,
    TINY,
    artifacts,
    config,
    dataset,
    expected_scores,
    expected_virtual,
    requests,
    trained,
)

pytestmark = pytest.mark.usefixtures("one_thread")


def test_restored_towers_answer_bit_for_bit_as_the_trained_ones() -> None:
    restored, wanted = restore(artifacts()[0]), requests()
    assert np.array_equal(expected_virtual(restored, wanted), expected_virtual(trained(), wanted))
    for found, expected in zip(expected_scores(restored, wanted), expected_scores(trained(), wanted), strict=True):
        assert np.array_equal(found, expected)
    assert not any(module.training for module in restored.model.modules())


def test_all_else_that_training_left_is_restored() -> None:
    restored, expected = restore(artifacts()[0]), trained()
    assert restored.config == expected.config
    assert restored.encoding.to_json() == expected.encoding.to_json()
    assert restored.split_ms == expected.split_ms
    assert np.array_equal(restored.mean_virtual, expected.mean_virtual)
    assert restored.mean_virtual.dtype == np.float32
    assert np.array_equal(restored.popularity, expected.popularity)
    assert restored.counts is not None
    assert expected.counts is not None
    assert restored.counts.until_ms == expected.counts.until_ms
    assert torch.equal(restored.counts.fit.bias, expected.counts.fit.bias)


def test_towers_without_counts_are_restored_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    exported = artifacts()[0]  # before the exporter is replaced, which may be what makes them
    monkeypatch.setattr("models.generations.export.export_towers", lambda towers, folder: _copied(exported, folder))
    monkeypatch.setattr("models.generations.probes.TOLERANCE", np.inf)
    plain = replace(trained(), counts=None)
    assert restore(export(plain, dataset()[0], METRICS, tmp_path)).counts is None


def _copied(source: Any, folder: Any) -> None:
    for name in (files.ZERO_SHOT, files.RANKING):
        shutil.copy(source / name, folder / name)


def test_torchs_own_generator_stays_as_it_is() -> None:
    before = torch.random.get_rng_state()
    restore(artifacts()[0])
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of a generation, to be damaged."""
    return shutil.copytree(artifacts()[0], tmp_path / "1")


def _changed_manifest(folder: Any, change: Any) -> None:
    path = folder / files.MANIFEST
    manifest = json.loads(path.read_text(encoding="utf-8"))
    change(manifest)
    path.write_text(json.dumps(manifest), encoding="utf-8")


@pytest.mark.parametrize("name", [files.ENCODING, files.WEIGHTS, files.POPULARITY, files.COUNTS])
def test_a_file_that_is_not_what_the_manifest_says_is_named(folder: Path, name: Any) -> None:
    (folder / name).write_bytes((folder / name).read_bytes()[:-1] + b"?")
    with pytest.raises(DamagedArtifact, match=name):
        restore(folder)
    (folder / name).unlink()
    with pytest.raises(DamagedArtifact, match=name):
        restore(folder)


def test_a_manifest_that_lacks_a_file_is_refused(folder: Path) -> None:
    _changed_manifest(folder, lambda manifest: manifest["files"].pop(files.WEIGHTS))
    with pytest.raises(DamagedArtifact, match=files.WEIGHTS):
        restore(folder)


def test_weights_of_other_towers_are_refused(folder: Path) -> None:
    _changed_manifest(folder, lambda manifest: manifest["training"]["architecture"].update(ranking="din"))
    with pytest.raises(DamagedArtifact, match=files.WEIGHTS):
        restore(folder)


def test_popularity_of_other_items_is_refused(folder: Path) -> None:
    (folder / files.POPULARITY).write_text('{"item-0": 1.0}', encoding="utf-8")
    hashed = hash_file(folder / files.POPULARITY)
    _changed_manifest(folder, lambda manifest: manifest["files"].update({files.POPULARITY: hashed}))
    with pytest.raises(DamagedArtifact, match=files.POPULARITY):
        restore(folder)


@pytest.mark.parametrize(
    "training",
    [
        TrainingConfig(),
        config(architecture=TINY, rows=100, masked="users", threads=None),
        config(architecture=Architecture(hidden=None), effects=EffectsConfig(folds=3, shrinkage=1.0), warm_after=7),
    ],
    ids=["default", "paper", "changed"],
)
def test_a_training_configuration_survives_json(training: Any) -> None:
    assert training_config_of(json.loads(json.dumps(training.to_dict()))) == training


def test_fields_of_a_later_version_are_passed_over_and_missing_ones_are_as_by_default() -> None:
    told = config(architecture=TINY).to_dict()
    told["momentum"] = told["architecture"]["depth"] = told["effects"]["counting"]["decay"] = 3
    del told["batch"], told["architecture"]["dropout"]
    found = training_config_of(told)
    expected = config(architecture=replace(TINY, dropout=Architecture().dropout), batch=TrainingConfig().batch)
    assert found == expected


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (lambda told: told.update(batch="many"), "training.batch"),
        (lambda told: told["architecture"].update(hidden=[16, "x"]), "training.architecture.hidden.1"),
        (lambda told: told.update(effects=None), "training.effects"),
        (lambda told: told.update(warm_after=0), "training.warm_after"),
        (lambda told: told["architecture"].update(ranking="nowhere:Tower"), "ranking"),
    ],
)
def test_a_configuration_that_cannot_be_is_refused_by_field(change: Callable[..., Any], field: str) -> None:
    told = json.loads(json.dumps(config(architecture=TINY).to_dict()))
    change(told)
    with pytest.raises(InvalidInput) as raised:
        training_config_of(told)
    assert raised.value.field == field


WRITTEN_BEFORE = Path(__file__).parent / "written_by_0_1"
"""A generation as it was written before towers, counts and configurations had the names that they have now."""


def test_a_generation_written_before_is_read_as_it_was(tmp_path: Path) -> None:
    restored = restore(WRITTEN_BEFORE)
    rows: list[dict[str, Any]] = [{"segment": "cook", "age": 30, "city": "north"}, {"segment": "gamer"}, {}]
    with torch.inference_mode():
        virtual = restored.zero_shot(torch.from_numpy(restored.encoding.encode_attributes(rows))).numpy()
    expected = [
        [[0.17735770344734192, 0.45800721645355225], [0.19061776995658875, -0.14451974630355835]],
        [[-0.3319017291069031, -0.6467058658599854], [0.14658431708812714, -0.0019811547826975584]],
        [[0.0, 0.0], [0.0, 0.0]],
    ]
    assert np.array_equal(virtual, np.array(expected, dtype=np.float32))
    config_then = json.loads((WRITTEN_BEFORE / files.MANIFEST).read_text(encoding="utf-8"))["training"]
    config_then["effects"] |= {"item_attributes": True, "popularity_with_time": True, "transitions": True}  # by default
    config_then["most_epochs"] = TrainingConfig().most_epochs  # likewise
    config_then["effects"] |= {"solver": "auto", "descent": asdict(DescentConfig())}  # likewise
    assert json.loads(json.dumps(restored.config.to_dict())) == config_then
    assert restored.counts is not None
    assert restored.counts.until_ms == 1702219245001
    assert restored.counts.past.counts.acted.sum() == pytest.approx(451.0)


def test_training_goes_on_from_a_generation_written_before(tmp_path: Path) -> None:
    before = restore(WRITTEN_BEFORE)
    data = read_dataset(write_dataset(tmp_path / "data", users=80, items=12, interactions=900, seed=1))
    encoding = grown(before.encoding, data)
    split = split_by_time(data, int(data.interactions["time_ms"].quantile(0.98)))
    later = cotrain(data, split, before.config, encoding=encoding, start=WarmStart.of(before, encoding))
    assert later.counts is not None
    assert later.counts.past.frequency.sum() > before.counts.past.frequency.sum()
    assert all(np.isfinite(step["ranking"]) for step in later.losses)
