import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from foretaste.kernel.errors import DamagedArtifact, Unavailable
from models.generations import manifest as artifact
from models.generations import probes as probing
from models.generations.export import export
from models.generations.parity import PROBES, answered, compare
from models.generations.probes import ParityError, read_probes
from models.runtime import layout as files
from tests.tiny_disk import needs_a_disk, tiny_disk
from tests.towers_factory import (
    METRICS,
    SMALL,
    artifacts,
    config,
    dataset,
    expected_scores,
    expected_virtual,
    requests,
    trained,
)


@pytest.fixture(autouse=True)
def exported() -> None:
    """The towers that `_copy_towers` copies are there before a test puts it in place of the export."""
    artifacts()


def test_an_exported_generation_answers_as_it_was_trained() -> None:
    manifest = artifact.read_manifest(artifacts()[0])
    assert 0 <= manifest.parity <= 1e-5
    assert manifest.parity == pytest.approx(compare(answered(trained(0)), artifacts()[0]))


def test_towers_of_another_run_are_no_parity_and_the_error_says_by_how_much() -> None:
    with pytest.raises(ParityError, match="zero-shot tower differs by") as raised:
        compare(answered(trained(1)), artifacts()[0])
    assert raised.value.difference > 1e-3


def test_without_parity_nothing_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probing, "TOLERANCE", -1.0)
    monkeypatch.setattr("models.generations.export.export_towers", _copy_towers)
    with pytest.raises(ParityError):
        export(trained(0), dataset()[0], METRICS, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_of_two_exports_that_end_at_once_one_takes_the_next_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slow(trained_towers: Any, folder: Any) -> None:
        _copy_towers(trained_towers, folder)
        if not (tmp_path / "1").exists():
            (tmp_path / "1").mkdir()
            (tmp_path / "1" / "theirs").touch()

    monkeypatch.setattr("models.generations.export.export_towers", slow)
    assert export(trained(0), dataset()[0], METRICS, tmp_path) == tmp_path / "2"
    assert artifact.read_manifest(tmp_path / "2").number == 2
    assert {path.name for path in tmp_path.iterdir()} == {"1", "2"}
    assert [path.name for path in (tmp_path / "1").iterdir()] == ["theirs"]


def test_a_number_is_at_least_the_lowest_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("models.generations.export.export_towers", _copy_towers)
    for lowest, expected in ((5, "5"), (3, "6")):
        folder = export(trained(0), dataset()[0], METRICS, tmp_path, lowest=lowest)
        assert (folder.name, artifact.read_manifest(folder).number) == (expected, int(expected))


@pytest.mark.parametrize(("unlike", "expected"), [(None, "3"), (2, "3"), (1, "4")])
def test_a_number_is_never_in_the_slot_that_serves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unlike: int | None, expected: str
) -> None:
    monkeypatch.setattr("models.generations.export.export_towers", _copy_towers)
    (tmp_path / "2").mkdir()
    assert export(trained(0), dataset()[0], METRICS, tmp_path, unlike=unlike).name == expected


def test_what_a_later_run_needs_travels_along_under_its_hash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("models.generations.export.export_towers", _copy_towers)
    counted: Any = SimpleNamespace(save=lambda path: path.write_bytes(b"counts"))
    with_counts = replace(trained(0), counts=counted)
    folder = export(with_counts, dataset()[0], METRICS, tmp_path, base=4, profile='{"age": [1]}')
    manifest = artifact.read_manifest(folder)
    assert manifest.base == 4
    assert (folder / files.COUNTS).read_bytes() == b"counts"
    assert json.loads((folder / files.PROFILE).read_text()) == {"age": [1]}
    assert {files.COUNTS, files.PROFILE, files.PROBES} <= set(manifest.files)
    artifact.generation_record(folder)
    (folder / files.PROFILE).write_text("{}")
    with pytest.raises(DamagedArtifact, match=r"profile\.json"):
        artifact.generation_record(folder)


