"""What users would have done had another tower ordered what they were shown: an off-policy estimate.

It asks of rankings whose order was drawn with known probabilities: how often is the item acted on that a tower puts
first among those shown? Which items were shown stays as it was. For a ranking g with outcome r of its first item, drawn
with probability p, and the item that a tower would put first:

- inverse propensity (IPS): [it is the one that stood first] r / p
- doubly robust (DR): q(it) + [it is the one that stood first] (r - q(it)) / p, where q is what a tower expects

Of t items with the greatest score each is put first with probability 1 / t, by which the bracket is divided; q is their
mean then. Both are unbiased, DR with less variance the better q is (Dudík, Langford and Li 2011).
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
    """Rankings whose first item is the one that the tower puts first, or among several that it scores alike."""


def off_policy(drawn: DrawnRankings, scores: Numbers, expected: Numbers, resamples: Resamples) -> OffPolicyEstimates:
    """The estimates for a tower with these `scores` (R,) of the rows; `expected` (R,) is q, of any tower that has not
    learned from these rankings."""
    first, owner = drawn.first, np.repeat(np.arange(len(drawn.sizes)), drawn.sizes)
    best = scores == np.maximum.reduceat(scores, first)[owner]
    alike = np.bincount(owner, weights=best)
    matches = best[first]
    weights = matches / alike / drawn.probabilities
    direct = np.bincount(owner, weights=best * expected) / alike
    robust = direct + weights * (drawn.rewards - expected[first])
    return OffPolicyEstimates(
        logged=_mean(drawn.persons, drawn.rewards, resamples),
        inverse_propensity=_mean(drawn.persons, weights * drawn.rewards, resamples),
        doubly_robust=_mean(drawn.persons, robust, resamples),
        matched=int(matches.sum()),
    )


def _mean(persons: IndexArray, values: Numbers, resamples: Resamples) -> Estimate:
    """The mean over rankings; a draw counts all rankings of a person as often as it has the person."""
    distinct, place = np.unique(persons, return_inverse=True)
    total = np.bincount(place, weights=values, minlength=len(distinct)).astype(np.float64)
    count = np.bincount(place, minlength=len(distinct)).astype(np.float64)
    return Estimate(float(values.mean()), ratio(resamples.sums(distinct, total), resamples.sums(distinct, count)))
