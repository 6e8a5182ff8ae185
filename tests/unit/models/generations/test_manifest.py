import errno
import json
import math
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foretaste.kernel.errors import DamagedArtifact, Unavailable
from foretaste.kernel.files import LEFT_BEHIND, AlreadyThere, hash_file, remove_whole, sweep, verify, write_whole
from models.generations.manifest import (
    generation_record,
    hash_json,
    next_free,
    next_number,
    read_manifest,
)
from models.runtime import layout as files
from tests.towers_factory import METRICS, artifacts, trained


def _copy(folder: Path, target: Path) -> Path:
    target.mkdir()
    for path in folder.iterdir():
        (target / path.name).write_bytes(path.read_bytes())
    return target


def test_the_next_number_is_one_more_than_the_highest(tmp_path: Path) -> None:
    assert next_number(tmp_path / "none yet") == 1
    for name in ("2", "10", ".11.unfinished", "notes"):
        (tmp_path / name).mkdir()
    assert next_number(tmp_path) == 11


@given(st.integers(0, 50), st.integers(0, 50), st.none() | st.integers(1, 50))
def test_the_next_free_number_was_never_used_and_fills_the_slot_that_does_not_serve(
    recorded: Any, written: Any, active: Any
) -> None:
    number = next_free(recorded, written, active)
    assert max(recorded, written) < number <= max(recorded, written) + 2
    assert active is None or number % 2 != active % 2


@pytest.mark.parametrize(
    ("recorded", "written", "active", "expected"),
    [(0, 0, None, 1), (1, 1, 1, 2), (2, 2, 1, 4), (3, 2, 2, 5), (1, 4, 1, 6), (7, 0, None, 8)],
)
def test_the_next_free_number_is_the_lowest_such(
    recorded: int, written: int, active: int | None, expected: int
) -> None:
    assert next_free(recorded, written, active) == expected


def test_a_folder_appears_whole(tmp_path: Path) -> None:
    seen = []

    def fill(folder: Path) -> None:
        (folder / "deep").mkdir()
        (folder / "deep" / "file").write_text("content")
        seen.append((tmp_path / "7").exists())

    write_whole(tmp_path / "7", fill)
    assert seen == [False]
    assert (tmp_path / "7" / "deep" / "file").read_text() == "content"
    assert [path.name for path in tmp_path.iterdir()] == ["7"]


def test_a_failure_on_the_way_leaves_nothing(tmp_path: Path) -> None:
    def fill(folder: Path) -> None:
        (folder / "half").write_text("half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_whole(tmp_path / "7", fill)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize("failing", ["tempfile.mkdtemp", "foretaste.kernel.files.flush_to_disk", "pathlib.Path.rename"])
def test_a_disk_that_fills_on_the_way_is_named_and_nothing_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: Any, failing: str
) -> None:
    def refuse(*_: object, **__: Any) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(failing, refuse)
    with pytest.raises(Unavailable, match=f"disk is not available: no room is left in {tmp_path}"):
        write_whole(tmp_path / "7", lambda folder: (folder / "file").touch())
    assert list(tmp_path.iterdir()) == []


def test_what_somebody_else_wrote_meanwhile_is_kept(tmp_path: Path) -> None:
    def fill(folder: Path) -> None:
        (folder / "mine").write_text("mine")
        (tmp_path / "7").mkdir()
        (tmp_path / "7" / "theirs").write_text("theirs")

    with pytest.raises(AlreadyThere, match="meanwhile"):
        write_whole(tmp_path / "7", fill)
    assert [path.name for path in (tmp_path / "7").iterdir()] == ["theirs"]


def test_a_rename_that_fails_for_another_reason_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "no")

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(PermissionError):
        write_whole(tmp_path / "7", lambda _: None)


def test_a_folder_goes_whole_even_where_deleting_it_stops_half_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_whole(tmp_path / "7", lambda folder: (folder / "file").touch())
    monkeypatch.setattr("shutil.rmtree", lambda *_, **__: None)
    remove_whole(tmp_path / "7")
    (left,) = tmp_path.iterdir()
    assert left.name.startswith(".7.")
    monkeypatch.undo()
    sweep(tmp_path, clock=lambda: left.stat().st_mtime + LEFT_BEHIND + 1)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_goes_even_where_the_disk_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "full")

    write_whole(tmp_path / "7", lambda folder: (folder / "file").touch())
    monkeypatch.setattr("os.mkdir", refuse)
    remove_whole(tmp_path / "7")
    assert list(tmp_path.iterdir()) == []


