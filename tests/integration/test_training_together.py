"""Two real processes that train together over gloo."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from models.training.processes import Execution
from tests.together import RUNS, main, run
from tests.two_processes import run_two

pytestmark = pytest.mark.timeout(300)
ROOT = Path(__file__).parents[2]
NORMALISED_APART = 0.03
"""How far a ranking loss may lie from one process's where each normalises by its own half of a batch of 256 rows."""
DRAWN_APART = 0.15
"""Likewise of L_zst's parts, which are sums over an example, of 16 users each."""


def launched(folder: Path) -> None:
    """All runs, in processes that torchrun starts."""
    started = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--rdzv-backend", "c10d"]
    ours = ["-m", "tests.together", str(folder), *RUNS]
    command = [sys.executable, *started, "--rdzv-endpoint", "localhost:0", *ours]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stderr[-3000:]


def left(folder: Any, name: Any) -> Any:
    return [torch.load(folder / f"{name}.{rank}.pt", weights_only=True) for rank in range(2)]


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where every run has left what it ended with."""
    folder = tmp_path_factory.mktemp("together")
    launched(folder)
    return folder


def assert_alike(one: Any, other: Any) -> None:
    assert one["losses"] == other["losses"]
    assert all(torch.equal(value, other["state"][name]) for name, value in one["state"].items())
    assert (one["heard"][0], other["heard"]) == (1, []), "the first alone tells of its steps"


def differences(losses: Any, expected: Any) -> Any:
    assert len(losses) == len(expected)
    assert [set(step) for step in losses] == [set(step) for step in expected]
    return {
        name: max(abs(step[name] - other[name]) for step, other in zip(losses, expected, strict=True) if name in step)
        for name in losses[0]
    }


def test_what_is_not_normalised_by_batch_is_as_one_process_has_it(ended: Path) -> None:
    first, second = left(ended, "exact")
    assert_alike(first, second)
    alone, _ = run("exact", Execution())
    assert differences(first["losses"], alone.losses)["ranking"] < 1e-5
    for name, value in alone.model.state_dict().items():
        torch.testing.assert_close(first["state"][name], value, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", ["default", "trained", "paper", "none"])
def test_the_loss_curve_is_nearly_one_processs(ended: Path, name: str) -> None:
    first, second = left(ended, name)
    assert_alike(first, second)
    apart = differences(first["losses"], run(name, Execution())[0].losses)
    assert apart.pop("ranking") < NORMALISED_APART
    assert all(value < DRAWN_APART for value in apart.values())
    ranking = [step["ranking"] for step in first["losses"]]
    assert np.mean(ranking[-5:]) < np.mean(ranking[:5])


def test_batches_too_small_to_share_hang_nobody(ended: Path) -> None:
    first, second = left(ended, "few rows")
    assert_alike(first, second)
    assert len(first["losses"]) > 10


def test_killed_they_resume_together_and_end_as_if_they_had_not_been(ended: Path, tmp_path: Path) -> None:
    killed, other = run_two(main, tmp_path, ["exact"], 4, environment={})
    assert (killed, other in {1, -signal.SIGKILL}) == (-signal.SIGKILL, True)
    assert run_two(main, tmp_path, ["exact"], environment={}) == [0, 0]
    first, second = left(tmp_path, "exact")
    assert (first["heard"][0], second["heard"]) == (5, [])
    whole, _ = left(ended, "exact")
    assert first["losses"] == whole["losses"]
    for each in (first, second):
        assert all(torch.equal(value, each["state"][name]) for name, value in whole["state"].items())
