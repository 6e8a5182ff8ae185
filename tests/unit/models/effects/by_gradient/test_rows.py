"""What is told of counts of which only what was seen is kept is what the dense ones tell."""

from typing import Any

import numpy as np
import pytest
import torch
from scipy import sparse

from models.effects.by_gradient.rows import SparseRows, first_step, strength_of
from models.effects.by_gradient.rows import strongest as strongest_of
from models.effects.cells import SparseCounts
from models.effects.low_rank import Counts, Design, Weights, begin, slope_at_zero, strongest

pytestmark = pytest.mark.usefixtures("one_thread")
CELLS, ITEMS, SIZE, WINDOWS = 40, 12, 5, 2
OF_ITEMS = Design(torch.tensor([[item % 3] for item in range(ITEMS)]), 3)


def _design(items: Design | None, rng: np.random.Generator) -> Design:
    """Some cells lack the first attribute, some the second, some both."""
    first, second = rng.integers(0, 4, CELLS), rng.integers(3, SIZE + 1, CELLS)
    values = np.column_stack([np.where(first == 3, SIZE, first), second])
    return Design(torch.from_numpy(values), SIZE, items)


def _counts(rng: np.random.Generator) -> tuple[SparseRows, Counts]:
    """Sampled negatives of two windows; what is taken off is what was met, and never more than was expected."""
    drawn, popularity = rng.random((WINDOWS, CELLS)) * 30, rng.random((WINDOWS, ITEMS))
    popularity /= popularity.sum(axis=1, keepdims=True)
    acted = rng.integers(0, 4, (CELLS, ITEMS)) * (rng.random((CELLS, ITEMS)) < 0.3)
    taken = -(drawn.T @ popularity) * (acted > 0)
    found = SparseCounts(sparse.csr_matrix(acted.astype(float)), sparse.csr_matrix(taken), drawn, popularity)
    rows = np.arange(CELLS)
    return SparseRows(found), found.counts(rows, rows, CELLS)


@pytest.fixture(params=["items alone", "items of kinds"])
def both(request: pytest.FixtureRequest, rng: np.random.Generator) -> tuple[SparseRows, Counts, Design]:
    return *_counts(rng), _design(OF_ITEMS if request.param == "items of kinds" else None, rng)


def test_sums_are_those_of_dense_counts(both: Any) -> None:
    rows, counts, design = both
    np.testing.assert_allclose(rows.met_items, counts.met.sum(0), rtol=1e-5)
    np.testing.assert_allclose(rows.met_cells, counts.met.sum(1), rtol=1e-5)
    np.testing.assert_allclose(rows.item_log_odds, counts.item_log_odds, rtol=1e-5, atol=1e-6)
    assert rows.log_odds == pytest.approx(counts.log_odds, rel=1e-5)
    for own, dense in zip(rows.weights(design), Weights.of(counts, design), strict=True):
        np.testing.assert_allclose(own, dense, rtol=1e-5)


def test_the_slope_is_that_of_dense_counts_forth_and_back(both: Any) -> None:
    rows, counts, design = both
    weights = Weights.of(counts, design)
    slope, dense = rows.slope_at_zero(design, weights), slope_at_zero(counts, design, weights).numpy()
    np.testing.assert_allclose(slope @ np.eye(dense.shape[1]), dense, atol=1e-4)
    np.testing.assert_allclose(slope.rmatmat(np.eye(len(dense))), dense.T, atol=1e-4)


@pytest.mark.parametrize("rank", [1, 2, SIZE, 99])
def test_the_strongest_directions_are_those_of_dense_counts(rank: Any, both: Any) -> None:
    rows, counts, design = both
    weights = Weights.of(counts, design)
    slope, dense = rows.slope_at_zero(design, weights), slope_at_zero(counts, design, weights).numpy()
    left, values, right = strongest_of(slope, rank, seed=3)
    _, expected, _ = strongest(torch.from_numpy(dense), rank, seed=3)
    np.testing.assert_allclose(values, expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(left * values @ right, dense @ right.T @ right, atol=1e-4)
    assert strength_of(slope, seed=3) == pytest.approx(expected[0], rel=1e-4)


def test_no_directions_are_none(both: Any) -> None:
    rows, counts, design = both
    slope = rows.slope_at_zero(design, Weights.of(counts, design))
    left, values, right = strongest_of(slope, 0, seed=3)
    assert (left.shape, values.shape, right.shape) == ((slope.shape[0], 0), (0,), (0, slope.shape[1]))


def test_where_nothing_is_told_there_is_no_direction() -> None:
    nothing = sparse.csr_matrix((CELLS, ITEMS))
    rows = SparseRows(SparseCounts(nothing, nothing, np.zeros((0, CELLS)), np.zeros((0, ITEMS))))
    wide = Design(torch.arange(CELLS).unsqueeze(1), CELLS)
    slope = rows.slope_at_zero(wide, rows.weights(wide))
    assert strength_of(slope, seed=3) == 0
    assert first_step(rows, wide, rows.weights(wide), 0.5, 4, 3).left.shape == (CELLS, 0)


def test_the_first_step_is_that_of_dense_counts(both: Any) -> None:
    rows, counts, design = both
    weights = Weights.of(counts, design)
    threshold = 0.5 * strength_of(rows.slope_at_zero(design, weights), seed=3)
    own, dense = (make(each, design, weights, threshold, 4, 3) for make, each in ((first_step, rows), (begin, counts)))
    assert own.left.shape[1] >= 1
    np.testing.assert_allclose(own.bias, dense.bias, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(own.effects, dense.effects, atol=1e-3)
