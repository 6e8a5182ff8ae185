"""What users would have done had another tower ordered what they were shown: an off-policy estimate.

It asks of rankings whose order was drawn with known probabilities: how often is the item acted on that a tower puts
first among those shown? Which items were shown stays as it was. For a ranking g with outcome r of its first item, drawn
with probability p, and the item that a tower would put first:

- inverse propensity (IPS): [it is the one that stood first] r / p
- doubly robust (DR): q(it) + [it is the one that stood first] (r - q(it)) / p, where q is what a tower expects

Both are unbiased, DR with less variance the better q is (Dudík, Langford and Li 2011).
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from models.evaluation.bootstrap import Estimate, Resamples
from models.evaluation.metrics import ratio
from models.runtime.encoding import IndexArray

Numbers = npt.NDArray[np.float64]


class DrawnRankings(NamedTuple):
    """D rankings whose order was drawn: `persons`, `rewards` of the first item, its `probabilities` and how many items
    each shows, `sizes`, are (D,). Their items lie one ranking behind the other, as they stood, R in all.
    """

    persons: IndexArray
    rewards: Numbers
    probabilities: Numbers
    sizes: IndexArray

    @property
    def first(self) -> IndexArray:
        """(D,) the place of each first item among the R."""
        ends: IndexArray = np.cumsum(self.sizes)
        return ends - self.sizes


@dataclass(frozen=True, eq=False, slots=True)
class OffPolicyEstimates:
    """How often the first item is acted on, each with its draws of persons."""

    logged: Estimate
    """As it was served."""
    inverse_propensity: Estimate
    doubly_robust: Estimate
    matched: int
    """Rankings in which the tower puts the same item first."""


def off_policy(drawn: DrawnRankings, scores: Numbers, expected: Numbers, resamples: Resamples) -> OffPolicyEstimates:
    """The estimates for a tower with these `scores` (R,) of the rows; `expected` (R,) is q, of any tower that has not
    learned from these rankings."""
    best = _greatest(scores, drawn)
    matches = best == drawn.first
    weights = matches / drawn.probabilities
    robust = expected[best] + weights * (drawn.rewards - expected[drawn.first])
    return OffPolicyEstimates(
        logged=_mean(drawn.persons, drawn.rewards, resamples),
        inverse_propensity=_mean(drawn.persons, weights * drawn.rewards, resamples),
        doubly_robust=_mean(drawn.persons, robust, resamples),
        matched=int(matches.sum()),
    )


def _greatest(scores: Numbers, drawn: DrawnRankings) -> IndexArray:
    """(D,) the place of the item with the greatest score of each ranking; of equal ones, that which stood first."""
    owner = np.repeat(np.arange(len(drawn.sizes)), drawn.sizes)
    order = np.lexsort((np.arange(len(scores)), -scores, owner))
    return order[drawn.first]


def _mean(persons: IndexArray, values: Numbers, resamples: Resamples) -> Estimate:
    """The mean over rankings; a draw counts all rankings of a person as often as it has the person."""
    distinct, place = np.unique(persons, return_inverse=True)
    total = np.bincount(place, weights=values, minlength=len(distinct)).astype(np.float64)
    count = np.bincount(place, minlength=len(distinct)).astype(np.float64)
    return Estimate(float(values.mean()), ratio(resamples.sums(distinct, total), resamples.sums(distinct, count)))
