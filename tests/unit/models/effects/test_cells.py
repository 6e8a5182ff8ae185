"""Counts by user and by cell."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy import sparse

from models.effects.cells import MOST_WINDOWS, SparseCounts, UserCells

ROWS, ITEMS, WINDOWS = 5, 4, 2
CELL = np.array([1, 0, -1, 1, 2])
"""Of each row; the third one's counts for nothing."""


def _counts(rng: np.random.Generator, windows: Any = WINDOWS, rows: Any = ROWS) -> SparseCounts:
    acted, passed = (sparse.csr_matrix(rng.integers(0, 3, (rows, ITEMS)).astype(float)) for _ in range(2))
    return SparseCounts(acted, passed, rng.random((windows, rows)), rng.dirichlet(np.ones(ITEMS), windows))


def _dense(counts: Any) -> Any:
    return counts.acted.toarray(), counts.drawn.T @ counts.popularity + counts.passed.toarray()


def _by_cell(values: Any) -> npt.NDArray[Any]:
    found = np.zeros((3, ITEMS))
    for row, cell in enumerate(CELL):
        if cell >= 0:
            found[cell] += values[row]
    return found


def test_counts_are_sums_over_the_rows_of_a_cell(rng: np.random.Generator) -> None:
    counts = _counts(rng)
    acted, passed = _dense(counts)
    known = np.flatnonzero(CELL >= 0)
    found = counts.counts(known, CELL, 3)
    np.testing.assert_allclose(found.acted, _by_cell(acted), rtol=1e-6)
    np.testing.assert_allclose(found.passed, _by_cell(passed), rtol=1e-6)
    by_cell = counts.by(CELL, 3)
    for one, expected in zip(_dense(by_cell), (acted, passed), strict=True):
        np.testing.assert_allclose(one, _by_cell(expected))


def test_items_are_moved_and_left_out(rng: np.random.Generator) -> None:
    counts = _counts(rng)
    column = np.array([3, -1, 0, 1])
    for found, before in zip(_dense(counts.over(column, 6)), _dense(counts), strict=True):
        np.testing.assert_allclose(found[:, [3, 0, 1]], before[:, [0, 2, 3]])
        assert not found[:, [2, 4, 5]].any()


def test_counts_are_added(rng: np.random.Generator) -> None:
    one, other = _counts(rng), _counts(rng)
    for found, first, second in zip(_dense(one + other), _dense(one), _dense(other), strict=True):
        np.testing.assert_allclose(found, first + second)


def test_of_many_windows_the_oldest_become_one_that_keeps_what_each_row_and_item_has(rng: np.random.Generator) -> None:
    counts, parts = _counts(rng, 0), [_counts(rng, 1) for _ in range(MOST_WINDOWS + 3)]
    for part in parts:
        counts += part
    assert len(counts.drawn) == MOST_WINDOWS
    drawn = sum(part.drawn.T @ part.popularity for part in parts)
    np.testing.assert_allclose((counts.drawn.T @ counts.popularity).sum(axis=0), drawn.sum(axis=0))
    np.testing.assert_allclose((counts.drawn.T @ counts.popularity).sum(axis=1), drawn.sum(axis=1))
    np.testing.assert_array_equal(counts.drawn[-1], parts[-1].drawn[0])


def test_a_window_of_labels_leaves_no_window_of_negatives(rng: np.random.Generator) -> None:
    assert len((_counts(rng, 0) + _counts(rng, 0)).drawn) == 0
    nothing_drawn = SparseCounts(*(sparse.csr_matrix((ROWS, ITEMS)),) * 2, np.zeros((1, ROWS)), np.zeros((1, ITEMS)))
    assert len((nothing_drawn + _counts(rng, 1)).drawn) == 1


@pytest.mark.parametrize("windows", [0, 2])
def test_counts_survive_their_file(rng: np.random.Generator, windows: int) -> None:
    counts = _counts(rng, windows)
    for found, expected in zip(_dense(SparseCounts.from_arrays(counts.to_arrays())), _dense(counts), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_cells_of_both_are_joined() -> None:
    one = UserCells(np.array([[1, 2], [3, 1]]), np.array([4.0, 1.0]))
    other = UserCells(np.array([[2, 2], [1, 2]]), np.array([2.0, 3.0]))
    both, own, others = one.joined(other)
    assert both.values.tolist() == [[1, 2], [2, 2], [3, 1]]
    assert both.users.tolist() == [7, 2, 1]
    assert (own.tolist(), others.tolist()) == ([0, 2], [1, 0])
