import errno
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import triton_repo
from foretaste.kernel.errors import DamagedArtifact, ForetasteError, Unavailable
from models.generations.repository import (
    BYTECODE,
    CODE,
    check_versions,
    is_published,
    published,
    withdraw,
    write_version,
)
from models.runtime import layout as files
from tests.tiny_disk import needs_a_disk, tiny_disk
from tests.towers_factory import artifacts

MODELS = {
    "vocabulary": files.ENCODING,
    "retrieval": files.RETRIEVAL,
    "zero_shot_tower": files.ZERO_SHOT,
    "ranking_tower": files.RANKING,
}


def _listing(repository: Path) -> set[str]:
    return {str(path.relative_to(repository)) for path in repository.rglob("*") if path.is_file()}


def test_each_tower_gets_a_version_with_all_that_it_needs(tmp_path: Path) -> None:
    assert write_version(artifacts()[0], tmp_path) == 1
    package = [
        f"{name.replace('.', '/')}/{module}" for name, modules in CODE.items() for module in (*modules, BYTECODE)
    ]
    expected = {
        f"{tower}/1/{name}"
        for tower, onnx in MODELS.items()
        for name in ("model.py", files.MANIFEST, onnx, *package, BYTECODE)
    }
    assert _listing(tmp_path) == expected | {f"{tower}/config.pbtxt" for tower in MODELS}


def test_a_version_runs_without_the_rest_of_the_project(tmp_path: Path) -> None:
    write_version(artifacts()[0], tmp_path)
    version = tmp_path / "zero_shot_tower" / "1"
    code = (
        "import sys; sys.path.insert(0, '.')\n"
        "from pathlib import Path; from models.runtime.towers import ServedZeroShot\n"
        "import models.runtime.retrieval\n"
        "import numpy; assert ServedZeroShot(Path('.')).run(numpy.zeros((1, 3), int)).shape == (1, 3, 8)\n"
        "strangers = {'torch', 'pydantic', 'pandas'} & set(sys.modules)\n"
        "assert not strangers, strangers\n"
        "own = [module for name, module in sys.modules.items() if name.partition('.')[0] in ('foretaste', 'models')]\n"
        "assert all(Path(module.__file__).is_relative_to(Path.cwd()) for module in own), own\n"
    )
    subprocess.run([sys.executable, "-I", "-c", code], cwd=version, check=True)


def test_running_a_version_writes_nothing_into_it(tmp_path: Path) -> None:
    """Isolated, Python does not hear of PYTHONDONTWRITEBYTECODE: as in Triton, which reloads what has changed."""
    write_version(artifacts()[0], tmp_path)
    version = tmp_path / "zero_shot_tower" / "1"
    before = {path: path.stat().st_mtime_ns for path in version.rglob("*")}
    code = "import sys; sys.path.insert(0, '.'); import models.runtime.towers"
    subprocess.run([sys.executable, "-I", "-c", code], cwd=version, check=True)
    assert {path: path.stat().st_mtime_ns for path in version.rglob("*")} == before


@pytest.mark.parametrize(("device", "kind"), [("cpu", "KIND_CPU"), ("gpu", "KIND_GPU")])
def test_the_instance_group_is_that_of_the_device(tmp_path: Path, device: Any, kind: Any) -> None:
    write_version(artifacts()[0], tmp_path, device)
    for model in MODELS:
        config = (tmp_path / model / "config.pbtxt").read_text()
        assert re.findall(r"KIND_\w+", config) == ["KIND_CPU" if model in ("vocabulary", "retrieval") else kind]
        assert "version_policy { all { } }" in config


