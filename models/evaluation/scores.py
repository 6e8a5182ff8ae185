"""AUC, GAUC and NDCG@10 of scored rows, each with what it would have been for other draws of users."""

from typing import Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

from models.evaluation.bootstrap import Estimate, Resamples
from models.evaluation.metrics import Numbers, auc, ratio, user_auc, user_ndcg
from models.runtime.encoding import IndexArray

Metric: TypeAlias = Literal["auc", "gauc", "ndcg@10", "gauc_without_repeats", "ndcg@10_without_repeats"]
METRICS: tuple[Metric, ...] = get_args(Metric)
BINS = 256
"""Quantiles of the scores by which a resample's pooled AUC is reckoned."""


def measure(
    users: IndexArray,
    labels: npt.ArrayLike,
    scores: npt.ArrayLike,
    resamples: Resamples,
    repeat: npt.NDArray[np.bool_] | None = None,
) -> dict[Metric, Estimate]:
    """Every metric of (R,) rows.

    AUC pools all rows. GAUC weighs each user's AUC by impressions, users of one class left out. NDCG@10 ranks all
    candidates of one user together, as GAUC does, and is averaged over the users who have a positive, each alike.
    Where some rows `repeat` (R,) what their user had done before, both are also told without them.
    """
    found = _all_metrics(users, np.asarray(labels), np.asarray(scores), resamples)
    if repeat is None or not repeat.any():
        return found
    first = ~repeat
    without = _by_user(users[first], np.asarray(labels)[first], np.asarray(scores)[first], resamples)
    return found | {"gauc_without_repeats": without["gauc"], "ndcg@10_without_repeats": without["ndcg@10"]}


def _all_metrics(
    users: IndexArray, labels: npt.NDArray[np.generic], scores: npt.NDArray[np.generic], resamples: Resamples
) -> dict[Metric, Estimate]:
    pooled = _pooled(users, labels, np.asarray(scores, dtype=np.float64), resamples)
    return {"auc": pooled, **_by_user(users, labels, scores, resamples)}


def _by_user(
    users: IndexArray, labels: npt.NDArray[np.generic], scores: npt.NDArray[np.generic], resamples: Resamples
) -> dict[Metric, Estimate]:
    distinct = np.unique(users)
    aucs, impressions = user_auc(users, labels, scores)
    gains = user_ndcg(users, labels, scores)
    return {
        "gauc": _weighted(distinct, aucs, impressions, resamples),
        "ndcg@10": _weighted(distinct, gains, np.ones(len(distinct)), resamples),
    }


def _weighted(users: IndexArray, values: Numbers, weights: Numbers, resamples: Resamples) -> Estimate:
    """The weighted mean of what is not nan."""
    judged = ~np.isnan(values)
    users, values, weights = users[judged], values[judged], weights[judged]
    value = float(ratio((values * weights).sum(), weights.sum()))
    return Estimate(value, ratio(resamples.sums(users, values * weights), resamples.sums(users, weights)))


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
    return ratio((positives * below).sum(axis=1), positives.sum(axis=1) * negatives.sum(axis=1))
