"""How far what is served has moved from what a generation was trained on: shares, PSI, and running windows.

No input or output happens here, and times are arguments, in seconds since the epoch.
"""

import math
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from foretaste.kernel.profile import Shares
from foretaste.kernel.values import Value, canonical, is_missing, is_vector, number, texts_of

Numbers: TypeAlias = npt.NDArray[np.float64]

FLOOR = 1e-4
"""Least share of a bin: an empty one would make the index infinite."""
LEAST_A_BIN = 20
"""Observations that a PSI needs for each bin. Of n draws from the same shares over K bins its mean is about (K - 1) / n
by chance alone (Yurdakul and Naranjo, 2020), which stays below 0.05."""


def psi(expected: Numbers, observed: Numbers) -> float:
    """Population stability index of two share vectors (K,): Σ (p - q) ln(p / q), shares no less than `FLOOR`.

    The usual reading is below 0.1 stable, from 0.1 some shift, above 0.25 a shift that asks for action (Siddiqi,
    Credit Risk Scorecards, 2006).
    """
    p, q = np.maximum(observed, FLOOR), np.maximum(expected, FLOOR)
    return float(((p - q) * np.log(p / q)).sum())


class Rolling:
    """(K,) sums over the last `seconds`, forgotten in `buckets` steps. Memory is buckets × K, whatever comes."""

    def __init__(self, width: int, seconds: float, buckets: int) -> None:
        self._step = seconds / buckets
        self._sums = np.zeros((buckets, width))
        self._held = np.full(buckets, -1, dtype=np.int64)

    def add(self, at: float, place: int, amount: float = 1.0) -> None:
        """Add to the sum at `place`, as of the time `at`. What is older than all that is held is not taken."""
        bucket = int(at // self._step)
        row = bucket % len(self._held)
        if self._held[row] > bucket:
            return
        if self._held[row] < bucket:
            self._sums[row] = 0.0
            self._held[row] = bucket
        self._sums[row, place] += amount

    def total(self, now: float) -> Numbers:
        """(K,) sums of the last `seconds` before `now`, to a bucket."""
        newest = int(now // self._step)
        current = (self._held <= newest) & (self._held > newest - len(self._held))
        found: Numbers = self._sums[current].sum(axis=0)
        return found


@dataclass(eq=False)
class Drift:
    """One distribution, expected and as it comes."""

    expected: Shares
    counts: Rolling

    @classmethod
    def of(cls, expected: Shares, seconds: float, buckets: int) -> "Drift":
        return cls(expected, Rolling(len(expected.shares), seconds, buckets))

    def __post_init__(self) -> None:
        self._places = self.expected.places()
        self._edges = self.expected.edges
        self._shares = np.array(self.expected.shares)

    def add(self, at: float, value: Value) -> None:
        """Take a raw value as of the time `at`; of a list each of its values."""
        for place in self._places_in_list(value) if self.expected.of_lists else (self._place(value),):
            self.counts.add(at, place)

    def psi(self, now: float) -> float | None:
        """None until there are `LEAST_A_BIN` values for each bin that was expected to hold any."""
        counts = self.counts.total(now)
        total = counts.sum()
        if total < LEAST_A_BIN * max(int((self._shares > 0).sum()), 1):
            return None
        return psi(self._shares, counts / total)

    def _place(self, value: Value) -> int:
        missing = len(self._shares) - 1
        if self.expected.vector is not None:
            return 0 if is_vector(value, *self.expected.vector) else missing
        if self._edges is None:
            text = canonical(value)
            return missing if text is None else self._places.get(text, missing - 1)
        parsed = number(value)
        return missing if math.isnan(parsed) else int(np.searchsorted(self._edges, parsed, side="right"))

    def _places_in_list(self, value: Value) -> set[int]:
        """As the encoder reads a list: a set of canonical values, a value alone is a list of one."""
        if is_missing(value):
            return {len(self._shares) - 1}
        return {self._places[text] for text in texts_of(value) if text in self._places}
