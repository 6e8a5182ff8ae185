"""Batches of the rows of counts, on the device that learns from them."""

from typing import NamedTuple

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from models.effects.by_gradient.rows import SparseRows
from models.effects.low_rank import Design


class RowBatch(NamedTuple):
    """Entries (E,) of the rows of a batch; its pool (P,), and what is expected of its items (C, P)."""

    values: Tensor
    rows: Tensor
    items: Tensor
    acted: Tensor
    met: Tensor
    pool: Tensor
    expected: Tensor


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
        self._items = torch.from_numpy(entries.indices.astype(np.int32)).to(device)
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
        ends = sizes.cumsum(0)
        rows = torch.arange(len(chosen), device=self._device).repeat_interleave(sizes)
        places = torch.arange(int(ends[-1]), device=self._device) + (starts - ends + sizes)[rows]
        pool, ratio = self._pool()
        expected = self._drawn[:, chosen].T @ ratio
        items = self._items[places].long()
        return RowBatch(self._values[chosen], rows, items, self._acted[places], self._met[places], pool, expected)

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
