import math
from itertools import product

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from models.evidence import LEAST, MOST, START, Counts, Design, by_evidence, maximise, next_precision

pytestmark = pytest.mark.usefixtures("one_thread")
CELLS, ITEMS = 7, 4
NONE = 5
VALUES = np.array([[0, 3], [1, 3], [2, 3], [0, 4], [1, NONE], [NONE, 4], [NONE, NONE]])
"""Of an attribute with values 0 to 2 and one with 3 and 4; some cells lack one or both."""
GROUPS = np.array([0, 1, 1, 1, 2, 2])
PRECISIONS = np.array([0.5, 2.0, 7.0])


def _counts(rng, cells=CELLS, items=ITEMS):
    acted, passed = rng.integers(0, 30, (2, cells, items)).astype(np.float32)
    return Counts(torch.from_numpy(acted), torch.from_numpy(passed))


def _design():
    return Design(torch.from_numpy(VALUES), GROUPS)


def _logit(effects, cell, item):
    return effects[0, item] + sum(effects[1 + value, item] for value in VALUES[cell] if value != NONE)


def _objective(effects, counts):
    """Minus the log posterior, cell by cell and item by item."""
    loss = 0.0
    for cell, item in product(range(CELLS), range(ITEMS)):
        p = 1 / (1 + math.exp(-_logit(effects, cell, item)))
        loss -= float(counts.acted[cell, item]) * math.log(p) + float(counts.passed[cell, item]) * math.log(1 - p)
    for row, item in product(range(len(GROUPS)), range(ITEMS)):
        loss += PRECISIONS[GROUPS[row]] * effects[row, item] ** 2 / 2
    return loss


def _slope(effects, counts):
    slope = PRECISIONS[GROUPS][:, None] * effects
    for cell, item in product(range(CELLS), range(ITEMS)):
        p = 1 / (1 + math.exp(-_logit(effects, cell, item)))
        acted, passed = float(counts.acted[cell, item]), float(counts.passed[cell, item])
        error = passed * p - acted * (1 - p)
        for row in [0, *(1 + value for value in VALUES[cell] if value != NONE)]:
            slope[row, item] += error
    return slope


def _found(counts, iterations=300):
    return maximise(counts, _design(), PRECISIONS, np.zeros((len(GROUPS), ITEMS)), iterations)


def test_logits_are_the_bias_and_the_sum_of_a_cells_values(rng):
    effects = rng.normal(size=(len(GROUPS), ITEMS)).astype(np.float32)
    expected = [[_logit(effects, cell, item) for item in range(ITEMS)] for cell in range(CELLS)]
    torch.testing.assert_close(_design().logits(torch.from_numpy(effects)), torch.tensor(np.array(expected)))


@pytest.mark.parametrize("seed", range(5))
def test_gathering_is_the_transpose_of_the_logits(seed):
    rng = np.random.default_rng(seed)
    effects = torch.from_numpy(rng.normal(size=(len(GROUPS), ITEMS)))
    of_cells = torch.from_numpy(rng.normal(size=(CELLS, ITEMS)))
    one = (_design().logits(effects) * of_cells).sum()
    torch.testing.assert_close((effects * _design().gathered(of_cells)).sum(), one)


def test_at_the_optimum_the_posterior_is_flat(rng):
    counts = _counts(rng)
    found = _found(counts)
    assert np.abs(_slope(np.zeros_like(found), counts)).max() > 10
    assert np.abs(_slope(found, counts)).max() < 0.02


def test_no_effects_are_likelier_than_those_found(rng):
    counts = _counts(rng)
    found = _found(counts)
    shape = found.shape
    best = minimize(
        lambda flat: _objective(flat.reshape(shape), counts),
        np.zeros(found.size),
        jac=lambda flat: _slope(flat.reshape(shape), counts).ravel(),
        method="BFGS",
    )
    np.testing.assert_allclose(found, best.x.reshape(shape), atol=2e-3)
    assert _objective(found, counts) == pytest.approx(best.fun, rel=1e-6)


def test_where_nothing_was_counted_the_prior_stands():
    nothing = Counts(torch.zeros(CELLS, ITEMS), torch.zeros(CELLS, ITEMS))
    assert not _found(nothing).any()


