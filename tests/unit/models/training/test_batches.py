"""How many steps a run takes."""

from typing import Any

import numpy as np
import pytest

from models.training.batches import StepPlan
from tests.towers_factory import config


@pytest.mark.parametrize(
    ("changes", "epochs"),
    [
        ({"least_steps": 1}, 2),
        ({"least_steps": 100}, 6),
        ({"least_steps": 100, "most_epochs": 4}, 4),
        ({"least_steps": 10_000}, 10),
        ({"least_steps": 1, "epochs": 12}, 12),
    ],
    ids=["as asked", "small data", "smaller data", "the smallest", "asked for"],
)
def test_small_data_are_passed_over_more_often_until_there_are_steps_enough(changes: Any, epochs: int) -> None:
    sizes = np.full(900, 5)  # 18 steps of 256 rows
    plan = StepPlan.of(sizes, config(**changes), np.random.default_rng(0))
    assert plan.steps[-1][0] == epochs
    assert np.bincount(np.concatenate([rows for _, rows in plan.steps])).tolist() == [epochs] * 900
