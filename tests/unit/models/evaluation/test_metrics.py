"""AUC and GAUC against scikit-learn's, ties and one-class users included."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from foretaste.kernel.errors import InvalidInput
from models.evaluation.metrics import auc, gauc, user_auc

ROWS = st.lists(
    st.tuples(
        st.integers(0, 4), st.integers(0, 1), st.sampled_from([0.0, 0.25, 0.5, 1.0, -3.0]) | st.floats(-1e6, 1e6)
    ),
    max_size=60,
)
Rows = Sequence[tuple[int, int, float]]


def columns(rows: Rows) -> tuple[Any, Any, Any]:
    users, labels, scores = zip(*rows, strict=True) if rows else ((), (), ())
    return np.array(users, dtype=np.int64), np.array(labels, dtype=np.int8), np.array(scores, dtype=np.float64)


@settings(deadline=None, max_examples=50)
@given(ROWS)
def test_auc_is_what_scikit_learn_says(rows: Rows) -> None:
    _, labels, scores = columns(rows)
    if len(set(labels.tolist())) < 2:
        assert math.isnan(auc(labels, scores))
    else:
        assert auc(labels, scores) == pytest.approx(roc_auc_score(labels, scores))


@settings(deadline=None, max_examples=50)
@given(ROWS)
def test_gauc_is_the_weighted_mean_over_users_of_two_classes(rows: Rows) -> None:
    users, labels, scores = columns(rows)
    parts = [(labels[users == user], scores[users == user]) for user in np.unique(users)]
    judged = [(roc_auc_score(y, s), len(y)) for y, s in parts if len(set(y.tolist())) == 2]
    if judged:
        expected = sum(value * weight for value, weight in judged) / sum(weight for _, weight in judged)
        assert gauc(users, labels, scores) == pytest.approx(expected)
    else:
        assert math.isnan(gauc(users, labels, scores))


def test_users_may_be_texts_and_come_in_any_order() -> None:
    aucs, impressions = user_auc(["b", "a", "b", "a", "c"], [1, 0, 0, 1, 1], [0.9, 0.9, 0.1, 0.1, 0.5])
    assert impressions.tolist() == [2, 2, 1]
    assert aucs[:2].tolist() == [0.0, 1.0]
    assert math.isnan(aucs[2])


@pytest.mark.parametrize("score", [math.nan, math.inf])
def test_a_score_that_is_no_number_is_refused(score: float) -> None:
    with pytest.raises(InvalidInput, match="scores: must be finite"):
        auc([0, 1], [0.5, score])
