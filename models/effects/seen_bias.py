"""What distinguishes users by how much they have done: a correction of each item's bias for each bin of that number.

A bin of behaviours seen is finer than a `Stage`, and the same for every generation. What was read of a bin is kept
as a quadratic in the biases, so that a later window adds to it: with h and e its evidence of an item, the
log-likelihood of a bias t is about e t - h t²/2.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import expit

from foretaste.kernel.values import MAX_BEHAVIOUR
from models.effects.low_rank import Doubles
from models.runtime.encoding import FIRST_KNOWN, IndexArray

FIRST_OF_SEEN_BIN = (0, 1, 3, 6, 11, 21, 51)
"""The number of behaviours seen at which each of the S bins begins."""
SEEN_BINS: IndexArray = np.searchsorted(FIRST_OF_SEEN_BIN, np.arange(MAX_BEHAVIOUR + 1), side="right") - 1
"""(L + 1,): the bin of each number of behaviours seen."""
Floats = npt.NDArray[np.float32]
LEAST, MOST = 1e-2, 1e4
"""Bounds of a prior's precision: that of effects which say nothing grows to the greatest."""
START = 10.0
"""Precision that the evidence starts from."""
_NEWTON, _STEP = 10, 2.0
"""Iterations, and the most that one moves a bias."""


class Judgements(NamedTuple):
    """Items (J,) with their labels, the log-odds without a correction, and how much each judgement counts."""

    items: IndexArray
    labels: Doubles
    offsets: Doubles
    weights: Doubles


@dataclass(frozen=True, eq=False, slots=True)
class Evidence:
    """What was read of each of S bins about each item's bias: `slope` e and `curvature` h, (S, items) each.

    `rows` (S,): how many there were, of which `read` (S,) were read. Bins of age stand behind those of behaviours seen.
    In single precision, as it is saved: of a large catalogue it is the greatest part of what a fit holds.
    """

    rows: Doubles
    read: Doubles
    slope: Floats
    curvature: Floats

    @classmethod
    def none(cls, items: int, bins: int = len(FIRST_OF_SEEN_BIN)) -> "Evidence":
        slope, curvature = (np.zeros((bins, items), dtype=np.float32) for _ in range(2))
        return cls(np.zeros(bins), np.zeros(bins), slope, curvature)

    def grown(self, items: int, bins: int) -> "Evidence":
        """A copy for so many `items` and `bins`: of new ones nothing is known yet."""
        more_bins = (0, bins - len(self.rows))
        more = (more_bins, (0, items - self.slope.shape[1]))
        counted = np.pad(self.rows, more_bins), np.pad(self.read, more_bins)
        return Evidence(*counted, np.pad(self.slope, more), np.pad(self.curvature, more))

    def room(self, number: int, rows: int, most: int) -> tuple[int, float]:
        """How many of so many new rows to read, and the share of what was read before that counts beside them.

        Together they are as one draw of at most `most` from all rows: the prior weighs as it does in a first fit.
        """
        known = self.rows[number] + rows
        target = min(float(most), known)
        read = min(round(target * rows / known), rows) if known else 0
        return read, min((target - read) / self.read[number], 1.0) if self.read[number] else 0.0


def correction(
    judged: Judgements, base: Doubles, slope: Floats | Doubles, curvature: Floats | Doubles, given: float | None
) -> tuple[Doubles, Doubles, Doubles]:
    """What to add to the bias `base` (items,) of each item, and the `slope` and `curvature` with the judgements' own.

    A correction has one parameter an item and a Gaussian prior, and is found by Newton's method, item by item; its
    prior's precision is `given`, or the evidence's. `slope` and `curvature` (items,): what was known before.
    """
    items, labels, offsets, weights = judged
    count = len(base)
    found, known = np.zeros(count), np.arange(count) >= FIRST_KNOWN
    precision = START if given is None else given

    def of_judgements() -> tuple[Doubles, Doubles]:
        p = expit(offsets + found[items])
        rise = np.bincount(items, weights=weights * (labels - p), minlength=count)
        bend = np.bincount(items, weights=weights * p * (1 - p), minlength=count)
        return np.asarray(rise, dtype=np.float64), np.asarray(bend, dtype=np.float64)

    for _ in range(_NEWTON):
        rise, bend = of_judgements()
        all_bend = bend + curvature
        all_rise = rise + slope - curvature * (base + found) - precision * found
        found += np.where(known, np.clip(all_rise / (all_bend + precision), -_STEP, _STEP), 0.0)
        if given is None:
            precision = next_precision(found, all_bend, precision)
    rise, bend = of_judgements()
    return found, slope + rise + bend * (base + found), curvature + bend


def next_precision(effects: npt.ArrayLike, curvature: npt.ArrayLike, precision: float) -> float:
    """One step of the fixed point for effects under one prior; `curvature`, of the same shape, is their likelihood's.

    λ' = Σ c / (c + λ) / Σ W², within the bounds (D. MacKay, Bayesian Interpolation, 1992).
    """
    squares = float(np.square(effects).sum())
    determined = float((np.asarray(curvature) / (np.asarray(curvature) + precision)).sum())
    return float(np.clip(determined / max(squares, 1e-12), LEAST, MOST))
