"""What is made durable: a file, and each folder on the way to it that was made for it."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from foretaste.kernel.files import make_folder, write_file, write_whole


def fill(folder: Path) -> None:
    (folder / "file").write_text("text")


WRITES: dict[str, Callable[[Path], None]] = {
    "folder": make_folder,
    "file": lambda target: write_file(target, "text"),
    "whole folder": lambda target: write_whole(target, fill),
}


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """What was brought to the disk, in order."""
    found: list[Path] = []
    usual = os.fsync

    def noted(handle: int) -> None:
        found.append(Path(f"/proc/self/fd/{handle}").readlink())
        usual(handle)

    monkeypatch.setattr(os, "fsync", noted)
    return found


@pytest.mark.parametrize("kind", WRITES)
def test_the_folders_above_are_on_the_disk_too(kind: str, tmp_path: Path, synced: list[Path]) -> None:
    target = tmp_path / "a" / "b" / "target"
    WRITES[kind](target)
    assert target.exists()
    assert [path for path in (tmp_path, tmp_path / "a", tmp_path / "a" / "b") if path not in synced] == []
    assert synced[-1] == target.parent, "the name of what was written comes last"


def test_a_folder_that_is_there_costs_nothing(tmp_path: Path, synced: list[Path]) -> None:
    make_folder(tmp_path)
    assert synced == []


def test_a_file_in_the_way_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(FileExistsError):
        make_folder(tmp_path / "file")
    with pytest.raises(OSError, match="file"):
        make_folder(tmp_path / "file" / "folder")
