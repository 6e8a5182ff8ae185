import math
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from scipy.special import expit

from foretaste.kernel.errors import ForetasteError
from models.effects.low_rank import (
    Counts,
    Design,
    Fit,
    Penalty,
    Weights,
    begin,
    fitted,
    resumed,
    slope_at_zero,
    strength,
    strongest,
)

pytestmark = pytest.mark.usefixtures("one_thread")
CELLS, ITEMS, SIZE = 7, 6, 5
VALUES = np.array([[0, 3], [1, 3], [2, 3], [0, 4], [1, SIZE], [SIZE, 4], [SIZE, SIZE]])
"""Of an attribute with values 0 to 2 and one with 3 and 4; some cells lack one or both."""
BIAS_PRECISION = 0.5


def _counts(rng: np.random.Generator, cells: Any = CELLS, items: Any = ITEMS) -> Counts:
    acted, passed = rng.integers(0, 30, (2, cells, items)).astype(np.float32)
    return Counts(torch.from_numpy(acted), torch.from_numpy(passed))


def _design() -> Design:
    return Design(torch.from_numpy(VALUES), SIZE)


def _member() -> npt.NDArray[Any]:
    """(C, G): how often each cell has each value."""
    return np.stack([np.bincount(values, minlength=SIZE + 1)[:SIZE] for values in VALUES]).astype(float)


def _fit(counts: Any, threshold: Any, iterations: int = 400, design: Any = None, rank: int = 4) -> Any:
    design = design or _design()
    weights = Weights.of(counts, design)
    first = begin(counts, design, weights, threshold, rank, seed=0)
    return fitted(counts, design, Penalty(threshold, weights, BIAS_PRECISION), first, iterations), weights


def _arrays(counts: Any) -> Any:
    return counts.acted.double().numpy(), counts.passed.double().numpy()


def _loss(bias: Any, effects: Any, counts: Any, threshold: Any, weights: Any) -> Any:
    """As the module's docstring has it, cell by cell and item by item."""
    acted, passed = _arrays(counts)
    z = bias + _member() @ effects
    loss = BIAS_PRECISION / 2 * float(bias @ bias)
    for cell, item in product(range(CELLS), range(ITEMS)):
        loss += (acted + passed)[cell, item] * math.log1p(math.exp(z[cell, item])) - (acted * z)[cell, item]
    scaled = np.diag(weights.values.numpy()) @ effects @ np.diag(weights.items.numpy())
    return loss + threshold * np.linalg.svd(scaled, compute_uv=False).sum()


def _by_proximal_steps(counts: Any, threshold: Any, weights: Any, rounds: int = 4_000, step: float = 4e-3) -> Any:
    """The same minimum found another way: gradient steps in R W S, each followed by a cut of its singular values."""
    acted, passed = _arrays(counts)
    r, s = (part.double().numpy() for part in weights)
    bias, scaled = np.zeros(ITEMS), np.zeros((SIZE, ITEMS))
    for _ in range(rounds):
        error = (acted + passed) * expit(bias + _member() @ (scaled / r[:, None] / s)) - acted
        bias = bias - step * (error.sum(0) + BIAS_PRECISION * bias)
        left, strength, right = np.linalg.svd(
            scaled - step * (_member().T @ error) / r[:, None] / s, full_matrices=False
        )
        scaled = left * np.maximum(strength - step * threshold, 0) @ right
    return bias, scaled / r[:, None] / s


def test_a_cell_has_the_sum_of_its_values(rng: np.random.Generator) -> None:
    effects = rng.normal(size=(SIZE, ITEMS))
    expected = torch.from_numpy(_member() @ effects)
    torch.testing.assert_close(_design().of_cells(torch.from_numpy(effects)), expected)


@pytest.mark.parametrize("seed", range(5))
def test_gathering_is_the_transpose(seed: Any) -> None:
    rng = np.random.default_rng(seed)
    effects, of_cells = torch.from_numpy(rng.normal(size=(SIZE, 3))), torch.from_numpy(rng.normal(size=(CELLS, 3)))
    one = (_design().of_cells(effects) * of_cells).sum()
    torch.testing.assert_close((effects * _design().gathered(of_cells)).sum(), one)


def test_weights_are_fourth_roots_of_what_was_counted_about_their_mean(rng: np.random.Generator) -> None:
    counts = _counts(rng)
    weights = Weights.of(counts, _design())
    met = counts.met.numpy().sum(1) @ _member()
    np.testing.assert_allclose(weights.values, (met / met.mean()) ** 0.25, rtol=1e-5)
    items = counts.met.numpy().sum(0)
    np.testing.assert_allclose(weights.items, (items / items.mean()) ** 0.25, rtol=1e-5)