def test_counts_of_one_class_leave_finite_effects(rng):
    acted = _counts(rng).acted
    for counts in (Counts(acted, acted * 0), Counts(acted * 0, acted)):
        effects, precisions = by_evidence(counts, _design(), 0.5, rounds=3, iterations=20)
        assert np.isfinite(effects).all()
        assert np.isfinite(precisions).all()
        assert np.isfinite(counts.log_odds)


def test_counts_are_added_and_taken_off_never_below_nothing(rng):
    one, other = _counts(rng), _counts(rng)
    both = one + other
    assert torch.equal(both.acted, one.acted + other.acted)
    assert torch.equal((both - other).passed, one.passed)
    assert not (one - both).acted.any()
    expected = math.log((one.acted.sum() + 1) / (one.passed.sum() + 1))
    assert one.log_odds == pytest.approx(expected)


def _told_by_the_first(rng, met=200, items=20, values=6):
    """Each pair of values of two attributes a cell; the first has effects of size 1, the second has none."""
    cells = np.array(list(product(range(values), range(values, 2 * values))))
    effects = rng.normal(size=(values, items))
    p = 1 / (1 + np.exp(-effects[cells[:, 0]]))
    acted = rng.binomial(met, p).astype(np.float32)
    design = Design(torch.from_numpy(cells), np.repeat([0, 1, 2], [1, values, values]))
    return Counts(torch.from_numpy(acted), torch.from_numpy(met - acted)), design, effects


def test_the_precision_of_an_attribute_that_says_nothing_grows_and_that_of_one_that_does_stays(rng):
    counts, design, planted = _told_by_the_first(rng)
    effects, precisions = by_evidence(counts, design, 0.5, rounds=10, iterations=30)
    assert precisions[0] == 0.5
    assert 0.5 < precisions[1] < 2.0, "effects of size 1 have a precision of about 1"
    assert precisions[2] > 0.1 * MOST
    assert np.abs(effects[7:]).max() < 0.05
    told = effects[1:7] - effects[1:7].mean(axis=0)
    assert np.corrcoef(told.ravel(), (planted - planted.mean(axis=0)).ravel())[0, 1] > 0.97


def test_precisions_are_a_fixed_point(rng):
    counts = _counts(rng)
    effects, precisions = by_evidence(counts, _design(), 0.5, rounds=10, iterations=20)
    for group in (1, 2):
        determined = squares = 0.0
        for row, item in product(np.flatnonzero(group == GROUPS), range(ITEMS)):
            cells = [cell for cell in range(CELLS) if row - 1 in VALUES[cell]]
            p = [1 / (1 + math.exp(-_logit(effects, cell, item))) for cell in cells]
            met = [float(counts.acted[cell, item] + counts.passed[cell, item]) for cell in cells]
            curvature = sum(n * q * (1 - q) for n, q in zip(met, p, strict=True))
            determined += curvature / (curvature + precisions[group])
            squares += effects[row, item] ** 2
        assert precisions[group] == pytest.approx(determined / squares, rel=0.02)


def test_an_attribute_without_a_counted_value_has_said_nothing(rng):
    design = Design(torch.full((CELLS, 2), 3), np.array([0, 2, 2, 2]))
    _, precisions = by_evidence(_counts(rng), design, 0.5, rounds=1, iterations=5)
    assert precisions.shape == (3,)
    assert precisions[1] == MOST


def test_a_step_of_the_fixed_point_is_mackays(rng):
    effects, curvature = rng.normal(size=(3, 4)), rng.random((3, 4)) * 20
    determined = sum(c / (c + START) for c in curvature.ravel())
    expected = determined / sum(w * w for w in effects.ravel())
    assert next_precision(effects, curvature, START) == pytest.approx(expected)


def test_a_precision_stays_within_its_bounds():
    assert next_precision(np.zeros(3), np.ones(3), START) == MOST
    assert next_precision(np.full(3, 1e3), np.ones(3), START) == LEAST
    assert next_precision(np.ones(3), np.zeros(3), START) == LEAST
