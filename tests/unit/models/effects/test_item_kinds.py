"""What towers hold of a kind of item, foretold from the items that have its attribute values."""

from dataclasses import replace

import numpy as np
import pytest

from models.effects import item_kinds as module
from models.effects.item_kinds import PENALTY, KindRows, kinds_of
from models.runtime.encoding import Encoding, IndexArray

FEATURES = np.array([[0, 0], [0, 0], [1, 1], [1, 1], [1, 2], [2, 2], [0, 2]])
"""Of padding, of an unknown item and of five items; 0 is an unknown value."""
SHARES = np.array([0.4, 0.3, 0.1, 0.2, 0.0])


def encoding(features: IndexArray = FEATURES) -> Encoding:
    items = tuple(f"i{number}" for number in range(len(features) - 2))
    return Encoding({}, {}, {}, items, (), features)


def test_kinds_are_nothing_known_single_values_and_the_combinations_of_items() -> None:
    singles = [[1, 0], [0, 2], [0, 1], [2, 0]]
    assert kinds_of(encoding()).tolist() == [[0, 0], *singles, [1, 1], [1, 2], [2, 2]]


def test_items_without_attributes_are_of_one_kind() -> None:
    assert kinds_of(encoding(np.zeros((5, 0), dtype=np.int64))).shape == (1, 0)


def test_the_most_frequent_kinds_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_ITEM_KINDS", 6)
    assert kinds_of(encoding()).tolist()[-1] == [1, 1]


def test_a_row_is_the_ridge_regression_over_the_items() -> None:
    found = replace(encoding(), kinds=kinds_of(encoding()))
    table = np.arange(7 * 3, dtype=np.float64).reshape(7, 3) ** 2
    values = [(0, 1), (1, 2), (1, 1), (0, 2)]

    def design(rows: IndexArray) -> np.ndarray:
        return np.array([[1.0, *(float(row[column] == value) for column, value in values)] for row in rows])

    x, weights = design(FEATURES[2:]), SHARES / (SHARES + 1 / 5)
    penalty = np.diag([1e-9] + [PENALTY] * 4)
    solved = np.linalg.solve(x.T @ np.diag(weights) @ x + penalty, x.T @ np.diag(weights) @ table[2:])
    rows = KindRows.of(found, SHARES)
    np.testing.assert_allclose(rows.of_table(table), design(found.kinds) @ solved, rtol=1e-6)
    np.testing.assert_allclose(rows.of_table(table[:, :1])[0], solved[0, :1], rtol=1e-6)


def test_what_is_alike_in_all_items_is_alike_in_all_kinds() -> None:
    found = replace(encoding(), kinds=kinds_of(encoding()))
    np.testing.assert_allclose(KindRows.of(found, SHARES).of_table(np.full((7, 2), 3.5)), 3.5, rtol=1e-6)


def test_tables_of_any_number_of_axes_have_rows() -> None:
    found = replace(encoding(), kinds=kinds_of(encoding()))
    assert KindRows.of(found, SHARES).of_table(np.ones((7, 2, 3))).shape == (len(found.kinds), 2, 3)
    assert KindRows.of(found, SHARES).of_table(np.ones(7)).shape == (len(found.kinds),)
