"""Draws of users, and what a figure would have been on each of them."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from models.evaluation.metrics import Numbers, ratio
from models.runtime.encoding import IndexArray

PERCENTILES = (2.5, 97.5)


@dataclass(frozen=True, eq=False)
class Resamples:
    """S bootstrap draws of V users: how often each of `users` (V,), rising, is drawn in each, `counts` (S, V)."""

    users: IndexArray
    counts: npt.NDArray[np.float32]

    @classmethod
    def drawn(cls, users: IndexArray, resamples: int, seed: int) -> "Resamples":
        """Draw as many users as there are, with replacement; the same draws for the same users and seed."""
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
        return Estimate(float(ratio(self.value - base.value, base.value)), ratio(self.drawn - base.drawn, base.drawn))


def mean(estimates: "list[Estimate]") -> Estimate:
    """The mean of estimates over the seeds of a method, draw by draw."""
    values = np.array([one.value for one in estimates])
    return Estimate(float(values.mean()), np.mean([one.drawn for one in estimates], axis=0))
