"""Counts of cells and items of which only what was seen is kept: the fit by gradient reads these, at any size.

What is dense in cells x items is never made: sampled negatives are expected by popularity, which is one number a cell
and one an item.
"""

from dataclasses import dataclass

import numpy as np
import torch
from scipy import sparse
from scipy.sparse.linalg import ArpackError, LinearOperator, svds
from torch import Tensor

from foretaste.kernel.errors import ForetasteError
from models.effects.cells import SparseCounts
from models.effects.low_rank import Design, Doubles, Fit, Weights

_LEAST_CURVATURE = 1e-9


@dataclass(frozen=True, eq=False, slots=True)
class SparseRows:
    """What `Counts` holds densely of C cells and I items, as sums over `counts`, which are never made dense."""

    counts: SparseCounts

    @property
    def met_items(self) -> Doubles:
        """(I,): how often each item was met."""
        kept = np.asarray((self.counts.acted + self.counts.passed).sum(axis=0)).ravel()
        found: Doubles = np.maximum(kept + self.counts.drawn.sum(axis=1) @ self.counts.popularity, 0.0)
        return found

    @property
    def met_cells(self) -> Doubles:
        """(C,): how many items each cell met."""
        kept = np.asarray((self.counts.acted + self.counts.passed).sum(axis=1)).ravel()
        found: Doubles = np.maximum(kept + self.counts.popularity.sum(axis=1) @ self.counts.drawn, 0.0)
        return found

    @property
    def acted_items(self) -> Doubles:
        """(I,): how often each item was acted on."""
        return np.asarray(self.counts.acted.sum(axis=0)).ravel()

    @property
    def log_odds(self) -> float:
        """As `Counts.log_odds`."""
        acted, met = float(self.acted_items.sum()), float(self.met_items.sum())
        return float(np.log((acted + 1) / (max(met - acted, 0.0) + 1)))

    @property
    def item_log_odds(self) -> Doubles:
        """(I,) as `Counts.item_log_odds`."""
        acted = self.acted_items
        found: Doubles = np.log((acted + 1) / (np.maximum(self.met_items - acted, 0.0) + 1))
        return found

    def weights(self, design: Design) -> Weights:
        """As `Weights.of`."""
        of_values = design.gathered(_column(self.met_cells)).squeeze(1)
        return Weights.of_sums(of_values, torch.from_numpy(self.met_items), design)

    def slope_at_zero(self, design: Design, weights: Weights) -> LinearOperator:
        """As `low_rank.slope_at_zero`, (G, I + B), as what it does to a vector."""
        p = 1 / (1 + np.exp(-self.item_log_odds))
        surprise = sparse.csr_matrix(self.counts.acted - (self.counts.acted + self.counts.passed) @ sparse.diags(p))
        expected = self.counts.popularity * p
        cells, items = members(design.values, design.size), item_members(design, self.counts.acted.shape[1])
        of_values, of_items = (1 / each.double().numpy() for each in weights)

        def onto(right: Doubles) -> Doubles:
            keys = items @ (of_items * right.ravel())
            found: Doubles = of_values * (cells.T @ (surprise @ keys - self.counts.drawn.T @ (expected @ keys)))
            return found

        def back(left: Doubles) -> Doubles:
            codes = cells @ (of_values * left.ravel())
            found: Doubles = of_items * (items.T @ (surprise.T @ codes - expected.T @ (self.counts.drawn @ codes)))
            return found

        shape = (len(of_values), len(of_items))
        return LinearOperator(shape, matvec=onto, rmatvec=back, dtype=np.float64)


def members(values: Tensor, size: int) -> sparse.csr_matrix:
    """(R, size): a one where a row of `values` (R, X) has a value; `size` stands for none."""
    found = values.numpy()
    rows, columns = np.nonzero(found < size)
    return sparse.csr_matrix((np.ones(len(rows)), (rows, found[rows, columns])), (len(found), size))


