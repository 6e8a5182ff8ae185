"""Answers to questions: what of a user's attributes they are, and what they tell of taste."""

import numpy as np
import pytest

from foretaste.kernel.values import Attributes
from models.runtime.answers import ACTIVITY, ANSWERS, AnswerPosterior, encode_answers

PLACES = {"heat": 0, "alien": 1, "50": 2}


def posterior(rng: np.random.Generator, questions: int = 6, directions: int = 3) -> AnswerPosterior:
    keys, log_odds = rng.normal(size=(questions, directions)), rng.normal(size=questions)
    return AnswerPosterior(keys.astype(np.float32), log_odds.astype(np.float32), np.array([7, 2, 9])[:directions])


def rows(*answers: list[int]) -> np.ndarray:
    found = np.zeros((len(answers), ANSWERS), dtype=np.int64)
    for row, own in zip(found, answers, strict=True):
        row[: len(own)] = own
    return found


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ({}, []),
        ({"answered_yes": ["heat"], "answered_no": ["alien"]}, [3, 2]),
        ({"answered_yes": "heat"}, [2]),
        ({"answered_yes": ("alien", "alien")}, [4]),
        ({"answered_yes": ["heat"], "answered_no": ["heat"]}, [2]),
        ({"answered_yes": [50]}, [6]),
        ({"answered_no": [50.0, None, "nobody asks", True]}, [5]),
        ({"answered_yes": None, "answered_no": []}, []),
    ],
)
def test_answers_are_read_by_the_place_of_their_question(attributes: Attributes, expected: list[int]) -> None:
    (found,) = encode_answers(PLACES, [attributes])
    assert found[found > 0].tolist() == expected
    assert len(found) == ANSWERS


def test_of_more_answers_than_are_read_the_last_count() -> None:
    places = {str(place): place for place in range(40)}
    (found,) = encode_answers(places, [{"answered_yes": [str(place) for place in range(40)]}])
    assert found.tolist() == [2 + 2 * place for place in range(40 - ANSWERS, 40)]


def test_taste_is_one_step_of_newton_from_the_prior(rng: np.random.Generator) -> None:
    """Over taste and activity together, whose prior is normal."""
    found = posterior(rng)
    answers = [1 + 2 * 3, 2 + 2 * 0, 2 + 2 * 5]
    keys = np.hstack([found.keys[[3, 0, 5]], np.ones((3, 1))]).astype(np.float64)
    rates = 1 / (1 + np.exp(-found.log_odds[[3, 0, 5]].astype(np.float64)))
    precision = np.diag([1.0] * 3 + [1 / ACTIVITY]) + keys.T @ np.diag(rates * (1 - rates)) @ keys
    expected = np.linalg.solve(precision, keys.T @ (np.array([0, 1, 1]) - rates))[:3]
    np.testing.assert_allclose(found.taste(rows(answers))[0], expected, rtol=1e-5)


def test_who_answered_nothing_keeps_the_virtual_behaviour_that_attributes_make(rng: np.random.Generator) -> None:
    virtual = rng.normal(size=(3, 4, 3)).astype(np.float32)
    found = posterior(rng).added(virtual, rows([], [2], []))
    np.testing.assert_array_equal(found[[0, 2]], virtual[[0, 2]])
    moved = np.flatnonzero((found - virtual)[1].ravel())
    assert sorted(moved.tolist()) == [2, 7, 9]
    nobody = np.zeros((3, 0), dtype=np.int64)
    assert AnswerPosterior.nothing().added(virtual, nobody) is virtual


def test_users_do_not_move_each_other(rng: np.random.Generator) -> None:
    found = posterior(rng)
    together = found.taste(rows([2, 3], [5, 8, 9], [12]))
    for own, answers in zip(together, ([2, 3], [5, 8, 9], [12]), strict=True):
        np.testing.assert_allclose(found.taste(rows(answers))[0], own, rtol=1e-5)


@pytest.mark.parametrize(("answer", "known"), [(0, True), (12, True), (13, False), (-1, False)])
def test_an_answer_to_a_question_that_there_is_not_is_told(answer: int, known: bool, rng: np.random.Generator) -> None:
    assert posterior(rng).knows(rows([answer])) is known
