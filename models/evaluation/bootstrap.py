"""AUC, GAUC and NDCG@10 of scored rows, each with what it would have been for other draws of users."""

from dataclasses import dataclass
from functools import cached_property
from typing import Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

from models.evaluation.metrics import auc, user_auc
from models.runtime.encoding import IndexArray

Numbers: TypeAlias = npt.NDArray[np.float64]
Metric: TypeAlias = Literal["auc", "gauc", "ndcg@10"]
METRICS: tuple[Metric, ...] = get_args(Metric)
DEPTH = 10
BINS = 256
"""Quantiles of the scores by which a resample's pooled AUC is reckoned."""
PERCENTILES = (2.5, 97.5)


@dataclass(frozen=True, eq=False)
class Resamples:
    """S bootstrap draws of V users: how often each of `users` (V,), rising, is drawn in each, `counts` (S, V)."""

    users: IndexArray
    counts: npt.NDArray[np.float32]

    @classmethod
    def drawn(cls, users: IndexArray, resamples: int, seed: int) -> "Resamples":
        """As many users as there are, with replacement; the same for the same users, whatever is judged by them."""
        distinct = np.unique(users)
        if not len(distinct):
            return cls(distinct, np.zeros((resamples, 0), dtype=np.float32))
        shares = np.full(len(distinct), 1 / len(distinct))
        counts = np.random.default_rng(seed).multinomial(len(distinct), shares, resamples)
        return cls(distinct, counts.astype(np.float32))

    def sums(self, users: IndexArray, values: Numbers) -> Numbers:
        """(S,) sums over each draw, of `values` (G,) that belong to distinct `users` (G,)."""
        placed = np.zeros(len(self.users))
        placed[np.searchsorted(self.users, users)] = values
        found: Numbers = self._wide @ placed
        return found

    @cached_property
    def _wide(self) -> Numbers:
        return self.counts.astype(np.float64)


