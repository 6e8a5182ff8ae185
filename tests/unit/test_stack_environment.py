"""When Triton's environment is made, and when again. The making itself is seen by the integration tests."""

from pathlib import Path

import pytest

from foretaste.errors import NotOnThisMachine
from foretaste.stack import environment
from foretaste.stack.environment import MARKER, NAME, REQUIREMENTS, ensure_triton_environment
from foretaste.stack.machine import Machine
from foretaste.stack.progress import Report, silent

MACHINE = Machine("Linux", "x86_64", (2, 35), "/usr/bin/python3.11")


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Environments in the order they were made."""
    paths: list[Path] = []

    def make(path: Path, _python: str, _lock: int, _report: Report) -> None:
        (path / "bin").mkdir(parents=True, exist_ok=True)
        (path / "bin" / "python").touch()
        paths.append(path)

    monkeypatch.setattr(environment, "_make", make)
    return paths


def test_made_once(tmp_path: Path, made: list[Path]) -> None:
    for _ in range(2):
        assert ensure_triton_environment(tmp_path, silent, MACHINE).path == tmp_path / NAME
    assert made == [tmp_path / NAME]


def test_made_again_after_an_install_was_cut_short(tmp_path: Path, made: list[Path]) -> None:
    ensure_triton_environment(tmp_path, silent, MACHINE)
    (tmp_path / NAME / MARKER).unlink()
    ensure_triton_environment(tmp_path, silent, MACHINE)
    assert len(made) == 2


def test_made_again_for_other_versions(tmp_path: Path, made: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    ensure_triton_environment(tmp_path, silent, MACHINE)
    newer = tmp_path / "newer.txt"
    newer.write_text("numpy==1.26.5\n")
    monkeypatch.setattr(environment, "REQUIREMENTS", newer)
    ensure_triton_environment(tmp_path, silent, MACHINE)
    assert len(made) == 2


def test_made_again_when_its_python_was_removed(tmp_path: Path, made: list[Path]) -> None:
    ensure_triton_environment(tmp_path, silent, MACHINE)
    (tmp_path / NAME / "bin" / "python").unlink()
    ensure_triton_environment(tmp_path, silent, MACHINE)
    assert len(made) == 2


def test_not_made_where_there_is_no_wheel(tmp_path: Path, made: list[Path]) -> None:
    with pytest.raises(NotOnThisMachine, match="in-process"):
        ensure_triton_environment(tmp_path, silent, Machine("Darwin", "arm64", None, "/usr/bin/python3.11"))
    assert made == []


def test_requirements_hold_numpy_below_2_and_only_exact_versions() -> None:
    lines = [line for line in REQUIREMENTS.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    assert all(line.count("==") == 1 for line in lines)
    assert any(line.startswith("numpy==1.") for line in lines)
    assert not any(line.startswith("torch") for line in lines)
