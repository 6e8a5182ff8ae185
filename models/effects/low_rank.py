"""Additive logistic effects of attribute values on items, fitted to counts and shrunk to few directions of taste.

Shapes: C cells of users, N attributes, G attribute values in all, I items, K directions at most.

With b (I,) the bias of each item and W (G, I) the effects, the logit z of a cell and an item is b(i) + Σₙ W(aₙ, i), and

    Σ (acted + passed) log(1 + eᶻ) - acted z  +  β/2 ‖b‖²  +  τ ‖R W S‖_*

is least. R and S are diagonal: fourth roots of how much was counted of each value and each item. ‖·‖_* is the sum of
the singular values, each of which is shrunk by τ, those below it to 0 (N. Srebro and R. Salakhutdinov, Collaborative
Filtering in a Non-Uniform World, 2010: the weighted trace norm). τ is to be given in shares of what noise alone would
tell, which is found by dealing the users to the cells at random (after J. Horn's parallel analysis, 1965).
"""

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from scipy.optimize import minimize
from sklearn.utils.extmath import randomized_svd
from torch import Tensor
from torch.nn import functional

from foretaste.kernel.errors import ForetasteError

Doubles = npt.NDArray[np.float64]
_MEMORY = 8
"""Corrections that L-BFGS keeps."""
_LEAST_COUNT = 1e-3
"""Of a value or an item, relative to the mean: rarer ones are not weighted less."""
_LEAST_CURVATURE = 1e-9
_HALVINGS = 6
"""Of a step that leads up, at most."""


@dataclass(frozen=True, eq=False)
class Counts:
    """How often each cell's users acted on each item, and how often they met it and did not: (C, I) each, weighted."""

    acted: Tensor
    passed: Tensor

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(self.acted + other.acted, self.passed + other.passed)

    def __sub__(self, other: "Counts") -> "Counts":
        return Counts((self.acted - other.acted).clamp(min=0), (self.passed - other.passed).clamp(min=0))

    @cached_property
    def met(self) -> Tensor:
        return self.acted + self.passed

    @property
    def log_odds(self) -> float:
        """The log-odds of all counts together, kept finite where there is one class."""
        acted, passed = float(self.acted.sum()), float(self.passed.sum())
        return float(np.log((acted + 1) / (passed + 1)))

    @property
    def item_log_odds(self) -> Tensor:
        """The log-odds of each item (I,), kept finite likewise."""
        return torch.log((self.acted.sum(0) + 1) / (self.passed.sum(0) + 1))


@dataclass(frozen=True, eq=False)
class Design:
    """Which effects make up a cell's logit: those of its `values` (C, N), each below G = `size`; G stands for none.

    `items`, where items have attributes: which rows make up an item's key beside its own, those of its `values` (I, F),
    each below B. The right factor then has a row for each of I items and each of B values.
    """

    values: Tensor
    size: int
    items: "Design | None" = None

    def of_cells(self, effects: Tensor) -> Tensor:
        """Σₙ of the rows of each cell's values, (G, X) to (C, X)."""
        table = torch.cat([effects, effects.new_zeros(1, effects.shape[1])])
        return functional.embedding_bag(self.values, table, mode="sum")

    def gathered(self, of_cells: Tensor) -> Tensor:
        """The transpose: for each value the sum over the cells that have it, (C, X) to (G, X)."""
        sums = of_cells.new_zeros(self.size + 1, of_cells.shape[1])
        for column in self.values.T:
            sums.index_add_(0, column, of_cells)
        return sums[:-1]

    def of_items(self, right: Tensor) -> Tensor:
        """Keys (I, K) of a right factor (I + B, K): own + Σ_f of the values of the item's attributes."""
        if self.items is None:
            return right
        count = len(self.items.values)
        return right[:count] + self.items.of_cells(right[count:])

    def gathered_of_items(self, of_items: Tensor) -> Tensor:
        """The transpose of `of_items`: (I, X) to (I + B, X)."""
        return of_items if self.items is None else torch.cat([of_items, self.items.gathered(of_items)])