def test_publishing_again_changes_nothing(tmp_path: Path) -> None:
    write_version(artifacts()[0], tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    write_version(artifacts()[0], tmp_path)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_generations_lie_beside_each_other_under_one_untouched_config(tmp_path: Path) -> None:
    write_version(artifacts()[0], tmp_path)
    config = tmp_path / "ranking_tower" / "config.pbtxt"
    before = config.stat().st_mtime_ns
    assert write_version(artifacts()[1], tmp_path) == 2
    assert config.stat().st_mtime_ns == before
    assert {path.name for path in (tmp_path / "ranking_tower").iterdir()} == {"1", "2", "config.pbtxt"}


def test_another_generation_of_the_same_number_is_refused(tmp_path: Path) -> None:
    write_version(artifacts()[0], tmp_path)
    manifest = tmp_path / "ranking_tower" / "1" / files.MANIFEST
    manifest.write_text(manifest.read_text().replace("synthetic", "other"))
    with pytest.raises(ForetasteError, match="already holds another generation"):
        write_version(artifacts()[0], tmp_path)


@pytest.mark.parametrize("damage", ["changed", "missing"])
def test_a_damaged_artifact_never_becomes_visible_and_can_be_published_once_mended(tmp_path: Path, damage: str) -> None:
    source, repository = tmp_path / "1", tmp_path / "repository"
    source.mkdir()
    for path in artifacts()[0].iterdir():
        (source / path.name).write_bytes(path.read_bytes())
    if damage == "changed":
        (source / files.RANKING).write_bytes(b"half")
    else:
        (source / files.RANKING).unlink()
    with pytest.raises(DamagedArtifact, match=r"ranking\.onnx"):
        write_version(source, repository)
    assert list((repository / "ranking_tower").iterdir()) == []
    (source / files.RANKING).write_bytes((artifacts()[0] / files.RANKING).read_bytes())
    assert write_version(source, repository) == 1
    assert (repository / "ranking_tower" / "1" / files.RANKING).exists()


def test_a_withdrawn_generation_is_gone_and_the_others_stay(tmp_path: Path) -> None:
    write_version(artifacts()[0], tmp_path)
    before = _listing(tmp_path)
    write_version(artifacts()[1], tmp_path)
    assert is_published(2, tmp_path)
    withdraw(2, tmp_path)
    assert _listing(tmp_path) == before
    assert (is_published(1, tmp_path), is_published(2, tmp_path)) == (True, False)
    assert write_version(artifacts()[1], tmp_path) == 2


def test_withdrawing_gives_back_the_config_that_the_publication_changed(tmp_path: Path) -> None:
    write_version(artifacts()[0], tmp_path, "cpu")
    before = {tower: (tmp_path / tower / "config.pbtxt").read_bytes() for tower in MODELS}
    write_version(artifacts()[1], tmp_path, "gpu")
    write_version(artifacts()[1], tmp_path, "gpu")
    withdraw(2, tmp_path)
    assert {tower: (tmp_path / tower / "config.pbtxt").read_bytes() for tower in MODELS} == before
    for tower in MODELS:
        assert {path.name for path in (tmp_path / tower).iterdir()} == {"1", "config.pbtxt"}


def test_a_config_that_an_earlier_publication_changed_stays(tmp_path: Path) -> None:
    given: list[tuple[int, Any]] = [(0, "gpu"), (0, "cpu"), (1, "cpu")]
    for number, device in given:
        write_version(artifacts()[number], tmp_path, device)
    withdraw(2, tmp_path)
    for tower in MODELS:
        assert "KIND_CPU" in (tmp_path / tower / "config.pbtxt").read_text()
        assert {path.name for path in (tmp_path / tower).iterdir()} == {"1", "config.pbtxt"}


def test_withdrawing_the_only_generation_leaves_nothing_that_could_be_loaded(tmp_path: Path) -> None:
    withdraw(1, tmp_path)
    write_version(artifacts()[0], tmp_path)
    withdraw(1, tmp_path)
    withdraw(1, tmp_path)
    assert _listing(tmp_path) == set()


def test_what_a_killed_publication_left_is_swept_by_the_next_a_day_later(tmp_path: Path) -> None:
    write_version(artifacts()[0], tmp_path)
    left = tmp_path / "ranking_tower" / ".2.killed"
    left.mkdir()
    now = left.stat().st_mtime
    write_version(artifacts()[0], tmp_path, clock=lambda: now + 3600)
    assert left.exists()
    write_version(artifacts()[0], tmp_path, clock=lambda: now + 25 * 3600)
    assert not left.exists()


def _copied_until(monkeypatch: pytest.MonkeyPatch, stop: Any) -> None:
    """The copy of a file fails once `stop` copies were made."""
    made: list[Any]
    whole, made = shutil.copyfile, []

    def copy(source: Any, target: Any) -> Any:
        if len(made) == stop:
            Path(target).write_bytes(b"half")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        made.append(target)
        return whole(source, target)

    monkeypatch.setattr(shutil, "copyfile", copy)


def test_a_version_of_an_earlier_release_is_written_anew(tmp_path: Path) -> None:
    """Its code reads other tensors than the config now names."""
    write_version(artifacts()[0], tmp_path)
    for model in MODELS:
        (tmp_path / model / "1" / "models" / "runtime" / "digest.py").unlink()
        (tmp_path / model / "1" / "model.py").write_text("as it was")
    write_version(artifacts()[0], tmp_path)
    for model in MODELS:
        assert "as it was" not in (tmp_path / model / "1" / "model.py").read_text()


@pytest.mark.parametrize("stop", range(6))
def test_a_disk_that_fills_while_publishing_is_named_and_leaves_the_repository_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: Any
) -> None:
    write_version(artifacts()[0], tmp_path)
    before = _listing(tmp_path)
    with monkeypatch.context() as patched:
        _copied_until(patched, stop)
        with pytest.raises(Unavailable, match=f"disk is not available: no room is left in {tmp_path}"):
            write_version(artifacts()[1], tmp_path)
    assert _listing(tmp_path) == before
    assert published(tmp_path) == [1]
    write_version(artifacts()[1], tmp_path)
    assert published(tmp_path) == [1, 2]


