"""A run that is killed and begun again leaves what an uninterrupted one leaves."""

import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from models.effects.by_gradient.factors import DescentConfig
from models.effects.fit import EffectsConfig
from models.training.checkpoint import Checkpoints
from models.training.config import TrainingConfig
from models.training.cotrain import OutOfMemory, cotrain
from models.training.processes import Execution
from models.training.trained import Trained
from tests.towers_factory import SMALL, TINY, config, dataset
from tests.training_towers import MEMORY_ROWS

pytestmark = pytest.mark.usefixtures("one_thread")
QUICK = EffectsConfig(iterations=4, folds=3, descent=DescentConfig(least_steps=20))
KILLED_AFTER = 5


class Killed(BaseException):
    """Nothing in the code under test catches it."""


def short(architecture: Any = SMALL, **changes: Any) -> TrainingConfig:
    return config(architecture=architecture, effects=QUICK, epochs=2, rows=1500, **changes)


def run(
    settings: Any,
    folder: Any = None,
    *,
    labels: bool = False,
    progress: Any = lambda _: None,
    notice: Any = lambda _: None,
) -> Trained:
    data, split = dataset(labels=labels)
    kept = None if folder is None else Checkpoints(folder, every_seconds=0)
    return cotrain(data, split, settings, progress, execution=Execution(checkpoints=kept, notice=notice))


def killed(settings: Any, folder: Any, after: Any = KILLED_AFTER, **options: Any) -> None:
    def kill(step: Any) -> None:
        if step.number == after:
            raise Killed

    with pytest.raises(Killed):
        run(settings, folder, progress=kill, **options)


def same(one: Any, other: Any) -> Any:
    state, expected = one.model.state_dict(), other.model.state_dict()
    return (
        all(torch.equal(value, expected[name]) for name, value in state.items())
        and np.array_equal(one.mean_virtual, other.mean_virtual)
        and one.losses == other.losses
    )


@pytest.mark.parametrize(
    ("architecture", "labels"),
    [
        (SMALL, False),
        (SMALL, True),
        (replace(SMALL, zero_shot="trained-effects"), False),
        (TINY, False),
        (replace(TINY, ranking="din", zero_shot="none"), False),
        (replace(SMALL, ranking="dmr"), True),
    ],
    ids=["default", "default with labels", "trained effects", "paper", "none with din", "dmr"],
)
def test_resumed_it_ends_as_if_it_had_never_been_killed(tmp_path: Path, architecture: Any, labels: bool) -> None:
    notices: list[Any]
    settings, numbers, notices = short(architecture), [], []
    killed(settings, tmp_path, labels=labels)
    resumed = run(
        settings,
        tmp_path,
        labels=labels,
        progress=lambda step: numbers.append(step.number),
        notice=notices.append,
    )
    assert numbers[0] == KILLED_AFTER + 1
    assert numbers[-1] == len(resumed.losses)
    assert same(resumed, run(settings, labels=labels))
    assert (resumed.counts is None) == (architecture.zero_shot not in ("effects", "trained-effects"))
    assert notices == []


def test_killed_again_and_again_it_ends_the_same(tmp_path: Path) -> None:
    settings = short(TINY)
    for after in (1, 2, 4, 7):
        killed(settings, tmp_path, after)
    assert same(run(settings, tmp_path), run(settings))


def test_killed_after_its_last_step_it_has_nothing_left_to_do(tmp_path: Path) -> None:
    numbers: list[Any]
    settings, numbers = short(TINY), []
    ended = run(settings, tmp_path)
    assert same(run(settings, tmp_path, progress=numbers.append), ended)
    assert numbers == []


@pytest.mark.parametrize("other", [{"seed": 1}, {"ranking_rate": 0.004}, {"rows": 1400}, {"masked_share": 0.3}])
def test_the_checkpoint_of_other_settings_is_ignored_aloud(tmp_path: Path, other: Any) -> None:
    killed(short(TINY), tmp_path)
    notices: list[Any]
    settings, notices = replace(short(TINY), **other), []
    assert same(run(settings, tmp_path, notice=notices.append), run(settings))
    assert any("another run" in notice for notice in notices)


def test_the_checkpoint_of_other_data_is_ignored_aloud(tmp_path: Path) -> None:
    killed(short(TINY), tmp_path)
    notices: list[Any] = []
    assert same(run(short(TINY), tmp_path, labels=True, notice=notices.append), run(short(TINY), labels=True))
    assert any("another run" in notice for notice in notices)


CHILD = """
import os, signal, sys
from pathlib import Path
from tests.unit.models.training.test_resume import TINY, run, short

def progress(step):
    if step.number == 5:
        os.kill(os.getpid(), signal.SIGKILL)

run(short(TINY), Path(sys.argv[1]), progress=progress)
"""


def test_a_process_that_is_killed_outright_is_resumed(tmp_path: Path) -> None:
    child = subprocess.run([sys.executable, "-c", CHILD, str(tmp_path)], check=False, timeout=100)
    assert child.returncode == -signal.SIGKILL
    numbers = []
    resumed = run(short(TINY), tmp_path, progress=lambda step: numbers.append(step.number))
    assert numbers[0] == 6
    assert same(resumed, run(short(TINY)))


GREEDY = replace(SMALL, ranking="tests.training_towers:Greedy")
HOLDS, TOO_MANY = 128, 256
assert HOLDS + 5 < MEMORY_ROWS < TOO_MANY - 20, "a batch has about so many rows"


def test_a_batch_that_memory_does_not_hold_is_halved_once_from_the_beginning() -> None:
    notices: list[Any]
    notices, rows = [], []
    halved = run(short(GREEDY, batch=TOO_MANY), progress=lambda step: rows.append(step.rows), notice=notices.append)
    assert same(halved, run(short(GREEDY, batch=HOLDS)))
    assert halved.config.batch == HOLDS
    assert max(rows) <= MEMORY_ROWS
    assert len(notices) == 1
    assert f"batch of {TOO_MANY} rows" in notices[0]
    assert str(HOLDS) in notices[0]


def test_a_halved_run_resumes_with_its_smaller_batch(tmp_path: Path) -> None:
    notices: list[Any]
    settings, notices = short(GREEDY, batch=TOO_MANY), []
    killed(settings, tmp_path)
    resumed = run(settings, tmp_path, notice=notices.append)
    assert notices == [], "it does not run out of memory again"
    assert same(resumed, run(settings))


def test_memory_that_does_not_hold_half_a_batch_either_ends_the_run_by_a_clear_error() -> None:
    settings = short(replace(SMALL, ranking="tests.training_towers:Insatiable"), batch=64)
    with pytest.raises(OutOfMemory, match="batch of 64 rows, nor for one of 32") as raised:
        run(settings)
    assert not raised.value.retriable
