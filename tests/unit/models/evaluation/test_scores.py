from typing import Any

import numpy as np
import pytest
from sklearn.metrics import ndcg_score, roc_auc_score

from models.evaluation.bootstrap import Estimate, Resamples, mean
from models.evaluation.metrics import gauc, user_ndcg
from models.evaluation.scores import METRICS, Metric, measure


def _judged(seed: int = 0, users: int = 30, rows: int = 900, levels: Any = None) -> Any:
    """Rows of which a score says something; with `levels`, scores of that few values."""
    rng = np.random.default_rng(seed)
    owner, labels = rng.integers(0, users, rows) * 3, rng.integers(0, 2, rows)
    scores = labels + rng.normal(0, 2, rows)
    return owner, labels, np.round(scores) if levels else scores


def _repeated(owner: Any, draw: Any) -> Any:
    """The rows of a draw: those of each user as often as it was drawn, each time as another user."""
    rows, copies = [], []
    copy = 0
    for user, count in zip(draw.users, draw.counts[0], strict=True):
        for _ in range(int(count)):
            own = np.flatnonzero(owner == user)
            rows.append(own)
            copies.append(np.full(len(own), copy))
            copy += 1
    return np.concatenate(rows), np.concatenate(copies)


def test_a_draw_takes_as_many_users_as_there_are_and_is_the_same_for_the_same_seed() -> None:
    owner, *_ = _judged()
    draws = Resamples.drawn(owner, 200, seed=1)
    assert draws.users.tolist() == sorted(set(owner.tolist()))
    assert (draws.counts.sum(axis=1) == 30).all()
    assert draws.counts.mean(axis=0) == pytest.approx(1, abs=0.3)
    assert np.array_equal(draws.counts, Resamples.drawn(owner[::-1], 200, seed=1).counts)
    assert not np.array_equal(draws.counts, Resamples.drawn(owner, 200, seed=2).counts)


def test_each_draw_is_what_its_users_rows_would_give() -> None:
    """Against repeating the rows of every user as often as it was drawn, and measuring those."""
    owner, labels, scores = _judged(levels=True)
    draws = Resamples.drawn(owner, 25, seed=3)
    found = measure(owner, labels, scores, draws)
    for number in range(25):
        rows, copies = _repeated(owner, Resamples(draws.users, draws.counts[number : number + 1]))
        assert found["gauc"].drawn[number] == pytest.approx(gauc(copies, labels[rows], scores[rows]), abs=1e-9)
        assert found["auc"].drawn[number] == pytest.approx(roc_auc_score(labels[rows], scores[rows]), abs=1e-6)
        expected = np.nanmean(user_ndcg(copies, labels[rows], scores[rows]))
        assert found["ndcg@10"].drawn[number] == pytest.approx(expected, abs=1e-9)


def test_scores_of_many_values_hardly_move_a_pooled_auc_from_what_its_rows_would_give() -> None:
    owner, labels, scores = _judged(rows=4000)
    draws = Resamples.drawn(owner, 10, seed=3)
    found = measure(owner, labels, scores, draws)["auc"]
    assert found.value == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)
    for number in range(10):
        rows, _ = _repeated(owner, Resamples(draws.users, draws.counts[number : number + 1]))
        assert found.drawn[number] == pytest.approx(roc_auc_score(labels[rows], scores[rows]), abs=2e-4)


def test_the_figures_themselves() -> None:
    owner, labels, scores = _judged(levels=True)
    found = measure(owner, labels, scores, Resamples.drawn(owner, 400, seed=0))
    assert tuple(found) == METRICS[:3], "nothing repeats"
    assert found["auc"].value == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)
    assert found["gauc"].value == pytest.approx(gauc(owner, labels, scores), abs=1e-12)
    for estimate in found.values():
        low, high = estimate.interval
        assert low < estimate.value < high
        assert (low, high) == pytest.approx(np.percentile(estimate.drawn, [2.5, 97.5]))


