"""The fits of W: of all users, and without each fold of them; over dense counts, or by gradient at any size."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import reduce
from operator import add
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from numpy.random import Generator

from models.effects.by_gradient.descent import fit_by_gradient
from models.effects.by_gradient.factors import Combination, DescentConfig, GradientFit
from models.effects.by_gradient.rows import SparseRows, first_step, part_of, strength_of
from models.effects.counts import Counting, TableSizes
from models.effects.item_keys import combined_keys, separated_keys
from models.effects.low_rank import Counts, Fit, Penalty, Weights, begin, fitted, resumed, slope_at_zero, strength
from models.effects.state import SavedCounts
from models.runtime.encoding import IndexArray

log = logging.getLogger(__name__)

Floats = npt.NDArray[np.float32]
WARM_ITERATIONS, WARM_FOLD_ITERATIONS = 4, 1
"""Of L-BFGS where a fit goes on from an earlier one: of the fit of all users, and of each without a fold."""


class Shrinking(NamedTuple):
    """How W is shrunk: what of `EffectsConfig` each fit reads."""

    share: float
    bias_precision: float
    most_directions: int
    iterations: int


class Descent(NamedTuple):
    """How a fit is found by gradient, and where."""

    config: DescentConfig
    device: torch.device

    @classmethod
    def of(cls, config: DescentConfig, device: torch.device | None = None, *, combined: bool = False) -> "Descent":
        """As configured, for a tower that can have combined directions or not; by default on the CPU."""
        own = config if combined else replace(config, combined_directions=0)
        return cls(own, device or torch.device("cpu"))


class Fits(NamedTuple):
    """The fit of the whole, then without each fold, with each item's key whole; the log-odds of all counts; what noise
    alone would tell; and R and S."""

    fits: Sequence[Fit]
    log_odds: float
    noise: float
    weights: Weights
    combinations: Sequence[Combination] = ()
    """Of each fit; none where codes are sums alone."""


def fits_of_counts(
    fold: IndexArray,
    folds: int,
    counting: Counting,
    tables: TableSizes,
    shrinking: Shrinking,
    rng: Generator,
    earlier: SavedCounts | None,
) -> Fits:
    """By L-BFGS over all cells and items, from where an `earlier` fit ended."""
    parts = [counting.counts(np.flatnonzero(fold == part)) for part in range(1, folds + 1)]
    before = counting.counts_before()
    whole = reduce(add, parts if before is None else [before, *parts])
    design, seed = counting.design, int(rng.integers(1 << 31))
    weights = Weights.of(whole, design)
    dealt = counting.dealt(rng)
    slope = slope_at_zero(dealt.counts(dealt.users), design, weights)
    noise, weights = _levelled(weights, len(counting.items), lambda first, end: strength(slope[:, first:end], seed))
    if earlier is not None:
        noise = float(np.hypot(noise, earlier.noise))  # of independent draws the squares add up

    def fit(counts: Counts, iterations: int, resumed_iterations: int) -> Fit:
        """Noise is as the root of how much was counted.

        Begun where no behaviour of the fold is known: from the whole's fit it would remember the part.
        """
        part = float(counts.met.sum()) / max(float(whole.met.sum()), 1.0)
        penalty = Penalty(shrinking.share * noise * part**0.5, weights, shrinking.bias_precision)
        most = shrinking.most_directions
        if earlier is None:
            first = begin(counts, design, weights, penalty.threshold, most, seed)
            return fitted(counts, design, penalty, first, iterations)
        start = earlier.start(counts.item_log_odds, counting.items, counting.value_places, tables.offsets)
        first = resumed(counts, design, penalty, separated_keys(start, design, weights), most, seed)
        return fitted(counts, design, penalty, first, resumed_iterations)

    rest = [fit(whole - part, -(-shrinking.iterations // 2), WARM_FOLD_ITERATIONS) for part in parts]
    fits = [fit(whole, shrinking.iterations, WARM_ITERATIONS), *rest]
    return Fits([combined_keys(each, design) for each in fits], whole.log_odds, noise, weights)


def fits_by_gradient(
    fold: IndexArray,
    folds: int,
    counting: Counting,
    shrinking: Shrinking,
    descent: Descent,
    rng: Generator,
    noise_before: float,
) -> Fits:
    """By descent over what was seen alone, each begun anew: what was counted before is among the counts."""
    design, seed = counting.design, int(rng.integers(1 << 31))
    whole = _sparse(counting, counting.cell, with_past=True)
    weights = whole.weights(design)
    dealt = counting.dealt(rng)
    slope = _sparse(dealt, dealt.cell, with_past=False).slope_at_zero(design, weights)
    noise, weights = _levelled(
        weights, len(counting.items), lambda first, end: strength_of(part_of(slope, first, end), seed)
    )
    noise = float(np.hypot(noise, noise_before))  # as in `fits_of_counts`
    met = max(float(whole.met_items.sum()), 1.0)

    def fit(rows: SparseRows) -> GradientFit:
        part = float(rows.met_items.sum()) / met
        penalty = Penalty(shrinking.share * noise * part**0.5, weights, shrinking.bias_precision)
        first = first_step(rows, design, weights, penalty.threshold, shrinking.most_directions, seed)
        try:
            learned = fit_by_gradient(rows, design, penalty, first, descent.config, seed, descent.device)
        except torch.OutOfMemoryError as error:  # the towers may find room on the device nevertheless
            log.warning("no memory on %s for the fit by gradient, which goes on on the CPU: %s", descent.device, error)
            learned = fit_by_gradient(rows, design, penalty, first, descent.config, seed, torch.device("cpu"))
        return learned.found()

    def without(part: int) -> SparseRows:
        return _sparse(counting, np.where(fold == part, -1, counting.cell), with_past=True)

    found = [fit(whole), *(fit(without(part)) for part in range(1, folds + 1))]
    fits = [combined_keys(each.fit, design) for each in found]
    combinations = [each.combination for each in found if each.combination is not None]
    return Fits(fits, whole.log_odds, noise, weights, combinations)


def _levelled(weights: Weights, items: int, strength: Callable[[int, int], float]) -> tuple[float, Weights]:
    """How strong noise is in the keys of items, and weights by which it is as strong in those of their values.

    `strength` tells it of a range of S. Attribute values are fewer by far: shrunk as their items' own keys are, most of
    what they tell would be lost.
    """
    of_items = strength(0, items)
    of_values = strength(items, len(weights.items))
    if not of_items or not of_values:
        return of_items, weights
    levelled = torch.cat([weights.items[:items], weights.items[items:] * (of_values / of_items)])
    return of_items, weights._replace(items=levelled)


def _sparse(counting: Counting, cell: IndexArray, *, with_past: bool) -> SparseRows:
    """What users did by the `cell` of each, -1 for those left out, and where wanted what was counted before."""
    own = counting.user_counts.by(cell, len(counting.design.values))
    if counting.past is None or not with_past:
        return SparseRows(own)
    return SparseRows(counting.past.by(counting.of_design, len(counting.design.values)) + own)