def test_what_attributes_tell_is_the_downward_slope_at_no_effects(rng: np.random.Generator) -> None:
    counts = _counts(rng)
    weights = Weights.of(counts, _design())
    bias = counts.item_log_odds.double().numpy()
    found, small = slope_at_zero(counts, _design(), weights), 1e-5
    for value, item in product(range(SIZE), range(ITEMS)):
        effects = np.zeros((SIZE, ITEMS))
        effects[value, item] = small / float(weights.values[value] * weights.items[item])
        fall = (_loss(bias, -effects, counts, 0.0, weights) - _loss(bias, effects, counts, 0.0, weights)) / (2 * small)
        assert float(found[value, item]) == pytest.approx(fall, rel=1e-3, abs=1e-2)


@pytest.mark.parametrize("threshold", [5.0, 15.0])
def test_the_loss_is_least_where_another_way_finds_it(rng: np.random.Generator, threshold: float) -> None:
    counts = _counts(rng)
    fit, weights = _fit(counts, threshold, rank=SIZE)
    bias, effects = _by_proximal_steps(counts, threshold, weights)
    assert np.linalg.matrix_rank(effects, tol=1e-3) < SIZE, "some direction is cut"
    np.testing.assert_allclose(fit.bias, bias, atol=5e-3)
    np.testing.assert_allclose(fit.effects, effects, atol=5e-3)
    least = _loss(bias, effects, counts, threshold, weights)
    assert _loss(fit.bias.double().numpy(), fit.effects.double().numpy(), counts, threshold, weights) == pytest.approx(
        least, rel=1e-5
    )


def test_only_directions_told_more_strongly_than_the_threshold_are_begun(rng: np.random.Generator) -> None:
    counts = _counts(rng)
    weights = Weights.of(counts, _design())
    values = np.linalg.svd(slope_at_zero(counts, _design(), weights).numpy(), compute_uv=False)
    assert strength(slope_at_zero(counts, _design(), weights), seed=1) == pytest.approx(values[0], rel=1e-5)
    for kept in range(SIZE):
        threshold = float((values[kept - 1] if kept else values[0] + 2) + values[kept]) / 2
        first = begin(counts, _design(), weights, threshold, SIZE, seed=0)
        assert first.left.shape == (SIZE, kept)
        assert first.right.shape == (ITEMS, kept)
    assert begin(counts, _design(), weights, 0.0, 2, seed=0).left.shape == (SIZE, 2)


def test_the_first_step_is_the_slope_above_the_threshold_over_the_curvature() -> None:
    """Two cells of one value each, two items, all alike: one direction, and one curvature for every entry."""
    design = Design(torch.tensor([[0], [1]]), 2)
    counts = Counts(torch.tensor([[300.0, 100.0], [100.0, 300.0]]), torch.tensor([[100.0, 300.0], [300.0, 100.0]]))
    first = begin(counts, design, Weights.of(counts, design), 50.0, 2, seed=0)
    told, curvature = 200.0, 100.0  # of ±100 in each entry; 400 met, half of them acted on
    np.testing.assert_allclose(first.effects, (told - 50) / curvature * np.array([[0.5, -0.5], [-0.5, 0.5]]), atol=1e-3)


def test_a_loss_that_is_not_finite_is_refused() -> None:
    counts = Counts(torch.full((CELLS, ITEMS), torch.inf), torch.ones(CELLS, ITEMS))
    weights = Weights(torch.ones(SIZE), torch.ones(ITEMS))
    first = Fit(torch.zeros(ITEMS), torch.ones(SIZE, 1), torch.ones(ITEMS, 1))
    with pytest.raises(ForetasteError, match="diverged"):
        fitted(counts, _design(), Penalty(1.0, weights, BIAS_PRECISION), first, 5)


def test_rare_values_and_items_are_weighted_no_less_than_a_thousandth_of_the_mean() -> None:
    acted = torch.ones(2, 3)
    acted[:, 0] = 1e-9
    weights = Weights.of(Counts(acted, torch.zeros(2, 3)), Design(torch.tensor([[0], [1]]), 2))
    assert float(weights.items[0]) == pytest.approx(1e-3**0.25, rel=1e-5)


def test_under_a_great_threshold_nothing_but_the_bias_is_said(rng: np.random.Generator) -> None:
    counts = _counts(rng)
    fit, _ = _fit(counts, 1e6)
    assert not fit.effects.any()
    assert fit.effects.shape == (SIZE, ITEMS)
    slope = counts.met.sum(0) * fit.bias.sigmoid() - counts.acted.sum(0) + BIAS_PRECISION * fit.bias
    np.testing.assert_allclose(slope, 0, atol=0.01)


