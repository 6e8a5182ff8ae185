"""The effects turned round: from the attributes of an item to what towers hold of it.

A kind of item is a combination of attribute values. Whatever a tower holds of an item as a row of a table (its key, its
biases, its embedding), is foretold for a kind by a ridge regression over the items that were learned of.
"""

from collections import Counter
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from scipy import sparse
from scipy.linalg import cho_factor, cho_solve

from foretaste.kernel.values import IndexArray
from models.runtime.encoding import FIELD_UNKNOWN, FIRST_KNOWN, Encoding

Doubles = npt.NDArray[np.float64]
MOST_ITEM_KINDS, MOST_SINGLE = 2048, 512
"""Kinds of a generation, and those of them of which one value alone is known."""
MOST_VALUES = 2048
"""Attribute values that the regression reads, those of most items: it is dense in them."""
PENALTY = 5.0
"""Of a value's coefficients, as so many items that have it and are like all others."""


def kinds_of(encoding: Encoding) -> IndexArray:
    """(K, F): an item of which nothing is known, items of one known value alone, and the combinations that items have.

    The most frequent ones first of each.
    """
    features = encoding.item_features[FIRST_KNOWN:]
    nothing = np.full((1, features.shape[1]), FIELD_UNKNOWN, dtype=np.int64)
    if not features.shape[1]:
        return nothing
    combinations, numbers = np.unique(features, axis=0, return_counts=True)
    frequent = combinations[np.argsort(-numbers, kind="stable")]
    found = np.concatenate([nothing, _single_values(features), frequent])
    _, first = np.unique(found, axis=0, return_index=True)
    return found[np.sort(first)[:MOST_ITEM_KINDS]]


@dataclass(frozen=True, eq=False, slots=True)
class KindRows:
    """What tables of items say of kinds: X_K (Xᵀ S X + λ)⁻¹ Xᵀ S T for a table T of items.

    X tells which item has which value, X_K which kind, both with a column of ones, which no λ draws to 0. The weights S
    are p / (p + 1 / I) for an item's share p of what was acted on: much is known of an item that is acted on often.
    """

    items: Any
    """(I, V), sparse: X."""
    kinds: Any
    """(K, V), sparse."""
    weights: Doubles
    """(I,)."""
    factor: Any
    """Of the matrix that is inverted, by Cholesky."""

    @classmethod
    def of(cls, encoding: Encoding, shares: npt.ArrayLike) -> Self:
        """For the kinds of an encoding; `shares` (items,) are those of what was acted on."""
        values = _values(encoding.item_features[FIRST_KNOWN:])[:MOST_VALUES]
        columns = {place: at for at, place in enumerate(values, start=1)}  # the first is of ones
        items, kinds = (_design(rows, columns) for rows in (encoding.item_features[FIRST_KNOWN:], encoding.kinds))
        own = np.asarray(shares, dtype=np.float64)
        weights = own / (own + 1 / max(len(own), 1))
        matrix = (items.T @ sparse.diags(weights) @ items).toarray()
        penalty = np.full(len(matrix), PENALTY)
        penalty[0] = 1e-9
        return cls(items, kinds, weights, cho_factor(matrix + np.diag(penalty)))

    def of_table(self, table: npt.ArrayLike) -> Doubles:
        """(K, …) rows of the kinds for a `table` (items + 2, …)."""
        known = np.asarray(table, dtype=np.float64)[FIRST_KNOWN:]
        flat = known.reshape(len(known), -1)
        found: Doubles = self.kinds @ cho_solve(self.factor, self.items.T @ (self.weights[:, None] * flat))
        return found.reshape(-1, *known.shape[1:])


def _single_values(features: IndexArray) -> IndexArray:
    """(S, F): rows of one value, of every column."""
    most = _values(features)[:MOST_SINGLE]
    rows = np.full((len(most), features.shape[1]), FIELD_UNKNOWN, dtype=np.int64)
    for row, (column, value) in zip(rows, most, strict=True):
        row[column] = value
    return rows


def _values(features: IndexArray) -> list[tuple[int, int]]:
    """Each known value as its column and its index, those of most items first."""
    counted = Counter[tuple[int, int]]()
    for column, values in enumerate(features.T):
        counted.update({(column, value): int(n) for value, n in enumerate(np.bincount(values)) if n})
    return [place for place, _ in counted.most_common() if place[1] != FIELD_UNKNOWN]


def _design(features: IndexArray, columns: dict[tuple[int, int], int]) -> Any:
    """(R, V), sparse."""
    rows, places = [np.arange(len(features))], [np.zeros(len(features), dtype=np.int64)]
    for column, values in enumerate(features.T):
        top = int(values.max(initial=0)) + 1
        of_value = np.array([columns.get((column, value), 0) for value in range(top)])[values]
        own = np.flatnonzero(of_value)
        rows.append(own)
        places.append(of_value[own])
    row, place = np.concatenate(rows), np.concatenate(places)
    return sparse.csr_matrix((np.ones(len(row)), (row, place)), (len(features), 1 + len(columns)))