def test_without_repeats_is_what_the_other_rows_would_give_on_the_same_draws() -> None:
    owner, labels, scores = _judged(levels=True)
    draws = Resamples.drawn(owner, 20, seed=3)
    repeat = np.random.default_rng(4).random(len(owner)) < 0.4
    repeat[owner == owner[0]] = True  # a user of whom nothing is left
    found = measure(owner, labels, scores, draws, repeat)
    assert tuple(found) == METRICS
    alone = measure(owner[~repeat], labels[~repeat], scores[~repeat], draws)
    pairs: tuple[tuple[Metric, Metric], ...]
    pairs = (("gauc", "gauc_without_repeats"), ("ndcg@10", "ndcg@10_without_repeats"))
    for name, without_name in pairs:
        without = found[without_name]
        assert without.value == alone[name].value != found[name].value
        assert np.array_equal(without.drawn, alone[name].drawn)
    nothing = measure(owner, labels, scores, draws, np.zeros(len(owner), dtype=np.bool_))
    assert tuple(nothing) == METRICS[:3]


@pytest.mark.parametrize("levels", [None, True])
def test_ndcg_of_each_user_is_scikit_learns(levels: bool | None) -> None:
    owner, labels, scores = _judged(seed=5, users=60, rows=900, levels=levels)
    labels[owner == 0] = 0
    expected = []
    for user in np.unique(owner):
        own = owner == user
        expected.append(ndcg_score([labels[own]], [scores[own]], k=10) if labels[own].any() else np.nan)
    assert user_ndcg(owner, labels, scores) == pytest.approx(np.array(expected), nan_ok=True, abs=1e-12)
    assert np.isnan(expected[0])


def test_pairs_are_relative_and_drawn_together() -> None:
    better, base = Estimate(0.6, np.array([0.60, 0.63, 0.55])), Estimate(0.5, np.array([0.50, 0.60, 0.50]))
    found = better.relative_to(base)
    assert found.value == pytest.approx(0.2)
    assert found.drawn == pytest.approx([0.2, 0.05, 0.1])
    assert base.relative_to(base).interval == (0.0, 0.0)


def test_a_difference_of_paired_draws_is_narrower_than_of_draws_apart() -> None:
    owner, labels, scores = _judged(users=60, rows=3000)
    slightly = scores + np.random.default_rng(1).normal(0, 0.2, len(scores))
    one, other = (Resamples.drawn(owner, 400, seed=seed) for seed in (1, 2))
    base = measure(owner, labels, scores, one)["gauc"]
    paired = measure(owner, labels, slightly, one)["gauc"].relative_to(base)
    apart = measure(owner, labels, slightly, other)["gauc"].relative_to(base)
    assert np.std(paired.drawn) < 0.5 * np.std(apart.drawn)


def test_the_mean_over_seeds_is_taken_draw_by_draw() -> None:
    found = mean([Estimate(0.5, np.array([0.4, 0.6])), Estimate(0.7, np.array([0.8, 0.6]))])
    assert found.value == pytest.approx(0.6)
    assert found.drawn == pytest.approx([0.6, 0.6])


def test_nobody_and_one_class_give_nan() -> None:
    nobody = np.zeros(0, dtype=np.int64)
    found = measure(nobody, nobody, nobody.astype(float), Resamples.drawn(nobody, 5, seed=0))
    assert all(np.isnan([one.value, *one.interval]).all() and len(one.drawn) == 5 for one in found.values())
    assert np.isnan(mean([found["auc"]]).relative_to(found["auc"]).value)
    users = np.array([1, 1, 2])
    found = measure(users, np.zeros(3), np.arange(3.0), Resamples.drawn(users, 5, seed=0))
    assert all(np.isnan([one.value, *one.interval]).all() for one in found.values())


def test_a_draw_without_a_judged_user_is_left_out_of_the_interval() -> None:
    users, labels = np.array([1, 1, 2, 3, 4]), np.array([1, 0, 0, 0, 0])
    found = measure(users, labels, np.array([2.0, 1, 0, 0, 0]), Resamples.drawn(users, 300, seed=0))["gauc"]
    assert np.isnan(found.drawn).any()
    assert found.interval == (1.0, 1.0)