class Weights(NamedTuple):
    """The diagonals of R (G,) and S (I + B,)."""

    values: Tensor
    items: Tensor

    @classmethod
    def of(cls, counts: Counts, design: Design) -> "Weights":
        """Fourth roots of what was counted, relative to the mean: half of what weighting by frequency would be.

        Of the attribute values of items square roots, relative to the mean item: what noise tells of a value and of an
        item is then of one size, and the few great values do not set the threshold for all.
        """

        return cls.of_sums(design.gathered(counts.met).sum(1), counts.met.sum(0), design)

    @classmethod
    def of_sums(cls, of_values: Tensor, of_items: Tensor, design: Design) -> "Weights":
        """The same of how much was counted of each value (G,) and of each item (I,)."""

        def root(met: Tensor, mean: Tensor, power: float = 0.25) -> Tensor:
            return (met / mean.clamp(min=1e-12)).clamp(min=_LEAST_COUNT) ** power

        weight, mean = root(of_items, of_items.mean()), of_items.mean()
        if design.items is not None:
            shared = design.items.gathered(of_items.unsqueeze(1)).squeeze(1)
            weight = torch.cat([weight, root(shared, mean, 0.5)])
        return cls(root(of_values, of_values.mean()), weight)

    def weighted(self, effects: Tensor) -> Tensor:
        """R W S of W (G, I)."""
        return effects * self.values.unsqueeze(1) * self.items

    def unweighted(self, effects: Tensor) -> Tensor:
        """R⁻¹ E S⁻¹ of E (G, I)."""
        return effects / self.values.unsqueeze(1) / self.items


class Fit(NamedTuple):
    """b (I,), and W in the factors (G, K) and (I, K): W = `left` @ `right`.T."""

    bias: Tensor
    left: Tensor
    right: Tensor

    @property
    def effects(self) -> Tensor:
        """W (G, I + B)."""
        return self.left @ self.right.T


class Penalty(NamedTuple):
    """τ, with R and S, and β."""

    threshold: float
    weights: Weights
    bias_precision: float


def slope_at_zero(counts: Counts, design: Design, weights: Weights) -> Tensor:
    """Minus the slope of the log loss in R W S at W = 0, (G, I): what attributes tell of items, beside what b says."""
    surprise = counts.acted - counts.met * counts.item_log_odds.sigmoid()
    return weights.unweighted(design.gathered_of_items(design.gathered(surprise).T).T)


def strength(slope: Tensor, seed: int) -> float:
    """The largest singular value of (G, I); 0 where there is none."""
    return float(strongest(slope, 1, seed)[1].sum())


def strongest(slope: Tensor, rank: int, seed: int) -> tuple[Doubles, Doubles, Doubles]:
    """The `rank` largest singular values of (G, I), or all, with their vectors: (G, K), (K,), (K, I)."""
    rank = min(rank, *slope.shape)
    if not rank:
        return np.zeros((len(slope), 0)), np.zeros(0), np.zeros((0, slope.shape[1]))
    left, values, right = randomized_svd(slope.double().numpy(), rank, random_state=seed)
    return left, values, right


def begin(counts: Counts, design: Design, weights: Weights, threshold: float, rank: int, seed: int) -> Fit:
    """A step from W = 0 along the directions that are stronger than `threshold`, `rank` at most.

    About a Newton step, (σ - τ) / h in each direction, with h the mean curvature of one entry of R W S.
    """
    bias = counts.item_log_odds
    left, strengths, right = strongest(slope_at_zero(counts, design, weights), rank, seed)
    kept = strengths > threshold
    p = bias.sigmoid()
    bend = design.gathered_of_items(design.gathered(counts.met * p * (1 - p)).T).T
    curvature = weights.unweighted(weights.unweighted(bend))
    size = (
        np.sqrt((strengths[kept] - threshold) / max(float(curvature.mean()), _LEAST_CURVATURE)) if kept.any() else 0.0
    )
    return Fit(
        bias,
        torch.from_numpy(left[:, kept] * size).float() / weights.values.unsqueeze(1),
        torch.from_numpy(right[kept].T * size).float() / weights.items.unsqueeze(1),
    )