def test_removing_what_is_not_there_changes_nothing(tmp_path: Path) -> None:
    remove_whole(tmp_path / "7")
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_writer_left_is_swept_once_it_is_older_than_a_day(tmp_path: Path) -> None:
    for name in (".7.abc_12", ".12.old", "7", ".hidden", ".lock"):
        (tmp_path / name).mkdir()
    (tmp_path / ".config.xyz").touch()
    (tmp_path / "config.pbtxt").touch()
    for path in tmp_path.iterdir():
        os.utime(path, (1000, 1000))
    os.utime(tmp_path / ".12.old", (1500, 1500))
    sweep(tmp_path, clock=lambda: 1200 + LEFT_BEHIND)
    assert {path.name for path in tmp_path.iterdir()} == {".12.old", "7", ".hidden", ".lock", "config.pbtxt"}
    sweep(tmp_path / "none yet", clock=lambda: 0.0)


def test_the_record_is_what_readers_need() -> None:
    generation, popularity = generation_record(artifacts()[0])
    towers = trained(0)
    assert generation.number == 1
    assert generation.warm_after == towers.config.warm_after == 4
    assert generation.virtual_shape == (3, 8)
    assert generation.mean_virtual.tolist() == towers.mean_virtual.tolist()
    assert generation.attributes == {"segment": "categorical", "age": "numeric", "city": "categorical"}
    assert generation.context == {"device": "categorical"}
    assert generation.created_at == "2027-01-15T08:00:00+00:00"
    assert generation.metrics["cold.virtual.auc"] == METRICS["cold.virtual.auc"]
    assert math.isnan(generation.metrics["warm.real.auc"])
    assert sum(popularity.values()) == pytest.approx(1)
    assert set(popularity) == set(towers.encoding.items)
    assert generation.profile == "", "it was exported without one"


def test_a_changed_file_is_found(tmp_path: Path) -> None:
    folder = _copy(artifacts()[0], tmp_path / "1")
    with (folder / files.RANKING).open("ab") as file:
        file.write(b"!")
    with pytest.raises(DamagedArtifact, match=r"ranking\.onnx has the sha256"):
        generation_record(folder)


def test_a_missing_file_is_found(tmp_path: Path) -> None:
    folder = _copy(artifacts()[0], tmp_path / "1")
    (folder / files.ENCODING).unlink()
    with pytest.raises(DamagedArtifact, match=r"encoding\.json cannot be read"):
        generation_record(folder)


@pytest.mark.parametrize("text", ["", "{}", '{"format": 2}', "[1]"])
def test_a_malformed_manifest_is_found(tmp_path: Path, text: str) -> None:
    (tmp_path / files.MANIFEST).write_text(text)
    with pytest.raises(DamagedArtifact, match=r"manifest\.json is malformed"):
        read_manifest(tmp_path)


def test_a_folder_without_a_manifest_is_no_artifact(tmp_path: Path) -> None:
    with pytest.raises(DamagedArtifact, match=r"manifest\.json cannot be read"):
        read_manifest(tmp_path)


def test_the_manifest_is_json_without_nan_and_names_every_other_file() -> None:
    folder = artifacts()[0]

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    raw = json.loads((folder / files.MANIFEST).read_text(), parse_constant=refuse)
    assert raw["metrics"]["warm.real.auc"] is None
    assert set(raw["files"]) == {path.name for path in folder.iterdir()} - {files.MANIFEST}
    verify(folder, raw["files"])


def test_fingerprints_tell_values_apart_but_not_the_order_of_their_keys() -> None:
    assert hash_json({"a": 1, "b": 2}) == hash_json({"b": 2, "a": 1}) != hash_json({"a": 1, "b": 3})


def test_a_file_that_is_not_there_has_no_hash(tmp_path: Path) -> None:
    with pytest.raises(DamagedArtifact):
        hash_file(tmp_path / "nothing")
