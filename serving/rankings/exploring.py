"""Exploration: some rankings show their items in a drawn order, with known probabilities, so that other towers can be
judged by what users did about it (`models.evaluation.off_policy`)."""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from foretaste.kernel.values import IndexArray
from serving.requests import RankResponse

Doubles = npt.NDArray[np.float64]
LEAST = 1e-9
"""Of a probability, and of what it lacks to 1, for its odds."""


@dataclass(frozen=True, slots=True)
class Exploration:
    """With probability `share`, the items that a user gets to see are drawn one after the other by their odds.

    That is a Plackett-Luce order: at each position an item is drawn with its odds over those of the items that are
    left. Else they stand best first. Which items are shown is not drawn: only in which order.
    """

    share: float = 0.0
    rng: np.random.Generator = field(default_factory=np.random.default_rng)
    """Each ranking draws once from [0, 1) whether it explores, below `share`, and where it does, its order."""

    def order(self, response: RankResponse, shown: int) -> None:
        """Put the first `shown` items in the order that is drawn, and note the probability of each position."""
        count = min(shown, len(response.ranked))
        if not self.share or not count or response.ranking_generation is None:
            return
        best = response.ranked[:count]
        odds = _odds(np.array([item["score"] for item in best]))
        drawn = self.rng.random() < self.share
        order = np.argsort(-(np.log(odds) + self.rng.gumbel(size=count))) if drawn else np.arange(count)
        response.ranked[:count] = [best[place] for place in order.tolist()]
        response.probabilities = probabilities(odds, order, self.share).tolist()


def probabilities(odds: Doubles, order: IndexArray, share: float) -> Doubles:
    """(n,) of each position that its item stands there, given those above it; items (n,) are numbered best first.

    The order is Plackett-Luce with probability `share`, else best first. While the items are the best in order, it was
    drawn with w = share Π / (1 - share + share Π), Π being the probability of those above under Plackett-Luce; from
    another item on it was drawn for certain. A position's probability is (1 - w) [its item is the next best] + w × its
    odds over those of the items that are left.
    """
    own = odds[order]
    each: Doubles = own / np.cumsum(own[::-1])[::-1]
    is_best = np.logical_and.accumulate(order == np.arange(len(order)))
    drawn = np.ones(len(order))
    if share < 1:
        above = share * np.concatenate([[1.0], np.cumprod(each)[:-1]])
        was_best = np.concatenate([[True], is_best[:-1]])
        drawn[was_best] = (above / (1 - share + above))[was_best]
    found: Doubles = (1 - drawn) * is_best + drawn * each
    return found


def _odds(scores: Doubles) -> Doubles:
    within = np.clip(scores, LEAST, 1 - LEAST)
    found: Doubles = within / (1 - within)
    return found
