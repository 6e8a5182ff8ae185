"""Popularity with time: what is acted on lately, as a correction of each item's bias.

With A_k(i) what was acted on item i and P_k(i) what was passed by, each action counting half after the half-life k
(`models.effects.decayed_counts`), and A_0, P_0 the same of all time alike, the lift of an item is

    f_k(i) = log[(A_k(i) + 1) / (P_k(i) A_0(i) / P_0(i) + 1)],

0 where it does lately as it always did, and where little is known. The bias of an item for a user with s behaviours
seen is b_s(i) + Σ_k w_k(s) f_k(i). The weights are found from the data: a window is cut into stretches, and what
happens in each is told by the lifts as they were when it began, since what is served is as old as its generation.
Where the stretches before the last one tell nothing of it, the weights are 0.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import expit

from models.effects.counts import InteractionRows
from models.effects.decayed_counts import HALF_LIVES, DecayedCounts, PopularityState, TimedRows, WeightEvidence
from models.effects.low_rank import Doubles
from models.effects.seen_bias import FIRST_OF_SEEN_BIN, SEEN_BINS
from models.runtime.encoding import IndexArray

Floats = npt.NDArray[np.float32]
STRETCHES = 10
"""Of a window, of about as many rows each."""
PRECISION = 1.0
"""Of the prior of the weights that all users share, about 0."""
BIN_PRECISION = 1000.0
"""Of the prior of the weights of each bin of behaviours seen, about those that all share."""
_NEWTON = 12


@dataclass(frozen=True, eq=False, slots=True)
class DecayedPopularity:
    """What popularity with time adds to the biases.

    `begins_ms` (T,): when each stretch of the window begins. `lifts` (T + 1, K, items): as they were then and, the last
    ones, at the window's end, which is "now" for what is served until the next generation. `weights` (S, K).
    """

    begins_ms: IndexArray
    lifts: Floats
    weights: Floats

    @property
    def served(self) -> Floats:
        """(S, items): what is added to the biases of a generation."""
        found: Floats = self.weights @ self.lifts[-1]
        return found

    def of(self, times_ms: IndexArray, seen: IndexArray, items: IndexArray) -> Floats:
        """(R,) what is added to the bias of items (R,) for rows of the window, at times and with so many seen (R,)."""
        stretch = np.maximum(np.searchsorted(self.begins_ms, times_ms, side="right") - 1, 0)
        found: Floats = np.einsum("rk,rk->r", self.weights[SEEN_BINS[seen]], self.lifts[stretch, :, items])
        return found


class _Outcome(NamedTuple):
    """What came of J items with users of one bin in one stretch: lifts (J, K), base log-odds, acted and met (J,)."""

    bin: int
    lifts: Doubles
    base: Doubles
    acted: Doubles
    met: Doubles


def fit_decayed_popularity(
    rows: InteractionRows, biases: Floats, negatives: int | None, before: PopularityState | None = None
) -> tuple[DecayedPopularity, PopularityState]:
    """What is to be added to `biases` (S, items), and what a later window goes on from.

    `rows` are those of the window; of rows with labels of their own, `negatives` is None. `before`: what was counted
    and found in earlier windows.
    """
    items = biases.shape[1]
    timed = TimedRows.of(rows, negatives, items)
    begins_ms, parts = _stretches(timed)
    first_ms = int(begins_ms[0]) if len(begins_ms) else 0
    counts = DecayedCounts.none(items, first_ms) if before is None else before.counts.grown(items)
    lifts = []
    for number, part in enumerate(parts):
        counts = counts.then(timed.only(slice(0, 0)), int(begins_ms[number]))
        lifts.append(counts.lifts)
        end_ms = int(begins_ms[number + 1]) if number + 1 < len(parts) else int(timed.times_ms[-1]) + 1
        counts = counts.then(part, end_ms)
    rows_of_bin = np.bincount(timed.bins, minlength=len(biases)) + 1e-9  # what all rows did is in the log-odds already
    base = counts.log_odds + biases - np.average(biases, axis=0, weights=rows_of_bin)
    outcomes = [list(_outcomes(part, lift, base)) for part, lift in zip(parts, lifts, strict=True)]
    weights, evidence = _weights(outcomes, before.evidence if before else WeightEvidence.none())
    table = np.stack([*lifts, counts.lifts]).astype(np.float32)
    return DecayedPopularity(begins_ms, table, weights.astype(np.float32)), PopularityState(counts, evidence)


def _stretches(timed: TimedRows) -> tuple[IndexArray, list[TimedRows]]:
    """When each stretch begins, and its rows: rows of one time are never parted."""
    if not len(timed):
        return np.zeros(0, dtype=np.int64), []
    places = np.arange(STRETCHES) * len(timed) // STRETCHES
    begins_ms: IndexArray = np.unique(timed.times_ms[places])
    edges = [*np.searchsorted(timed.times_ms, begins_ms).tolist(), len(timed)]
    return begins_ms, [timed.only(slice(first, end)) for first, end in pairwise(edges)]


def _outcomes(part: TimedRows, lifts: Doubles, base: Doubles) -> Iterator[_Outcome]:
    """Of each bin with rows; `lifts` (K, items) and `base` (S, items)."""
    for number in np.unique(part.bins).tolist():
        own = part.only(np.flatnonzero(part.bins == number))
        acted, passed = own.counts(np.ones(len(own)), base.shape[1])
        met = np.flatnonzero(acted + passed)
        yield _Outcome(number, lifts[:, met].T, base[number, met], acted[met], (acted + passed)[met])


def _weights(outcomes: Sequence[Sequence[_Outcome]], before: WeightEvidence) -> tuple[Doubles, WeightEvidence]:
    """(S, K) weights, 0 where they tell nothing of the last of the stretches; and the evidence with this window's."""
    everything = [each for stretch in outcomes for each in stretch]
    weights, after = _found(everything, before)
    if not outcomes:
        return weights, after
    earlier, _ = _found([each for stretch in outcomes[:-1] for each in stretch], before)
    tells = _log_likelihood(outcomes[-1], earlier) > _log_likelihood(outcomes[-1], np.zeros_like(earlier))
    return weights if tells else np.zeros_like(weights), after


