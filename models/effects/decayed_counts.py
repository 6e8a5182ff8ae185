"""What was acted on lately: counts in which every action counts half after so many days, by item.

A window adds to what was counted before: what is decayed already goes on decaying.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from foretaste.kernel.values import DAY_MS
from models.effects.counts import InteractionRows
from models.effects.low_rank import Doubles
from models.effects.seen_bias import FIRST_OF_SEEN_BIN, SEEN_BINS
from models.runtime.encoding import FIRST_KNOWN, IndexArray

HALF_LIVES = (3.0, 14.0, 60.0)
"""Days; K of them."""


@dataclass(frozen=True, eq=False, slots=True)
class TimedRows:
    """Rows of known items in order of time: `items`, `labels`, `times_ms`, `bins` of behaviours seen (R,).

    `drawn` (items,): how many negatives of each item a row is expected to bring; None where rows have labels.
    """

    items: IndexArray
    labels: npt.NDArray[np.float32]
    times_ms: IndexArray
    bins: IndexArray
    drawn: Doubles | None

    @classmethod
    def of(cls, rows: InteractionRows, negatives: int | None, items: int) -> "TimedRows":
        """`negatives`: sampled for each row, by how often each item came; None: the rows have labels of their own."""
        known = np.flatnonzero(rows.items >= FIRST_KNOWN)
        order = known[np.argsort(rows.times_ms[known], kind="stable")]
        drawn = None
        if negatives is not None:
            counts = np.bincount(rows.items[order], minlength=items).astype(np.float64)
            drawn = negatives * counts / max(counts.sum(), 1.0)
        own = (rows.items[order], rows.labels[order], rows.times_ms[order])
        return cls(*own, SEEN_BINS[rows.seen[order]], drawn)

    def __len__(self) -> int:
        return len(self.items)

    def only(self, kept: IndexArray | slice) -> "TimedRows":
        """Some of the rows."""
        return TimedRows(self.items[kept], self.labels[kept], self.times_ms[kept], self.bins[kept], self.drawn)

    def counts(self, weights: Doubles, items: int) -> tuple[Doubles, Doubles]:
        """(items,) what was acted on and what was passed by, each row with its weight (R,)."""
        acted = np.bincount(self.items, weights * self.labels, minlength=items).astype(np.float64)
        if self.drawn is not None:
            return acted, self.drawn * weights.sum()
        return acted, np.bincount(self.items, weights * (1 - self.labels), minlength=items).astype(np.float64)


@dataclass(frozen=True, eq=False, slots=True)
class DecayedCounts:
    """What was acted on and passed by until `at_ms`: (1 + K, items) each, of all time alike and then by half-life."""

    acted: Doubles
    passed: Doubles
    at_ms: int

    @classmethod
    def none(cls, items: int, at_ms: int) -> "DecayedCounts":
        nothing = np.zeros((1 + len(HALF_LIVES), items))
        return cls(nothing, nothing, at_ms)

    def grown(self, items: int) -> "DecayedCounts":
        """For so many items: of new ones nothing is known yet."""
        more = ((0, 0), (0, items - self.acted.shape[1]))
        return DecayedCounts(np.pad(self.acted, more), np.pad(self.passed, more), self.at_ms)

    def then(self, rows: TimedRows, until_ms: int) -> "DecayedCounts":
        """With rows that happened since, all as they count at `until_ms`; nothing is as of a time before `at_ms`."""
        until_ms = max(until_ms, self.at_ms)
        kept = _halved(np.array([until_ms - self.at_ms]))
        acted, passed = self.acted * kept, self.passed * kept
        for place, weights in enumerate(_halved(until_ms - rows.times_ms)):
            new = rows.counts(weights, acted.shape[1])
            acted[place] += new[0]
            passed[place] += new[1]
        return DecayedCounts(acted, passed, until_ms)

    @property
    def lifts(self) -> Doubles:
        """(K, items): log[(A_k + 1) / (P_k A_0 / P_0 + 1)], see `models.effects.decayed_popularity`."""
        odds = np.divide(self.acted[0], self.passed[0], out=np.zeros(self.acted.shape[1]), where=self.passed[0] > 0)
        found: Doubles = np.log((self.acted[1:] + 1) / (self.passed[1:] * odds + 1))
        found[:, self.passed[0] <= 0] = 0.0  # of what was never passed by, no odds are known
        return found

    @property
    def log_odds(self) -> Doubles:
        """(items,) that an item is acted on, of all time alike; near those of all items where little is known."""
        odds = (self.acted[0].sum() + 1) / (self.passed[0].sum() + 1)
        found: Doubles = np.log((self.acted[0] + odds) / (self.passed[0] + 1))
        return found


@dataclass(frozen=True, eq=False, slots=True)
class WeightEvidence:
    """What was read about the weights of each of S bins, as a quadratic: `slope` (S, K) and `curvature` (S, K, K).

    The log-likelihood of weights w is about e · w - w · H w / 2.
    """

    slope: Doubles
    curvature: Doubles

    @classmethod
    def none(cls) -> "WeightEvidence":
        bins, lives = len(FIRST_OF_SEEN_BIN), len(HALF_LIVES)
        return cls(np.zeros((bins, lives)), np.zeros((bins, lives, lives)))


@dataclass(frozen=True, eq=False, slots=True)
class PopularityState:
    """What popularity with time leaves for a later window."""

    counts: DecayedCounts
    evidence: WeightEvidence

    def to_arrays(self) -> dict[str, npt.NDArray[Any]]:
        """The arrays that a file keeps, by name; counts in single precision."""
        return {
            "popularity_acted": self.counts.acted.astype(np.float32),
            "popularity_passed": self.counts.passed.astype(np.float32),
            "popularity_at_ms": np.array(self.counts.at_ms),
            "popularity_slope": self.evidence.slope,
            "popularity_curvature": self.evidence.curvature,
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, npt.NDArray[Any]]) -> "PopularityState | None":
        """What `to_arrays` gave; None where an earlier version wrote the file. Raises `KeyError` for a part of it."""
        if "popularity_at_ms" not in arrays:
            return None
        acted, passed = (arrays[f"popularity_{name}"].astype(np.float64) for name in ("acted", "passed"))
        counts = DecayedCounts(acted, passed, int(arrays["popularity_at_ms"]))
        return cls(counts, WeightEvidence(arrays["popularity_slope"], arrays["popularity_curvature"]))


def _halved(ages_ms: IndexArray) -> Doubles:
    """(1 + K, R) how much what is so old counts: whole, and by each half-life."""
    days = ages_ms / DAY_MS
    found: Doubles = np.stack([np.ones(len(days)), *(np.exp2(-days / each) for each in HALF_LIVES)])
    return found
