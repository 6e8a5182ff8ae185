"""Batches of the rows of counts, on the device that learns from them."""

from typing import NamedTuple

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from models.effects.by_gradient.rows import SparseRows
from models.effects.low_rank import Design, Doubles
from models.runtime.encoding import IndexArray

_REST_PARTS = 4
"""Few enough that Adam's momentum, which is of ten steps, holds all of them."""


class RowBatch(NamedTuple):
    """Entries (E,) of C rows, by row; where the same entries lie by item; and all items that negatives are expected of.

    `values` (C, N) are the rows' attribute values. `used` (X + P + Q,) are the items of the entries (X,), rising;
    behind them those of the pool (P,), of which most negatives are expected; and behind these a part of the rest (Q,).

    `row` (E,) and `place` (E,): the row of each entry, and the place of its item in `used`. `row_starts` (C,): where
    the entries of each row begin. `by_item` (E,): the entries by item, and `item_starts` (X,) where those of each
    begin. `acted` (E,) and `met` (E,): the counts of each entry.
    """

    values: Tensor
    used: Tensor
    row: Tensor
    place: Tensor
    row_starts: Tensor
    by_item: Tensor
    item_starts: Tensor
    acted: Tensor
    met: Tensor
    drawn: Tensor
    """(W, C): how many negatives of each window are expected of each row."""
    of_pool: Tensor
    """(W, P): the share of each item of the pool in them."""
    of_rest: Tensor
    """(W, Q): that of the rest, which comes in parts by turns, each standing for all of it."""


class Batches:
    """The counts of C rows on the device, and batches of them."""

    def __init__(self, rows: SparseRows, design: Design, pool: int, device: torch.device) -> None:
        counts = rows.counts
        entries = sparse.csr_matrix(counts.acted + 1j * (counts.acted + counts.passed))  # one pattern for both
        expected = counts.drawn.sum(axis=1) @ counts.popularity
        order = np.argsort(-expected, kind="stable")[: np.count_nonzero(expected)]
        self.met = max(float(rows.met_items.sum()), 1.0)
        self._starts = torch.from_numpy(entries.indptr.astype(np.int64)).to(device)
        self._items = torch.from_numpy(entries.indices.astype(np.int64)).to(device)
        self._acted = torch.from_numpy(entries.data.real.astype(np.float32)).to(device)
        self._met = torch.from_numpy(_least_met(entries, rows).astype(np.float32)).to(device)
        self._values, self._device = design.values.to(device), device
        self._drawn = torch.from_numpy(counts.drawn.astype(np.float32)).to(device)
        parts = min(max(len(order) // pool - 1, 1), _REST_PARTS)
        of_pool, *of_rest = order[:pool], *(order[pool + part :: parts] for part in range(parts))
        self._pool = _expected_of(of_pool, counts.popularity, device)
        self._rest = [_expected_of(part, counts.popularity, device, times=parts) for part in of_rest]
        self._made = 0

    def __len__(self) -> int:
        return len(self._values)

    def batch(self, chosen: Tensor) -> RowBatch:
        """That of the rows `chosen` (C,)."""
        starts = self._starts[chosen]
        sizes = self._starts[chosen + 1] - starts
        row_starts = sizes.cumsum(0) - sizes
        row = torch.arange(len(chosen), device=self._device).repeat_interleave(sizes)
        entries = torch.arange(len(row), device=self._device) + (starts - row_starts).index_select(0, row)
        items, by_item = self._items[entries].sort(stable=True)
        used, counts = torch.unique_consecutive(items, return_counts=True)
        place = torch.empty_like(by_item)
        place[by_item] = torch.arange(len(used), device=self._device).repeat_interleave(counts)
        (pool, of_pool), (rest, of_rest) = self._pool, self._rest[self._made % len(self._rest)]
        self._made += 1
        return RowBatch(
            self._values[chosen],
            torch.cat([used, pool, rest]),
            row,
            place,
            row_starts,
            by_item,
            counts.cumsum(0) - counts,
            self._acted[entries],
            self._met[entries],
            self._drawn[:, chosen],
            of_pool,
            of_rest,
        )


def _expected_of(items: IndexArray, popularity: Doubles, device: torch.device, times: int = 1) -> tuple[Tensor, Tensor]:
    """These items (P,) and so many `times` their share in each window (W, P)."""
    share = torch.from_numpy((times * popularity[:, items]).astype(np.float32))
    return torch.from_numpy(items).to(device), share.to(device)


def _least_met(entries: sparse.csr_matrix, rows: SparseRows) -> Doubles:
    """(E,) how often each entry was met beside what is expected of it: with that, no fewer were passed by than none.

    Where windows were put together, more may be taken off an entry than is expected of it.
    """
    counts = rows.counts
    row = np.repeat(np.arange(entries.shape[0]), np.diff(entries.indptr))
    expected = np.zeros(entries.nnz)
    for drawn, popularity in zip(counts.drawn, counts.popularity, strict=True):
        expected += drawn[row] * popularity[entries.indices]
    found: Doubles = np.maximum(entries.data.imag, entries.data.real - expected)
    return found
