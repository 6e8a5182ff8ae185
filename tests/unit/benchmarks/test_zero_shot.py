"""Planted tastes are found again, and what is told of them is what was planted."""

import json
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from benchmarks.__main__ import app
from benchmarks.zero_shot.planted import VALUES, Planted, dataset_of

SMALL = ["--users", "1000", "--items", "1000", "--acts", "6", "--json"]


def _run(*more: str) -> Any:
    made = CliRunner().invoke(app, ["zero-shot", *SMALL, *more])
    assert made.exit_code == 0, made.output
    return json.loads(made.stdout)


def test_what_pairs_tell_is_found_with_the_perceptron_beside_the_sums_and_no_more_than_was_planted() -> None:
    found = _run("--contestant", "combined", "--together", "1.0")
    assert abs(found["popularity_auc"] - 0.5) < 0.02
    assert found["popularity_auc"] + 0.03 < found["auc"] < found["planted_auc"]
    assert found["seconds"] > 0
    assert found["peak_GiB"] > 0


@pytest.mark.parametrize(
    ("option", "value", "problem"),
    [
        ("contestant", "luck", "contestant: expected one of counts, gradient, combined"),
        ("device", "abacus", "device: "),
    ],
)
def test_a_contestant_or_a_device_that_there_is_not_is_refused(option: str, value: str, problem: str) -> None:
    made = CliRunner().invoke(app, ["zero-shot", *SMALL, f"--{option}", value])
    assert problem in str(made.exception)


@pytest.mark.parametrize("together", [0.0, 0.5, 1.0])
def test_tastes_are_of_one_size_whatever_pairs_make_of_them(together: float, rng: np.random.Generator) -> None:
    planted = Planted.drawn(2000, together, rng)
    logits = planted.taste(planted.users(5000, rng)) @ planted.keys.T
    assert logits.std() == pytest.approx(2.0, rel=0.15)


def test_users_act_on_what_they_like(rng: np.random.Generator) -> None:
    planted = Planted.drawn(1000, 0.0, rng)
    values = planted.users(2000, rng)
    acts = planted.acts(values, 3, rng)
    liked = np.einsum("bd,bad->ba", planted.taste(values), planted.keys[acts])
    assert liked.mean() > 1.0
    data = dataset_of(planted, values, acts, rng)
    assert len(data.interactions) == acts.size
    rows, items = data.user_rows(data.interactions["user_id"]), data.item_rows(data.interactions["item_id"])
    assert sorted(zip(rows.tolist(), items.tolist(), strict=True)) == sorted(
        (user, int(item)) for user, own in enumerate(acts) for item in own
    )
    assert [data.users[f"a{number}"].nunique() for number in range(3)] == list(VALUES[:3])