def item_members(design: Design, items: int) -> sparse.csr_matrix:
    """(I, I + B): what makes up each item's key."""
    own = sparse.identity(items, format="csr")
    return (
        own if design.items is None else sparse.hstack([own, members(design.items.values, design.items.size)]).tocsr()
    )


def strongest(slope: LinearOperator, rank: int, seed: int) -> tuple[Doubles, Doubles, Doubles]:
    """As `low_rank.strongest`, of an operator (G, I): vectors (G, K), singular values (K,) falling, vectors (K, I)."""
    least = min(slope.shape)
    rank = min(rank, least)
    if not rank:
        return np.zeros((slope.shape[0], 0)), np.zeros(0), np.zeros((0, slope.shape[1]))
    if rank < least - 1:
        start = np.random.default_rng(seed).standard_normal(slope.shape[1])
        if not np.any(slope.matvec(start)):
            return np.zeros((slope.shape[0], 0)), np.zeros(0), np.zeros((0, slope.shape[1]))
        try:
            left, values, right = svds(slope, rank, random_state=seed)
        except ArpackError as error:
            raise ForetasteError(
                f"the strongest directions of the attributes' effects were not found: {error}"
            ) from error
        order = np.argsort(-values)
        return left[:, order], values[order], right[order]
    wide = slope.shape[0] == least  # few rows: each is found, and the whole decomposed
    whole = np.stack([slope.rmatvec(row) for row in np.eye(least)]) if wide else slope.matmat(np.eye(least))
    left, values, right = np.linalg.svd(whole, full_matrices=False)
    return left[:, :rank], values[:rank], right[:rank]


def part_of(slope: LinearOperator, first: int, end: int) -> LinearOperator:
    """Its columns from `first` to before `end`."""

    def onto(right: Doubles) -> Doubles:
        whole = np.zeros(slope.shape[1])
        whole[first:end] = right.ravel()
        found: Doubles = slope.matvec(whole)
        return found

    def back(left: Doubles) -> Doubles:
        found: Doubles = slope.rmatvec(left)[first:end]
        return found

    return LinearOperator((slope.shape[0], end - first), matvec=onto, rmatvec=back, dtype=np.float64)


def strength_of(slope: LinearOperator, seed: int) -> float:
    """As `low_rank.strength`."""
    return float(strongest(slope, 1, seed)[1].sum())


def first_step(rows: SparseRows, design: Design, weights: Weights, threshold: float, rank: int, seed: int) -> Fit:
    """As `low_rank.begin`."""
    bias = rows.item_log_odds
    left, strengths, right = strongest(rows.slope_at_zero(design, weights), rank, seed)
    kept = strengths > threshold
    curvature = max(_mean_curvature(rows, design, weights, bias), _LEAST_CURVATURE)
    size = np.sqrt(np.maximum(strengths[kept] - threshold, 0.0) / curvature)
    return Fit(
        torch.from_numpy(bias).float(),
        torch.from_numpy(left[:, kept] * size).float() / weights.values.float().unsqueeze(1),
        torch.from_numpy(right[kept].T * size).float() / weights.items.float().unsqueeze(1),
    )


def _mean_curvature(rows: SparseRows, design: Design, weights: Weights, bias: Doubles) -> float:
    """Of one entry of R W S at W = 0."""
    p = 1 / (1 + np.exp(-bias))
    bend = p * (1 - p)
    of_values, of_items = (np.square(1 / each.double().numpy()) for each in weights)
    keys = bend * (item_members(design, len(bend)) @ of_items)
    codes = members(design.values, design.size) @ of_values
    kept = float(codes @ ((rows.counts.acted + rows.counts.passed) @ keys))
    expected = float((rows.counts.drawn @ codes) @ (rows.counts.popularity @ keys))
    return (kept + expected) / max(len(of_values) * len(of_items), 1)


def _column(values: Doubles) -> Tensor:
    return torch.from_numpy(values).unsqueeze(1)
