"""The command line of the benchmarks: its commands, its errors, and what it imports."""

import subprocess
import sys

import pytest
from typer.testing import CliRunner

from benchmarks.__main__ import COMMANDS, EXIT_INVALID, app


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_tells_its_options(command: str) -> None:
    shown = CliRunner().invoke(app, [command, "--help"], catch_exceptions=False)
    assert shown.exit_code == 0
    assert "--" in shown.output


def test_a_command_that_is_none_is_refused() -> None:
    assert CliRunner().invoke(app, ["contest"]).exit_code == 2


def test_the_help_names_every_command() -> None:
    shown = CliRunner().invoke(app, ["--help"], catch_exceptions=False)
    assert all(command in shown.output for command in COMMANDS)


def test_an_error_is_one_line_and_an_exit_status() -> None:
    command = [sys.executable, "-m", "benchmarks", "train", "--peers", "torchrec"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == EXIT_INVALID
    assert ended.stderr.startswith("error peers: ")
    assert "Traceback" not in ended.stderr


def test_a_command_loads_what_it_runs_and_nothing_else() -> None:
    code = (
        "import sys; from benchmarks.__main__ import app\n"
        "app(['{}', '--help'], standalone_mode=False); sys.exit('torch' in sys.modules)"
    )
    for command, loads_torch in (("liked", False), ("train", True)):
        ended = subprocess.run([sys.executable, "-c", code.format(command)], check=False, capture_output=True)
        assert ended.returncode == loads_torch, (command, ended.stderr)