def test_a_manifest_of_an_earlier_version_has_no_base_and_no_probes(tmp_path: Path) -> None:
    kept = json.loads((artifacts()[0] / files.MANIFEST).read_text())
    del kept["base"], kept["files"][files.PROBES]
    (tmp_path / files.MANIFEST).write_text(json.dumps(kept))
    assert artifact.read_manifest(tmp_path).base is None
    assert read_probes(tmp_path) == []


def test_the_probes_hold_what_the_trained_towers_answer_bit_for_bit() -> None:
    probes = read_probes(artifacts()[0])
    assert len(probes) == PROBES
    for probe, request, virtual, scores in zip(
        probes, requests(PROBES, seed=0), *_answers(trained(0), PROBES), strict=True
    ):
        assert probe.request.items == request.items
        assert probe.request.attributes == request.attributes
        np.testing.assert_array_equal(probe.request.virtual, request.virtual)
        np.testing.assert_array_equal(probe.virtual, virtual)
        np.testing.assert_array_equal(probe.scores, scores)
        assert probe.virtual.dtype == probe.scores.dtype == np.float32


def _answers(towers: Any, count: Any) -> Any:
    wanted = requests(count, seed=0)
    return expected_virtual(towers, wanted), expected_scores(towers, wanted)


@needs_a_disk
@pytest.mark.parametrize("kilobytes", [4, 16, 48, 150, 300])
def test_a_disk_that_fills_during_an_export_is_named_and_nothing_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kilobytes: int
) -> None:
    monkeypatch.setattr("models.generations.export.export_towers", _copy_towers)
    with tiny_disk(tmp_path, kilobytes):
        with pytest.raises(Unavailable, match=f"no room is left in {tmp_path}"):
            export(trained(0), dataset()[0], METRICS, tmp_path)
        assert list(tmp_path.iterdir()) == []


def test_what_a_killed_export_left_is_swept_by_the_next_a_day_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("models.generations.export.export_towers", _copy_towers)
    (tmp_path / ".4.killed").mkdir()
    now = (tmp_path / ".4.killed").stat().st_mtime
    export(trained(0), dataset()[0], METRICS, tmp_path, clock=lambda: now + 3600)
    assert (tmp_path / ".4.killed").exists()
    export(trained(0), dataset()[0], METRICS, tmp_path, clock=lambda: now + 25 * 3600)
    assert not (tmp_path / ".4.killed").exists()


def _copy_towers(_: Any, folder: Any) -> None:
    for name in (files.ZERO_SHOT, files.RANKING):
        (folder / name).write_bytes((artifacts()[0] / name).read_bytes())


def test_generations_are_numbered_one_after_the_other() -> None:
    first, second = artifacts()
    assert (first.name, second.name) == ("1", "2")
    assert artifact.read_manifest(second).number == 2
    assert artifact.read_manifest(first).created_at == "2027-01-15T08:00:00+00:00"


def test_weights_are_all_there_without_pickle() -> None:
    folder = artifacts()[0]
    weights = load_file(folder / files.WEIGHTS)
    state = trained(0).model.state_dict()
    assert set(weights) == set(state)
    assert all(torch.equal(weights[name], state[name]) for name in state)
    assert {path.suffix for path in folder.iterdir()} <= {".json", ".onnx", ".safetensors", ".npz"}


def test_the_manifest_says_where_it_came_from() -> None:
    manifest = artifact.read_manifest(artifacts()[0])
    data, split = dataset()
    assert manifest.dataset == "synthetic"
    assert manifest.dataset_fingerprint == data.fingerprint
    assert manifest.split_ms == split.instant_ms
    expected = config(architecture=SMALL, warm_after=4).to_dict()
    assert manifest.training == json.loads(json.dumps(expected))
    assert manifest.training_fingerprint == artifact.hash_json(expected)
    assert manifest.sizes == {
        "attributes": 3,
        "context": 1,
        "behaviour": 100,
        "virtual_vectors": 3,
        "dimension": 8,
        "items": len(trained(0).encoding.items) + 2,
        "actions": 4,
    }
