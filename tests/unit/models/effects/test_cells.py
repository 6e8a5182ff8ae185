"""Counts by user and by cell."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy import sparse

from models.effects.cells import MOST_WINDOWS, Cells, Past, Tally

ROWS, ITEMS, WINDOWS = 5, 4, 2
CELL = np.array([1, 0, -1, 1, 2])
"""Of each row; the third one's counts for nothing."""


def _tally(rng: np.random.Generator, windows: Any = WINDOWS, rows: Any = ROWS) -> Tally:
    acted, passed = (sparse.csr_matrix(rng.integers(0, 3, (rows, ITEMS)).astype(float)) for _ in range(2))
    return Tally(acted, passed, rng.random((windows, rows)), rng.dirichlet(np.ones(ITEMS), windows))


def _dense(tally: Any) -> Any:
    return tally.acted.toarray(), tally.drawn.T @ tally.popularity + tally.passed.toarray()


def _by_cell(values: Any) -> npt.NDArray[Any]:
    found = np.zeros((3, ITEMS))
    for row, cell in enumerate(CELL):
        if cell >= 0:
            found[cell] += values[row]
    return found


def test_counts_are_sums_over_the_rows_of_a_cell(rng: np.random.Generator) -> None:
    tally = _tally(rng)
    acted, passed = _dense(tally)
    known = np.flatnonzero(CELL >= 0)
    found = tally.counts(known, CELL, 3)
    np.testing.assert_allclose(found.acted, _by_cell(acted), rtol=1e-6)
    np.testing.assert_allclose(found.passed, _by_cell(passed), rtol=1e-6)
    by_cell = tally.by(CELL, 3)
    for one, expected in zip(_dense(by_cell), (acted, passed), strict=True):
        np.testing.assert_allclose(one, _by_cell(expected))


def test_items_are_moved_and_left_out(rng: np.random.Generator) -> None:
    tally = _tally(rng)
    column = np.array([3, -1, 0, 1])
    for found, before in zip(_dense(tally.over(column, 6)), _dense(tally), strict=True):
        np.testing.assert_allclose(found[:, [3, 0, 1]], before[:, [0, 2, 3]])
        assert not found[:, [2, 4, 5]].any()


def test_tallies_are_added_and_faded(rng: np.random.Generator) -> None:
    one, other = _tally(rng), _tally(rng)
    for found, first, second in zip(_dense(one.faded(0.5) + other), _dense(one), _dense(other), strict=True):
        np.testing.assert_allclose(found, first / 2 + second)


def test_of_many_windows_the_oldest_become_one_that_keeps_what_each_row_and_item_has(rng: np.random.Generator) -> None:
    tally, parts = _tally(rng, 0), [_tally(rng, 1) for _ in range(MOST_WINDOWS + 3)]
    for part in parts:
        tally += part
    assert len(tally.drawn) == MOST_WINDOWS
    drawn = sum(part.drawn.T @ part.popularity for part in parts)
    np.testing.assert_allclose((tally.drawn.T @ tally.popularity).sum(axis=0), drawn.sum(axis=0))
    np.testing.assert_allclose((tally.drawn.T @ tally.popularity).sum(axis=1), drawn.sum(axis=1))
    np.testing.assert_array_equal(tally.drawn[-1], parts[-1].drawn[0])


def test_a_window_of_labels_leaves_no_window_of_negatives(rng: np.random.Generator) -> None:
    assert len((_tally(rng, 0) + _tally(rng, 0)).drawn) == 0
    nothing_drawn = Tally(*(sparse.csr_matrix((ROWS, ITEMS)),) * 2, np.zeros((1, ROWS)), np.zeros((1, ITEMS)))
    assert len((nothing_drawn + _tally(rng, 1)).drawn) == 1


@pytest.mark.parametrize("windows", [0, 2])
def test_a_tally_survives_its_file(rng: np.random.Generator, windows: int) -> None:
    tally = _tally(rng, windows)
    for found, expected in zip(_dense(Tally.from_arrays(tally.to_arrays())), _dense(tally), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_cells_of_both_are_joined() -> None:
    one = Cells(np.array([[1, 2], [3, 1]]), np.array([4.0, 1.0]))
    other = Cells(np.array([[2, 2], [1, 2]]), np.array([2.0, 3.0]))
    both, own, others = one.joined(other)
    assert both.values.tolist() == [[1, 2], [2, 2], [3, 1]]
    assert both.users.tolist() == [7, 2, 1]
    assert (own.tolist(), others.tolist()) == ([0, 2], [1, 0])


def test_of_the_past_counts_fade_and_users_do_not(rng: np.random.Generator) -> None:
    cells = Cells(np.ones((ROWS, 1), dtype=np.int64), np.full(ROWS, 2.0))
    past = Past(cells, np.arange(ITEMS), np.full(ITEMS, 8.0), _tally(rng)).faded(0.25)
    assert past.frequency.tolist() == [2.0] * ITEMS
    assert past.cells.users.tolist() == [2.0] * ROWS
