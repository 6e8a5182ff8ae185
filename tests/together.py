"""Training as one of several processes, which torchrun starts: `-m tests.together FOLDER NAME …`.

Each run writes what it ended with to FOLDER/<name>.<rank>.pt, and its checkpoints to FOLDER/<name>.
"""

import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from models.effects.by_gradient.factors import DescentConfig
from models.effects.fit import EffectsConfig
from models.training.checkpoint import Checkpoints
from models.training.config import TrainingConfig
from models.training.cotrain import cotrain
from models.training.loop import Step
from models.training.process_group import process_group
from models.training.processes import Execution, is_one_of_several
from models.training.trained import Trained
from tests.towers_factory import SMALL, TINY, config, dataset

QUICK = EffectsConfig(iterations=4, folds=3)
EXACT = replace(SMALL, ranking="tests.training_towers:Dot")
RUNS: dict[str, TrainingConfig] = {
    "exact": config(architecture=EXACT, effects=QUICK, rows=1500, precision="float32"),
    "default": config(architecture=replace(SMALL, dropout=0.0), effects=QUICK, rows=6000, precision="float32"),
    "trained": config(
        architecture=replace(SMALL, dropout=0.0, zero_shot="trained-effects"),
        effects=replace(QUICK, descent=DescentConfig(epochs=1, least_steps=10, dropout=0.0)),
        rows=3000,
        precision="float32",
    ),
    "paper": config(architecture=replace(TINY, dropout=0.0), rows=3000, precision="float32"),
    "none": config(architecture=replace(TINY, zero_shot="none", dropout=0.0), rows=3000, precision="float32"),
    "few rows": config(architecture=TINY, batch=4, epochs=1, rows=120),
}
"""Without dropout, whose masks differ by process, where the outcome is compared with one process's. The rows of "few
rows" are one moment a step, which two cannot share."""


def run(name: str, execution: Execution, stop: int = 0) -> tuple[Trained, list[int]]:
    """The towers, and the numbers of the steps that were heard of. Who hears of step `stop` is killed there."""
    data, split = dataset()
    heard: list[int] = []

    def progress(step: Step) -> None:
        heard.append(step.number)
        if step.number == stop:
            os.kill(os.getpid(), signal.SIGKILL)

    return cotrain(data, split, RUNS[name], progress, execution=execution), heard


def main(folder: Path, names: Sequence[str], stop: int = 0) -> None:
    assert is_one_of_several(os.environ)
    with process_group(os.environ, "cpu") as peers:
        for name in names:
            trained, heard = run(name, Execution(processes=peers, checkpoints=Checkpoints(folder / name, 0)), stop)
            left = {"state": trained.model.state_dict(), "losses": list(trained.losses), "heard": heard}
            torch.save(left, folder / f"{name}.{peers.rank}.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
