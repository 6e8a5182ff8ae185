import json

import pytest
import torch
from safetensors.torch import load_file

from models import artifact, files, parity
from models.export import export
from models.parity import ParityError, compare
from tests.towers_factory import METRICS, SMALL, artifacts, config, dataset, trained


def test_an_exported_generation_answers_as_it_was_trained():
    manifest = artifact.read_manifest(artifacts()[0])
    assert 0 <= manifest.parity <= 1e-5
    assert manifest.parity == pytest.approx(compare(trained(0), artifacts()[0]))


def test_towers_of_another_run_are_no_parity_and_the_error_says_by_how_much():
    with pytest.raises(ParityError, match="zero-shot tower differs by") as raised:
        compare(trained(1), artifacts()[0])
    assert raised.value.difference > 1e-3


def test_without_parity_nothing_is_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(parity, "TOLERANCE", -1.0)
    monkeypatch.setattr("models.export.export_towers", _copy_towers)
    with pytest.raises(ParityError):
        export(trained(0), dataset()[0], METRICS, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_of_two_exports_that_end_at_once_one_takes_the_next_number(tmp_path, monkeypatch):
    def slow(trained_towers, folder):
        _copy_towers(trained_towers, folder)
        if not (tmp_path / "1").exists():
            (tmp_path / "1").mkdir()
            (tmp_path / "1" / "theirs").touch()

    monkeypatch.setattr("models.export.export_towers", slow)
    assert export(trained(0), dataset()[0], METRICS, tmp_path) == tmp_path / "2"
    assert artifact.read_manifest(tmp_path / "2").number == 2
    assert {path.name for path in tmp_path.iterdir()} == {"1", "2"}
    assert [path.name for path in (tmp_path / "1").iterdir()] == ["theirs"]


def test_a_number_is_at_least_the_lowest_asked_for(tmp_path, monkeypatch):
    monkeypatch.setattr("models.export.export_towers", _copy_towers)
    for lowest, expected in ((5, "5"), (3, "6")):
        folder = export(trained(0), dataset()[0], METRICS, tmp_path, lowest=lowest)
        assert (folder.name, artifact.read_manifest(folder).number) == (expected, int(expected))


def test_what_a_killed_export_left_is_swept_by_the_next_a_day_later(tmp_path, monkeypatch):
    monkeypatch.setattr("models.export.export_towers", _copy_towers)
    (tmp_path / ".4.killed").mkdir()
    now = (tmp_path / ".4.killed").stat().st_mtime
    export(trained(0), dataset()[0], METRICS, tmp_path, clock=lambda: now + 3600)
    assert (tmp_path / ".4.killed").exists()
    export(trained(0), dataset()[0], METRICS, tmp_path, clock=lambda: now + 25 * 3600)
    assert not (tmp_path / ".4.killed").exists()


def _copy_towers(_, folder):
    for name in (files.ZERO_SHOT, files.RANKING):
        (folder / name).write_bytes((artifacts()[0] / name).read_bytes())


def test_generations_are_numbered_one_after_the_other():
    first, second = artifacts()
    assert (first.name, second.name) == ("1", "2")
    assert artifact.read_manifest(second).number == 2
    assert artifact.read_manifest(first).created_at == "2027-01-15T08:00:00+00:00"


def test_weights_are_all_there_without_pickle():
    folder = artifacts()[0]
    weights = load_file(folder / files.WEIGHTS)
    state = trained(0).model.state_dict()
    assert set(weights) == set(state)
    assert all(torch.equal(weights[name], state[name]) for name in state)
    assert {path.suffix for path in folder.iterdir()} == {".json", ".onnx", ".safetensors"}


def test_the_manifest_says_where_it_came_from():
    manifest = artifact.read_manifest(artifacts()[0])
    data, split = dataset()
    assert manifest.dataset == "synthetic"
    assert manifest.dataset_fingerprint == data.fingerprint
    assert manifest.split_ms == split.instant_ms
    expected = config(architecture=SMALL, warm_after=4).to_dict()
    assert manifest.training == json.loads(json.dumps(expected))
    assert manifest.training_fingerprint == artifact.fingerprint(expected)
    assert manifest.sizes == {
        "attributes": 3,
        "context": 1,
        "behaviour": 100,
        "virtual_vectors": 3,
        "dimension": 8,
        "items": len(trained(0).encoding.items) + 2,
        "actions": 4,
    }