def resumed(counts: Counts, design: Design, penalty: Penalty, earlier: Fit, rank: int, seed: int) -> Fit:
    """A step from an `earlier` fit, as `begin` makes one from none: to what is strong now, `rank` at most.

    A proximal step in R W S: down the slope by 1 / h, after which singular values are shrunk by τ / h. h is at first
    twice the mean curvature of one entry, and doubled until the loss falls; if it does not, the earlier fit stays.
    Each bias moves by a Newton step of its own.
    """
    threshold, weights, bias_precision = penalty
    over_values, over_items = weights.values.unsqueeze(1), weights.items.unsqueeze(1)
    z = _logits(design, earlier)
    least = _loss(counts, penalty, earlier, z)
    p = z.sigmoid_()
    surprise = counts.acted - counts.met * p
    bend = p.mul_(1 - p).mul_(counts.met)
    bias = earlier.bias + (surprise.sum(0) - bias_precision * earlier.bias) / (bend.sum(0) + bias_precision)
    curvature = weights.unweighted(weights.unweighted(design.gathered_of_items(design.gathered(bend).T).T))
    h = max(float(curvature.sum()) / max(curvature.numel(), 1), _LEAST_CURVATURE)
    slope = weights.unweighted(design.gathered_of_items(design.gathered(surprise).T).T)
    scaled = weights.weighted(earlier.effects)
    for _ in range(_HALVINGS):
        h *= 2
        left, strengths, right = strongest(h * scaled + slope, rank, seed)
        kept = strengths > threshold
        size = np.sqrt((strengths[kept] - threshold) / h)
        factors = (torch.from_numpy(left[:, kept] * size).float(), torch.from_numpy(right[kept].T * size).float())
        found = Fit(bias, factors[0] / over_values, factors[1] / over_items)
        if _loss(counts, penalty, found, _logits(design, found)) < least:
            return found
    return earlier


def _logits(design: Design, fit: Fit) -> Tensor:
    """z (C, I)."""
    return torch.addmm(fit.bias, design.of_cells(fit.left), design.of_items(fit.right).T)


def _loss(counts: Counts, penalty: Penalty, fit: Fit, z: Tensor) -> float:
    """What the fit is to make least, at logits z (C, I)."""
    threshold, weights, bias_precision = penalty
    of_cells = torch.linalg.vecdot(counts.met, functional.softplus(z)) - torch.linalg.vecdot(counts.acted, z)
    loss = of_cells.sum(dtype=torch.float64) + bias_precision / 2 * fit.bias.square().sum(dtype=torch.float64)
    for factor, weight in ((fit.left, weights.values), (fit.right, weights.items)):
        loss += threshold / 2 * (factor * weight.unsqueeze(1)).square().sum(dtype=torch.float64)
    return float(loss)


def fitted(counts: Counts, design: Design, penalty: Penalty, first: Fit, iterations: int) -> Fit:
    """The fit of least loss among those of no more directions than `first`, by at most `iterations` of L-BFGS from it.

    ‖R W S‖_* is the least of ½ (‖R U‖² + ‖S V‖²) over all U Vᵀ = W (Srebro, Rennie and Jaakkola, 2004), and that is
    what is minimised: over b, R U and S V. Raises `ForetasteError` where the loss is not finite.
    """
    met, acted, (threshold, weights, bias_precision) = counts.met, counts.acted, penalty
    over_values, over_items = weights.values.unsqueeze(1), weights.items.unsqueeze(1)
    shapes = [first.bias.shape, first.left.shape, first.right.shape]
    ends = np.cumsum([shape.numel() for shape in shapes])[:-1]

    def parts(flat: Doubles) -> list[Tensor]:
        pieces = np.split(flat, ends)
        return [torch.from_numpy(piece).float().view(shape) for piece, shape in zip(pieces, shapes, strict=True)]

    def objective(flat: Doubles) -> tuple[float, Doubles]:
        bias, scaled_left, scaled_right = parts(flat)
        codes, keys = design.of_cells(scaled_left / over_values), design.of_items(scaled_right / over_items)
        z = torch.addmm(bias, codes, keys.T)
        of_cells = torch.linalg.vecdot(met, functional.softplus(z)) - torch.linalg.vecdot(acted, z)
        loss = of_cells.sum(dtype=torch.float64) + bias_precision / 2 * bias.square().sum(dtype=torch.float64)
        loss += threshold / 2 * sum(part.square().sum(dtype=torch.float64) for part in (scaled_left, scaled_right))
        error = z.sigmoid_().mul_(met).sub_(acted)
        of_left = design.gathered(error @ keys) / over_values + threshold * scaled_left
        of_right = design.gathered_of_items(error.T @ codes) / over_items + threshold * scaled_right
        return float(loss), _flat(error.sum(0) + bias_precision * bias, of_left, of_right)

    options = {"maxiter": iterations, "maxcor": _MEMORY}
    flat = _flat(first.bias, first.left * over_values, first.right * over_items)
    found = minimize(objective, flat, jac=True, method="L-BFGS-B", options=options)
    if not (np.isfinite(found.fun) and np.isfinite(found.x).all()):
        raise ForetasteError(f"the fit of the attributes' effects diverged: its loss is {found.fun}")
    bias, scaled_left, scaled_right = parts(found.x)
    return Fit(bias, scaled_left / over_values, scaled_right / over_items)


def _flat(*parts: Tensor) -> Doubles:
    return torch.cat([part.flatten() for part in parts]).double().numpy()
