"""Batches of the rows of counts, on the device that learns from them."""

from typing import NamedTuple

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from models.effects.by_gradient.rows import SparseRows
from models.effects.low_rank import Design


class RowBatch(NamedTuple):
    """Entries (E,) of C rows, by row; of the same entries by item; and a pool of items.

    `used` (X,) are the items of the entries, rising, and behind them those of the pool (P,). `row` (E,) and `place`
    (E,): the row of each entry, and the place of its item in `used`. `row_starts` (C,): where the entries of each row
    begin. `by_item` (E,): the entries by item, and `item_starts` (X,) where those of each begin.
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
    ratio: Tensor
    """(W, P): what each item of the pool stands for of each window's popularity."""


class Batches:
    """The rows on the device, and batches of them."""

    def __init__(self, rows: SparseRows, design: Design, pool: int, device: torch.device, seed: int) -> None:
        counts = rows.counts
        entries = sparse.csr_matrix(counts.acted + 1j * (counts.acted + counts.passed))  # one pattern for both
        expected = counts.drawn.sum(axis=1) @ counts.popularity
        order = np.argsort(-expected, kind="stable")
        most, others = order[: pool if len(order) <= pool else pool // 2], order[pool // 2 :]
        rest = expected[others] if len(order) > pool else np.zeros(0)
        self.met = max(float(rows.met_items.sum()), 1.0)
        self.generator = torch.Generator(device).manual_seed(seed)
        self._starts = torch.from_numpy(entries.indptr.astype(np.int64)).to(device)
        self._items = torch.from_numpy(entries.indices.astype(np.int64)).to(device)
        self._acted = torch.from_numpy(entries.data.real.astype(np.float32)).to(device)
        self._met = torch.from_numpy(entries.data.imag.astype(np.float32)).to(device)
        self._values, self._device = design.values.to(device), device
        self._drawn = torch.from_numpy(counts.drawn.astype(np.float32)).to(device)
        self._popularity = torch.from_numpy(counts.popularity.astype(np.float32)).to(device)
        self._most = torch.from_numpy(most[expected[most] > 0]).to(device)
        self._others = torch.from_numpy(others).to(device)
        self._sampled = pool // 2 if rest.sum() > 0 else 0
        self._ends = torch.from_numpy(np.cumsum(rest) / max(rest.sum(), 1e-300)).to(device)
        self._likely = torch.from_numpy((rest / max(rest.sum(), 1e-300)).astype(np.float32)).to(device)

    def __len__(self) -> int:
        return len(self._values)

    def batch(self, chosen: Tensor) -> RowBatch:
        starts = self._starts[chosen]
        sizes = self._starts[chosen + 1] - starts
        row_starts = sizes.cumsum(0) - sizes
        row = torch.arange(len(chosen), device=self._device).repeat_interleave(sizes)
        entries = torch.arange(len(row), device=self._device) + (starts - row_starts).index_select(0, row)
        items, by_item = self._items[entries].sort(stable=True)
        used, counts = torch.unique_consecutive(items, return_counts=True)
        place = torch.empty_like(by_item)
        place[by_item] = torch.arange(len(used), device=self._device).repeat_interleave(counts)
        pool, ratio = self._pool()
        return RowBatch(
            self._values[chosen],
            torch.cat([used, pool]),
            row,
            place,
            row_starts,
            by_item,
            counts.cumsum(0) - counts,
            self._acted[entries],
            self._met[entries],
            self._drawn[:, chosen],
            ratio,
        )

    def _pool(self) -> tuple[Tensor, Tensor]:
        """Items (P,), and what each stands for of each window's popularity (W, P)."""
        if not self._sampled:
            return self._most, self._popularity[:, self._most]
        points = torch.rand(self._sampled, generator=self.generator, device=self._device, dtype=torch.float64)
        drawn = torch.searchsorted(self._ends, points).clamp(max=len(self._others) - 1)
        pool = torch.cat([self._most, self._others[drawn]])
        ratio = self._popularity[:, pool]
        ratio[:, len(self._most) :] /= self._likely[drawn] * self._sampled
        return pool, ratio
