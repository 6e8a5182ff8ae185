"""When Triton's environment is made, and when again. The making itself is seen by the integration tests."""

from pathlib import Path

import pytest

from foretaste.kernel.errors import NotOnThisMachine, Unavailable
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


def test_a_link_to_a_finished_one_will_do(tmp_path: Path, made: list[Path]) -> None:
    ensure_triton_environment(tmp_path / "elsewhere", silent, MACHINE)
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / NAME).symlink_to(tmp_path / "elsewhere" / NAME)
    assert ensure_triton_environment(tmp_path / "home", silent, MACHINE).path == tmp_path / "home" / NAME
    assert made == [tmp_path / "elsewhere" / NAME]


@pytest.mark.parametrize("there", [True, False], ids=["unfinished", "dangling"])
def test_a_link_to_anything_else_is_replaced_and_what_it_points_to_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: bool
) -> None:
    other = tmp_path / "other"
    if there:
        other.mkdir()
        (other / "theirs").touch()
    (tmp_path / NAME).symlink_to(other)

    def lines(command: list[str], _cwd: Path, _lock: int) -> list[str]:
        if "venv" in command:
            (Path(command[-1]) / "bin").mkdir(parents=True)
            (Path(command[-1]) / "bin" / "python").touch()
        return []

    monkeypatch.setattr(environment, "_lines", lines)
    made = ensure_triton_environment(tmp_path, silent, MACHINE)
    assert not made.path.is_symlink()
    assert (made.path / MARKER).exists()
    assert [path.name for path in other.iterdir()] == ["theirs"] if there else not other.exists()


def test_a_failure_of_pip_is_one_line_and_exit_status_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> None:
        raise Unavailable("triton", "its environment could not be made: pip ended with 1\nRetrying\nERROR: no route")

    monkeypatch.setattr(environment, "ensure_triton_environment", fail)
    assert environment._main(str(tmp_path)) == 1
    said = capsys.readouterr().err
    assert said == "triton is not available: its environment could not be made: pip ended with 1: ERROR: no route\n"


def test_a_machine_without_triton_is_no_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object) -> None:
        raise NotOnThisMachine("triton: no wheel; the towers run in-process instead")

    monkeypatch.setattr(environment, "ensure_triton_environment", refuse)
    assert environment._main(str(tmp_path)) == 0
    assert "in-process" in capsys.readouterr().out
