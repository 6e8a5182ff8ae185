"""How well scores put what was acted on before what was not."""

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from foretaste.kernel.errors import InvalidInput

Numbers: TypeAlias = npt.NDArray[np.float64]
DEPTH = 10
"""Ranks that NDCG@10 reads."""


def auc(labels: npt.ArrayLike, scores: npt.ArrayLike) -> float:
    """Area under the ROC curve of (B,) labels (0 or 1) and finite scores, ties counting half; nan for one class."""
    targets = np.asarray(labels)
    return float(user_auc(np.zeros(len(targets), dtype=np.int64), targets, scores)[0][0]) if len(targets) else np.nan


def gauc(users: npt.ArrayLike, labels: npt.ArrayLike, scores: npt.ArrayLike) -> float:
    """Each user's AUC weighted by impressions, users of one class left out; nan where no user is left."""
    aucs, impressions = user_auc(users, labels, scores)
    judged = ~np.isnan(aucs)
    return float(np.average(aucs[judged], weights=impressions[judged])) if judged.any() else np.nan


def user_auc(users: npt.ArrayLike, labels: npt.ArrayLike, scores: npt.ArrayLike) -> tuple[Numbers, Numbers]:
    """AUC (nan for one class) and impressions of each distinct user, in the order of `np.unique(users)`.

    The rank-sum form of the AUC over (B,) rows, ties sharing their mean rank; one sort for all users together.
    Raises `InvalidInput` for a score that is not finite.
    """
    values = np.asarray(scores, dtype=np.float64)
    if not np.isfinite(values).all():
        raise InvalidInput("scores", values[~np.isfinite(values)][0], "must be finite")
    positive = np.asarray(labels).astype(bool)
    distinct, groups = np.unique(np.asarray(users), return_inverse=True)
    impressions = np.bincount(groups, minlength=len(distinct)).astype(np.float64)
    positives = np.bincount(groups, weights=positive, minlength=len(distinct))
    rank_sums = np.bincount(groups, weights=_ranks(groups, values) * positive, minlength=len(distinct))
    pairs = positives * (impressions - positives)
    won = rank_sums - positives * (positives + 1) / 2
    return np.divide(won, pairs, out=np.full(len(distinct), np.nan), where=pairs > 0), impressions


def _ranks(groups: npt.NDArray[np.intp], values: Numbers) -> Numbers:
    """Mean rank of each row within its group, from 1."""
    order = np.lexsort((values, groups))
    group, value = groups[order], values[order]
    new_tie = np.r_[True, (group[1:] != group[:-1]) | (value[1:] != value[:-1])][: len(order)]
    firsts = np.flatnonzero(new_tie)
    lengths = np.diff(np.r_[firsts, len(order)])
    group_starts = np.searchsorted(group, group[firsts])
    mean_rank = firsts - group_starts + (lengths + 1) / 2
    ranks = np.empty(len(order))
    ranks[order] = np.repeat(mean_rank, lengths)
    return ranks


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
    return ratio(np.bincount(group[firsts], weights=gains, minlength=len(distinct)), ideal)


def _discounted(ranks: npt.NDArray[np.int64]) -> Numbers:
    """The discounts of that many first ranks, together."""
    cumulated = np.r_[0.0, np.cumsum(1 / np.log2(np.arange(DEPTH) + 2))]
    found: Numbers = cumulated[np.minimum(ranks, DEPTH)]
    return found


def ratio(over: npt.ArrayLike, under: npt.ArrayLike) -> Numbers:
    """Divide element by element, (S,) each; nan where there is nothing to divide by."""
    divisor = np.asarray(under, dtype=np.float64)
    found: Numbers = np.divide(over, divisor, out=np.full(divisor.shape, np.nan), where=divisor != 0)
    return found
