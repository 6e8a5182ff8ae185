"""Additive logistic effects of attribute values on items, fitted to counts; the priors are found by the evidence.

Shapes: C cells of users, N attributes, G attribute values in all, I items.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from scipy.optimize import minimize
from torch import Tensor
from torch.nn import functional

Doubles = npt.NDArray[np.float64]
LEAST, MOST = 1e-2, 1e4
"""Bounds of a prior's precision: that of an attribute which says nothing grows to the greatest."""
START = 10.0
"""Precision that the evidence starts from."""
_MEMORY = 8
"""Corrections that L-BFGS keeps."""


@dataclass(frozen=True, eq=False)
class Counts:
    """How often each cell's users acted on each item, and how often they met it and did not: (C, I) each, weighted."""

    acted: Tensor
    passed: Tensor

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(self.acted + other.acted, self.passed + other.passed)

    def __sub__(self, other: "Counts") -> "Counts":
        return Counts((self.acted - other.acted).clamp(min=0), (self.passed - other.passed).clamp(min=0))

    @property
    def log_odds(self) -> float:
        """Of all counts together, kept finite where there is one class."""
        acted, passed = float(self.acted.sum()), float(self.passed.sum())
        return float(np.log((acted + 1) / (passed + 1)))


@dataclass(frozen=True, eq=False)
class Design:
    """Which effects make up a cell's logit: those of its `values` (C, N), each below G; G itself stands for none.

    `groups` (1 + G,): the prior that each effect shares, counted from 0; the first is b, the bias of an item.
    """

    values: Tensor
    groups: npt.NDArray[np.int64]

    def logits(self, effects: Tensor) -> Tensor:
        """b(i) + Σₙ W(aₙ, i) of every cell and item, (C, I), from `effects` (1 + G, I): b, then W."""
        none = effects.new_zeros(1, effects.shape[1])
        table = torch.cat([effects[1:], none])
        return effects[0] + functional.embedding_bag(self.values, table, mode="sum")

    def gathered(self, of_cells: Tensor) -> Tensor:
        """The transpose: for each effect the sum over the cells that it is part of, (C, I) to (1 + G, I)."""
        sums = of_cells.new_zeros(len(self.groups), of_cells.shape[1])
        for column in self.values.T:
            sums.index_add_(0, column, of_cells)
        return torch.cat([of_cells.sum(0, keepdim=True), sums[:-1]])


def maximise(counts: Counts, design: Design, precisions: Doubles, start: Doubles, iterations: int) -> Doubles:
    """The effects (1 + G, I) of greatest posterior density, by L-BFGS from `start` (1 + G, I).

    They minimise Σ (acted + passed) log(1 + eᶻ) - acted z + ½ Σ λ W², with z the logits of cells and items, and λ the
    `precisions` (1 + N,) of each effect's group.
    """
    met = counts.acted + counts.passed
    prior = torch.from_numpy(precisions[design.groups]).float().unsqueeze(1)

    def objective(flat: Doubles) -> tuple[float, Doubles]:
        effects = torch.from_numpy(flat.reshape(start.shape)).float()
        z = design.logits(effects)
        loss = (met * functional.softplus(z) - counts.acted * z).sum(dtype=torch.float64)
        loss += (prior * effects.square()).sum(dtype=torch.float64) / 2
        slope = design.gathered(met * z.sigmoid() - counts.acted) + prior * effects
        return float(loss), slope.double().numpy().ravel()

    options = {"maxiter": iterations, "maxcor": _MEMORY}
    found = minimize(objective, start.ravel(), jac=True, method="L-BFGS-B", options=options)
    effects: Doubles = found.x.reshape(start.shape)
    return effects


def by_evidence(
    counts: Counts, design: Design, bias_precision: float, *, rounds: int, iterations: int
) -> tuple[Doubles, Doubles]:
    """The effects (1 + G, I), and each group's precision (1 + N,): that of b is given, the others are found.

    The fixed point of D. MacKay, Bayesian Interpolation (1992): λ = γ / Σ W², with γ the number of effects that the
    data determine. A group without effects has said nothing.
    """
    found = np.unique(design.groups[1:])
    precisions = np.full(1 + design.values.shape[1], MOST)
    precisions[0], precisions[found] = bias_precision, START
    effects = np.zeros((len(design.groups), counts.acted.shape[1]))
    for _ in range(rounds):
        effects = maximise(counts, design, precisions, effects, iterations)
        p = design.logits(torch.from_numpy(effects).float()).sigmoid()
        curvature = design.gathered((counts.acted + counts.passed) * p * (1 - p)).numpy()
        for group in found:
            own = design.groups == group
            precisions[group] = next_precision(effects[own], curvature[own], precisions[group])
    return maximise(counts, design, precisions, effects, iterations), precisions


def next_precision(effects: npt.ArrayLike, curvature: npt.ArrayLike, precision: float) -> float:
    """One step of the fixed point for effects under one prior; `curvature`, of the same shape, is their likelihood's.

    λ' = Σ c / (c + λ) / Σ W², within the bounds.
    """
    squares = float(np.square(effects).sum())
    determined = float((np.asarray(curvature) / (np.asarray(curvature) + precision)).sum())
    return float(np.clip(determined / max(squares, 1e-12), LEAST, MOST))