def _found(outcomes: Sequence[_Outcome], before: WeightEvidence) -> tuple[Doubles, WeightEvidence]:
    """(S, K) weights of each bin, near those that all share, and the evidence with these outcomes'."""
    nothing = np.zeros(len(HALF_LIVES))
    shared, _, _ = _newton(outcomes, nothing, PRECISION, before.slope.sum(axis=0), before.curvature.sum(axis=0))
    weights, slope, curvature = [], before.slope.copy(), before.curvature.copy()
    for number in range(len(FIRST_OF_SEEN_BIN)):
        own = [each for each in outcomes if each.bin == number]
        found, rise, bend = _newton(own, shared, BIN_PRECISION, before.slope[number], before.curvature[number])
        weights.append(found)
        slope[number] += rise
        curvature[number] += bend
    return np.array(weights), WeightEvidence(slope, curvature)


def _newton(
    outcomes: Sequence[_Outcome], prior: Doubles, precision: float, slope: Doubles, curvature: Doubles
) -> tuple[Doubles, Doubles, Doubles]:
    """The likeliest weights (K,) under a Gaussian prior about `prior`, and the quadratic that these outcomes are.

    A constant is found beside the weights, and taken out of the quadratic. `slope` and `curvature`: what was known.
    """
    weights, constant = prior.copy(), 0.0
    lives = len(weights)
    for _ in range(_NEWTON):
        rise, bend = _derivatives(outcomes, weights, constant)
        rise[:lives] += slope - curvature @ weights - precision * (weights - prior)
        bend[:lives, :lives] += curvature + precision * np.eye(lives)
        step = np.linalg.solve(bend, rise)
        weights, constant = weights + step[:lives], constant + float(step[lives])
    rise, bend = _derivatives(outcomes, weights, constant)
    across = bend[:lives, lives] / bend[lives, lives]
    own = bend[:lives, :lives] - np.outer(across, bend[lives, :lives])
    return weights, rise[:lives] - across * rise[lives] + own @ weights, own


def _derivatives(outcomes: Iterable[_Outcome], weights: Doubles, constant: float) -> tuple[Doubles, Doubles]:
    """Slope (K + 1,) and minus the curvature (K + 1, K + 1) of the log-likelihood in weights and constant."""
    size = len(weights) + 1
    rise, bend = np.zeros(size), np.zeros((size, size))
    bend[-1, -1] = 1e-9  # of nothing, a constant of 0
    for each in outcomes:
        features = np.column_stack([each.lifts, np.ones(len(each.met))])
        chance = expit(each.base + each.lifts @ weights + constant)
        rise += features.T @ (each.acted - each.met * chance)
        bend += (features * (each.met * chance * (1 - chance))[:, None]).T @ features
    return rise, bend


def _log_likelihood(outcomes: Iterable[_Outcome], weights: Doubles) -> float:
    """Of weights (S, K), with the constant that suits each bin best."""
    total = 0.0
    for each in outcomes:
        logits = each.base + each.lifts @ weights[each.bin]
        constant = 0.0
        for _ in range(_NEWTON):
            chance = expit(logits + constant)
            bend = float((each.met * chance * (1 - chance)).sum())
            constant += float((each.acted - each.met * chance).sum()) / max(bend, 1e-9)
        logits += constant
        total += float((each.acted * logits - each.met * np.logaddexp(0.0, logits)).sum())
    return total
