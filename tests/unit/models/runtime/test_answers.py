"""Answers to questions: which of a user's behaviours they are, and what they tell of taste."""

import json

import numpy as np
import pytest

from foretaste.kernel.users import Behaviour
from models.runtime.answers import ACTIVITY, AnswerPosterior

ITEMS = ("heat", "alien", "brazil", "casablanca", "dune", "elf")


def posterior(rng: np.random.Generator) -> AnswerPosterior:
    keys, log_odds = rng.normal(size=(len(ITEMS), 3)), rng.normal(size=len(ITEMS))
    return AnswerPosterior(ITEMS, keys.astype(np.float32), log_odds.astype(np.float32), np.array([7, 2, 9]))


def said(*answers: tuple[str, str]) -> Behaviour:
    items, actions = zip(*answers, strict=True)
    return Behaviour(items, actions, range(len(answers)))


@pytest.mark.parametrize(
    ("behaviour", "expected"),
    [
        (Behaviour(), {}),
        (said(("heat", "clicked")), {}),
        (said(("heat", "answered_yes"), ("alien", "answered_no")), {0: True, 1: False}),
        (said(("heat", "answered_yes"), ("dune", "clicked"), ("heat", "answered_no")), {0: False}),
        (said(("nobody asks", "answered_yes"), ("elf", "answered_yes")), {5: True}),
    ],
)
def test_an_answer_is_a_behaviour_of_an_action_of_its_own_and_the_newest_counts(
    behaviour: Behaviour, expected: dict[int, bool], rng: np.random.Generator
) -> None:
    assert posterior(rng).answers(behaviour) == expected


def test_taste_is_one_step_of_newton_from_the_prior(rng: np.random.Generator) -> None:
    """Written as the conditional mean of a normal model: K' (K K' + a + V)^-1 V (x - p)."""
    found = posterior(rng)
    keys, odds = found.keys[[3, 0, 5]].astype(np.float64), found.log_odds[[3, 0, 5]].astype(np.float64)
    rates = 1 / (1 + np.exp(-odds))
    variances = 1 / (rates * (1 - rates))
    covariance = keys @ keys.T + ACTIVITY + np.diag(variances)
    expected = keys.T @ np.linalg.solve(covariance, variances * (np.array([0, 1, 1]) - rates))
    np.testing.assert_allclose(found.taste({3: False, 0: True, 5: True}), expected, rtol=1e-5)


def test_who_answered_nothing_keeps_the_virtual_behaviour_that_attributes_make(rng: np.random.Generator) -> None:
    virtual = rng.normal(size=(3, 4, 3)).astype(np.float32)
    asked = posterior(rng)
    users = [said(("heat", "clicked")), said(("heat", "answered_yes")), Behaviour()]
    found = asked.added(virtual, users)
    np.testing.assert_array_equal(found[[0, 2]], virtual[[0, 2]])
    moved = (found - virtual)[1].ravel()
    assert sorted(np.flatnonzero(moved).tolist()) == [2, 7, 9]
    np.testing.assert_allclose(moved[[7, 2, 9]], asked.taste({0: True}), rtol=1e-4, atol=1e-6)
    assert AnswerPosterior.from_dict(None).added(virtual, users) is virtual


def test_virtual_behaviour_of_another_generation_is_left_alone(rng: np.random.Generator) -> None:
    """Whoever reads it refuses its shape."""
    virtual = np.zeros((1, 2, 2), dtype=np.float32)
    assert posterior(rng).added(virtual, [said(("heat", "answered_yes"))]) is virtual


def test_it_is_the_same_after_a_file(rng: np.random.Generator) -> None:
    asked = posterior(rng)
    read = AnswerPosterior.from_dict(json.loads(json.dumps(asked.to_dict())))
    assert read.items == ITEMS
    for name in ("keys", "log_odds", "columns"):
        np.testing.assert_array_equal(getattr(read, name), getattr(asked, name))
        assert getattr(read, name).dtype == getattr(asked, name).dtype