def test_few_iterations_are_near_the_end(rng: np.random.Generator) -> None:
    """The first step is of the size of a Newton step: neither lost in the flat nor far beyond."""
    counts = _counts(rng)
    weights = Weights.of(counts, _design())
    losses = [
        _loss(fit.bias.double().numpy(), fit.effects.double().numpy(), counts, 5.0, weights)
        for fit, _ in (_fit(counts, 5.0, iterations) for iterations in (0, 8, 400))
    ]
    assert losses[0] > losses[1] > losses[2] - 1e-6
    assert losses[1] - losses[2] < 0.05 * (losses[0] - losses[2])


def test_counts_of_one_class_or_of_nothing_leave_finite_effects(rng: np.random.Generator) -> None:
    acted = _counts(rng).acted
    for counts in (Counts(acted, acted * 0), Counts(acted * 0, acted), Counts(acted * 0, acted * 0)):
        fit, _ = _fit(counts, 1.0)
        assert all(torch.isfinite(part).all() for part in fit)
        assert np.isfinite(counts.log_odds)


def test_counts_are_added_and_taken_off_never_below_nothing(rng: np.random.Generator) -> None:
    one, other = _counts(rng), _counts(rng)
    both = one + other
    assert torch.equal(both.acted, one.acted + other.acted)
    assert torch.equal((both - other).passed, one.passed)
    assert not (one - both).acted.any()
    expected = math.log((one.acted.sum() + 1) / (one.passed.sum() + 1))
    assert one.log_odds == pytest.approx(expected)


def test_the_strongest_directions_are_those_of_the_singular_value_decomposition(rng: np.random.Generator) -> None:
    matrix = torch.from_numpy(rng.normal(size=(5, 30)))
    left, values, right = strongest(matrix, 2, seed=1)
    np.testing.assert_allclose(values, np.linalg.svd(matrix.numpy(), compute_uv=False)[:2], rtol=1e-6)
    np.testing.assert_allclose(left.T @ matrix.numpy(), values[:, None] * right, atol=1e-6)


@pytest.mark.parametrize("shape", [(0, 4), (4, 0), (0, 0)])
def test_where_there_is_nothing_no_direction_is_strong(shape: Any) -> None:
    left, values, right = strongest(torch.zeros(shape), 3, seed=1)
    assert left.shape == (shape[0], 0)
    assert values.shape == (0,)
    assert right.shape == (0, shape[1])
    assert strength(torch.zeros(shape), seed=1) == 0.0


def _of(fit: Any, counts: Any, threshold: Any, weights: Any) -> Any:
    return _loss(fit.bias.double().numpy(), fit.effects.double().numpy(), counts, threshold, weights)


def _resumed(counts: Any, weights: Any, threshold: Any, earlier: Any) -> Any:
    penalty = Penalty(threshold, weights, BIAS_PRECISION)
    return resumed(counts, _design(), penalty, earlier, SIZE, seed=0)


def test_a_step_from_the_least_loss_stays_there(rng: np.random.Generator) -> None:
    counts = _counts(rng)
    fit, weights = _fit(counts, 5.0, rank=SIZE)
    found = _resumed(counts, weights, 5.0, fit)
    np.testing.assert_allclose(found.effects, fit.effects, atol=0.02)
    np.testing.assert_allclose(found.bias, fit.bias, atol=0.02)


@pytest.mark.parametrize("factor", [0.0, 0.5, -1.0, 3.0])
def test_a_step_from_elsewhere_leads_down(rng: np.random.Generator, factor: float) -> None:
    counts = _counts(rng)
    fit, weights = _fit(counts, 5.0, rank=SIZE)
    other = fit._replace(left=factor * fit.left)
    found = _resumed(counts, weights, 5.0, other)
    least, before, after = (_of(each, counts, 5.0, weights) for each in (fit, other, found))
    assert after - least < 0.85 * (before - least)


def test_a_step_finds_directions_that_the_earlier_fit_had_not(rng: np.random.Generator) -> None:
    counts = _counts(rng)
    fit, weights = _fit(counts, 5.0, rank=SIZE)
    earlier = fit._replace(left=fit.left[:, :1], right=fit.right[:, :1])
    found = _resumed(counts, weights, 5.0, earlier)
    assert found.left.shape[1] > 1
    assert _of(found, counts, 5.0, weights) < _of(earlier, counts, 5.0, weights)


def test_where_no_step_leads_down_the_earlier_fit_stays(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = _counts(rng)
    fit, weights = _fit(counts, 5.0, rank=SIZE)
    monkeypatch.setattr("models.effects.low_rank._loss", lambda *_: 1.0)
    assert _resumed(counts, weights, 5.0, fit) is fit