@dataclass(frozen=True, eq=False, slots=True)
class Estimate:
    """A figure, and (S,) what it is on each draw of users; nan where there is nothing to judge."""

    value: float
    drawn: Numbers

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % percentile interval, over the draws in which the figure exists."""
        known = self.drawn[~np.isnan(self.drawn)]
        if not len(known):
            return np.nan, np.nan
        low, high = np.percentile(known, PERCENTILES)
        return float(low), float(high)

    def relative_to(self, base: "Estimate") -> "Estimate":
        """RI (b - a) / a of this against `base`, draw by draw: the two are paired."""
        return Estimate(float(_ratio(self.value - base.value, base.value)), _ratio(self.drawn - base.drawn, base.drawn))


def mean(estimates: "list[Estimate]") -> Estimate:
    """Over the seeds of a method, draw by draw."""
    values = np.array([one.value for one in estimates])
    return Estimate(float(values.mean()), np.mean([one.drawn for one in estimates], axis=0))


def measure(
    users: IndexArray, labels: npt.ArrayLike, scores: npt.ArrayLike, resamples: Resamples
) -> dict[Metric, Estimate]:
    """Every metric of (R,) rows.

    AUC pools all rows. GAUC weighs each user's AUC by impressions, users of one class left out. NDCG@10 ranks all
    candidates of one user together, as GAUC does, and is averaged over the users who have a positive, each alike.
    """
    distinct = np.unique(users)
    aucs, impressions = user_auc(users, labels, scores)
    gains = user_ndcg(users, labels, scores)
    return {
        "auc": _pooled(users, np.asarray(labels), np.asarray(scores, dtype=np.float64), resamples),
        "gauc": _weighted(distinct, aucs, impressions, resamples),
        "ndcg@10": _weighted(distinct, gains, np.ones(len(distinct)), resamples),
    }


def _weighted(users: IndexArray, values: Numbers, weights: Numbers, resamples: Resamples) -> Estimate:
    """The weighted mean of what is not nan."""
    judged = ~np.isnan(values)
    users, values, weights = users[judged], values[judged], weights[judged]
    value = float(_ratio((values * weights).sum(), weights.sum()))
    return Estimate(value, _ratio(resamples.sums(users, values * weights), resamples.sums(users, weights)))


def _pooled(users: IndexArray, labels: npt.NDArray[np.generic], scores: Numbers, resamples: Resamples) -> Estimate:
    """The AUC of all rows together.

    A draw counts each user's rows so many times: from histograms of each user's scores, positives and negatives apart,
    a matrix product gives those of every draw, and those the AUC. Within a bin, one of `BINS` quantiles, all are taken
    for ties; what that changes on the data as they are is taken off every draw.
    """
    value = auc(labels, scores)
    places = np.searchsorted(resamples.users, users)
    bins = _bins(scores)
    width = int(bins.max(initial=0)) + 1
    positive = labels.astype(bool)
    histograms = [
        np.bincount((places * width + bins)[rows], minlength=len(resamples.users) * width)
        .reshape(-1, width)
        .astype(np.float32)
        for rows in (positive, ~positive)
    ]
    as_is = _binned_auc(*(histogram.sum(axis=0, dtype=np.float64)[None] for histogram in histograms))[0]
    drawn = _binned_auc(*((resamples.counts @ histogram).astype(np.float64) for histogram in histograms))
    return Estimate(value, drawn + (value - as_is))


def _bins(scores: Numbers) -> IndexArray:
    """(R,) positions among the distinct scores, or among `BINS` quantiles where they are more."""
    distinct, places = np.unique(scores, return_inverse=True)
    if len(distinct) <= BINS:
        return places.ravel().astype(np.int64)
    edges = np.quantile(scores, np.arange(1, BINS) / BINS)
    found: IndexArray = np.searchsorted(edges, scores, side="right").astype(np.int64)
    return found


def _binned_auc(positives: Numbers, negatives: Numbers) -> Numbers:
    """(S,) AUCs of histograms (S, K) over rising scores; nan for one class."""
    below = np.cumsum(negatives, axis=1) - negatives / 2
    return _ratio((positives * below).sum(axis=1), positives.sum(axis=1) * negatives.sum(axis=1))


def user_ndcg(users: npt.ArrayLike, labels: npt.ArrayLike, scores: npt.ArrayLike) -> Numbers:
    """NDCG@10 of each distinct user's rows, in the order of `np.unique(users)`; nan for one without a positive.

    Gain 1 for a positive, discount log2(rank + 1); rows of one score share the mean discount of their ranks.
    """
    values, positive = np.asarray(scores, dtype=np.float64), np.asarray(labels).astype(bool)
    distinct, groups = np.unique(np.asarray(users), return_inverse=True)
    groups = groups.ravel()
    if not len(values):
        return np.zeros(0)
    order = np.lexsort((-values, groups))
    group, value = groups[order], values[order]
    firsts = np.flatnonzero(np.r_[True, (group[1:] != group[:-1]) | (value[1:] != value[:-1])])
    lengths = np.diff(np.r_[firsts, len(order)])
    ranks = firsts - np.searchsorted(group, group[firsts])
    earned = np.add.reduceat(positive[order].astype(np.float64), firsts)
    gains = earned * (_discounted(ranks + lengths) - _discounted(ranks)) / lengths
    ideal = _discounted(np.bincount(groups, weights=positive, minlength=len(distinct)).astype(np.int64))
    return _ratio(np.bincount(group[firsts], weights=gains, minlength=len(distinct)), ideal)


def _discounted(ranks: IndexArray) -> Numbers:
    """The discounts of that many first ranks, together."""
    cumulated = np.r_[0.0, np.cumsum(1 / np.log2(np.arange(DEPTH) + 2))]
    found: Numbers = cumulated[np.minimum(ranks, DEPTH)]
    return found


def _ratio(over: npt.ArrayLike, under: npt.ArrayLike) -> Numbers:
    """nan where there is nothing to divide by."""
    divisor = np.asarray(under, dtype=np.float64)
    found: Numbers = np.divide(over, divisor, out=np.full(divisor.shape, np.nan), where=divisor != 0)
    return found