def test_a_config_that_finds_no_room_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(Path, "chmod", refuse)
    monkeypatch.setattr(
        "foretaste.kernel.files.write_whole", lambda version, _: shutil.copytree(artifacts()[0], version)
    )
    with pytest.raises(Unavailable, match="no room is left"):
        write_version(artifacts()[0], tmp_path)
    assert _listing(tmp_path) == set()


@needs_a_disk
@pytest.mark.parametrize("kilobytes", [4, 24, 160])
def test_a_disk_that_really_is_full_is_named_and_stays_empty(tmp_path: Path, kilobytes: int) -> None:
    with tiny_disk(tmp_path, kilobytes):
        with pytest.raises(Unavailable, match=f"no room is left in {tmp_path}"):
            write_version(artifacts()[0], tmp_path)
        assert _listing(tmp_path) == set()


KILLED = """
import os, shutil, signal, sys
from pathlib import Path
from models.generations.repository import write_version
whole, made = shutil.copyfile, []
def copy(source, target):
    if len(made) == int(sys.argv[3]):
        Path(target).write_bytes(b"half")
        os.kill(os.getpid(), signal.SIGKILL)
    made.append(target)
    return whole(source, target)
shutil.copyfile = copy
write_version(Path(sys.argv[1]), Path(sys.argv[2]))
"""


@pytest.mark.parametrize("stop", range(6))
def test_killed_while_it_copies_no_half_version_is_seen_and_the_next_publication_completes(
    tmp_path: Path, stop: Any
) -> None:
    write_version(artifacts()[0], tmp_path)
    arguments = [str(artifacts()[1]), str(tmp_path), str(stop)]
    ended = subprocess.run([sys.executable, "-c", KILLED, *arguments], check=False)
    assert ended.returncode == -signal.SIGKILL
    versions = {tower: {path.name for path in (tmp_path / tower).glob("[0-9]*")} for tower in MODELS}
    written = {model for model, numbers in versions.items() if numbers == {"1", "2"}}
    assert written == set(list(MODELS)[: stop // 2])
    write_version(artifacts()[1], tmp_path)
    assert is_published(2, tmp_path)
    for tower, onnx in MODELS.items():
        assert (tmp_path / tower / "2" / onnx).read_bytes() == (artifacts()[1] / onnx).read_bytes()


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(("left", "says"), [(None, "is empty"), ("manifest.json", "has no model.py")])
def test_a_version_that_triton_could_not_load_is_named_before_anything_is_published(
    tmp_path: Path, model: str, left: str | None, says: str
) -> None:
    write_version(artifacts()[0], tmp_path)
    check_versions(tmp_path)
    broken = tmp_path / model / "7"
    broken.mkdir()
    if left is not None:
        (broken / left).touch()
    before = _listing(tmp_path)
    with pytest.raises(
        DamagedArtifact, match=re.escape(f"{broken} {says}: Triton serves no version of {model} beside it")
    ):
        write_version(artifacts()[1], tmp_path)
    with pytest.raises(DamagedArtifact):
        check_versions(tmp_path)
    assert _listing(tmp_path) == before


def test_the_version_that_is_published_may_be_empty_before(tmp_path: Path) -> None:
    (tmp_path / "vocabulary" / "1").mkdir(parents=True)
    assert write_version(artifacts()[0], tmp_path) == 1
    check_versions(tmp_path)


def test_another_name_than_a_number_is_no_version(tmp_path: Path) -> None:
    write_version(artifacts()[0], tmp_path)
    (tmp_path / "vocabulary" / ".7.unfinished").mkdir()
    (tmp_path / "vocabulary" / "notes").mkdir()
    check_versions(tmp_path)


def test_the_ranking_tower_in_triton_takes_as_many_users_as_are_sent_together() -> None:
    config = Path(triton_repo.__path__[0]) / "ranking_tower" / "config.pbtxt"
    assert f"max_batch_size: {files.MOST_USERS}\n" in config.read_text(encoding="utf-8")
