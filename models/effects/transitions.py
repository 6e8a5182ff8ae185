"""Item-to-item transitions: how much likelier an item is to be acted on after another one, as few directions.

T(j, i) counts how often item i was acted on after item j, where the d-th behaviour before an act counts d^-1.5. With
p(i) the share of all that was counted, and κ counts of p(i) added to each row,

    lift(j, i) = log[(T(j, i) + κ p(i)) / ((T(j) + κ) p(i))] = log[1 + T(j, i) / (κ p(i))] + a constant of j,

of which the first term is 0 for whatever never followed, and the second the same for all candidates. So the lifts are
one sparse matrix, and its H greatest singular values give each item a vector as a source and one as a target.

What is served was counted before whatever it is asked of. So is what training reads: the time is cut into stretches of
as many rows each, and a moment reads what was counted before its stretch. A moment that an earlier window counted
already reads all of what the earlier windows counted.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import sparse
from sklearn.utils.extmath import randomized_svd

from foretaste.kernel.values import DAY_MS
from models.data.examples import Examples
from models.runtime.encoding import FIRST_KNOWN, PADDING, IndexArray

Floats = npt.NDArray[np.float32]
DIRECTIONS = 64
"""H, floats of a source and of a target."""
SHRINKAGE = 100.0
"""κ, counts by popularity that are added to those after each item."""
MOST_PAIRS = 1 << 23
"""Of items that are kept: of more, those that were counted most."""
HALF_LIFE_MS = 180 * DAY_MS
"""Of what earlier windows counted, so that among that many pairs there is room for new ones."""
COUNTED = 10
"""Behaviours before an act that are counted as its sources."""
COUNTED_POWER = -1.5
READ_DECAY = 0.6
"""Weight of a behaviour against the one after it, where transitions are read."""
STRETCHES = 6
"""S, of the time of a training. Measured: decision 89."""
READ = 24
"""Behaviours that are read in training; what lies further back weighs nothing."""
LEAST = COUNTED**COUNTED_POWER / 2
"""Of a pair: no act counts less, so that this is what rounding leaves, or age."""
_CHUNK, _WAITING = 16384, 1 << 22
"""Moments whose behaviour is looked up at once, and pairs that are gathered before they are added up, at least."""
_ITERATIONS = 2
"""Of the power method. Lifts have no sharp end of their spectrum: more of them change no ranking that was measured."""


@dataclass(frozen=True, eq=False, slots=True)
class Transitions:
    """Sources and targets (1 + S, items, H): of all that was counted, then of what was before each stretch of time.

    `begins_ms` (S - 1,) is when each stretch but the first begins. The log-odds of a candidate i after behaviours j₀
    (the newest), j₁, … are in proportion to Σ_d `READ_DECAY`^d source(j_d) · target(i). Targets are centred over what
    everybody acts on, so that an item without counts, whose vectors are zeros, is an average one.
    """

    sources: Floats
    targets: Floats
    begins_ms: IndexArray

    def of(self, times_ms: IndexArray, items: IndexArray, owner: IndexArray, candidates: IndexArray) -> Floats:
        """(R,) for candidates (R,) at the moments in rows `owner` (R,), which are at `times_ms` (U,) and have behaviour
        `items` (U, L) before them."""
        known = 1 + np.searchsorted(self.begins_ms, times_ms, side="right")
        seen = (items != PADDING).sum(axis=1)
        back = np.arange(min(READ, items.shape[1]))
        places = seen[:, None] - 1 - back
        read = np.where(places >= 0, np.take_along_axis(items, places.clip(0), axis=1), PADDING)
        taste = np.einsum("uld,l->ud", self.sources[known[:, None], read], READ_DECAY ** back.astype(np.float32))
        found: Floats = np.einsum("rd,rd->r", taste[owner], self.targets[known[owner], candidates])
        return found


@dataclass(frozen=True, eq=False, slots=True)
class TransitionCounts:
    """T (items, items): of all windows so far. Indices of items never move, and `PADDING` and `UNKNOWN` have none."""

    pairs: sparse.csr_array

    @classmethod
    def none(cls, items: int) -> "TransitionCounts":
        return cls(sparse.csr_array((items, items), dtype=np.float32))

    def grown(self, items: int) -> "TransitionCounts":
        """For so many items: of new ones nothing is known yet."""
        found = self.pairs.copy()
        found.resize((items, items))
        return TransitionCounts(found)

    def after(self, elapsed_ms: int) -> "TransitionCounts":
        """As they count so much later."""
        found = self.pairs * np.float32(0.5 ** (max(elapsed_ms, 0) / HALF_LIFE_MS))
        return TransitionCounts(_counted_at_all(found))

    def only(self, most: int) -> "TransitionCounts":
        """At most so many pairs, those that were counted most."""
        pairs = self.pairs
        if pairs.nnz <= most:
            return self
        found = pairs.tocoo()
        kept = np.sort(np.argpartition(found.data, pairs.nnz - most)[pairs.nnz - most :])
        return TransitionCounts(
            sparse.csr_array((found.data[kept], (found.row[kept], found.col[kept])), shape=pairs.shape)
        )

    def vectors(self, seed: int) -> tuple[Floats, Floats]:
        """Sources and targets, (items, H) each; of fewer directions than H, the others are zeros."""
        items = self.pairs.shape[0]
        sources, targets = (np.zeros((items, DIRECTIONS), dtype=np.float32) for _ in range(2))
        acted = np.asarray(self.pairs.sum(axis=0), dtype=np.float64)
        known = np.flatnonzero(acted + np.asarray(self.pairs.sum(axis=1)))
        rank = min(DIRECTIONS, len(known))
        if not rank:
            return sources, targets
        share = acted[known] / acted.sum()
        lifts = self.pairs[known][:, known].tocoo()
        lifts.data = np.log1p(lifts.data / (SHRINKAGE * share[lifts.col])).astype(np.float32)
        left, strengths, right = randomized_svd(lifts.tocsr(), rank, n_iter=_ITERATIONS, random_state=seed)
        size = np.sqrt(strengths)
        sources[known, :rank] = left * size
        targets[known, :rank] = right.T * size
        targets[known, :rank] -= (share @ targets[known, :rank]).astype(np.float32)
        return sources, targets

    def to_arrays(self) -> dict[str, npt.NDArray[Any]]:
        """The arrays that a file keeps, by name."""
        return {
            "transition_counts": self.pairs.data.astype(np.float32),
            "transition_targets": self.pairs.indices.astype(np.int32),
            "transition_starts": self.pairs.indptr.astype(np.int64),
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, npt.NDArray[Any]]) -> "TransitionCounts | None":
        """What `to_arrays` gave; None where an earlier version wrote the file. Raises `KeyError` for a part of it."""
        if "transition_counts" not in arrays:
            return None
        parts = (arrays[f"transition_{name}"] for name in ("counts", "targets", "starts"))
        items = len(arrays["transition_starts"]) - 1
        pairs = sparse.csr_array(tuple(parts), shape=(items, items))
        pairs.check_format(full_check=True)
        return cls(pairs)


def fit_transitions(
    examples: Examples,
    learned: npt.NDArray[np.bool_],
    items: int,
    seed: int,
    span_ms: tuple[int, int],
    before: TransitionCounts | None = None,
) -> tuple[Transitions, TransitionCounts]:
    """What was found of examples from the first moment of `span_ms` on, and what a later window goes on from.

    `learned` (users,) are those who are counted. `before`: what was counted in earlier windows, as of the first moment;
    it counts as of the second, and every stretch reads it.
    """
    since_ms, until_ms = span_ms
    moments = np.flatnonzero((examples.times_ms >= since_ms) & learned[examples.users])
    begins_ms = _begins_of_stretches(examples, moments)
    stretches = np.searchsorted(begins_ms, examples.times_ms[moments], side="right")
    shape = 1 + STRETCHES, items, DIRECTIONS
    sources, targets = (np.zeros(shape, dtype=np.float32) for _ in range(2))
    counts = before.grown(items).after(until_ms - since_ms) if before else TransitionCounts.none(items)
    for stretch in range(STRETCHES):
        sources[1 + stretch], targets[1 + stretch] = counts.vectors(seed)
        gathered = _Gathered(counts)
        for chunk in _chunks(moments[stretches == stretch]):
            gathered.add(_counted(examples, chunk))
        counts = gathered.counts().only(MOST_PAIRS)
    sources[0], targets[0] = counts.vectors(seed)
    return Transitions(sources, targets, begins_ms), counts


def _begins_of_stretches(examples: Examples, moments: IndexArray) -> IndexArray:
    """(S - 1,): all stretches have about as many rows."""
    if not len(moments):
        return np.zeros(STRETCHES - 1, dtype=np.int64)
    order = moments[np.argsort(examples.times_ms[moments], kind="stable")]
    rows = np.cumsum(examples.sizes[order])
    places = np.searchsorted(rows, rows[-1] * np.arange(1, STRETCHES) / STRETCHES, side="right")
    found: IndexArray = examples.times_ms[order[places.clip(max=len(order) - 1)]]
    return found


class _Gathered:
    """Counts, and pairs that are added up once many have come: to add few to many takes as long as to add many."""

    def __init__(self, counts: TransitionCounts) -> None:
        self._pairs = counts.pairs
        self._waiting: list[_Pairs] = []
        self._count = 0

    def add(self, pairs: "_Pairs") -> None:
        self._waiting.append(pairs)
        self._count += len(pairs.weights)
        if self._count >= max(_WAITING, self._pairs.nnz // 4):
            self._merge()

    def counts(self) -> TransitionCounts:
        """All of them, added up."""
        self._merge()
        return TransitionCounts(self._pairs)

    def _merge(self) -> None:
        if self._waiting:
            sources, targets, weights = (np.concatenate(each) for each in zip(*self._waiting, strict=True))
            added = self._pairs + sparse.csr_array((weights, (sources, targets)), shape=self._pairs.shape)
            kept = TransitionCounts(added).only(MOST_PAIRS) if added.nnz > 2 * MOST_PAIRS else TransitionCounts(added)
            self._pairs, self._waiting, self._count = kept.pairs, [], 0


def _counted_at_all(pairs: sparse.csr_array) -> sparse.csr_array:
    """Without what is no count."""
    pairs.data[pairs.data < LEAST] = 0.0
    pairs.eliminate_zeros()
    return pairs


class _Pairs(NamedTuple):
    """P times that an item was acted on after another, and how much it counts, (P,) each."""

    sources: IndexArray
    targets: IndexArray
    weights: Floats


def _counted(examples: Examples, moments: IndexArray) -> _Pairs:
    """What is counted of what was acted on at the moments."""
    owner, rows = examples.rows_of(moments)
    acted = (examples.labels[rows] == 1) & (examples.items[rows] >= FIRST_KNOWN)
    owner, targets = owner[acted], examples.items[rows[acted]].astype(np.int64)
    users = examples.users[moments].astype(np.int64)
    items, _, seen = examples.histories.before(users, examples.times_ms[moments])
    found = []
    for back in range(1, COUNTED + 1):
        there = np.flatnonzero(seen[owner] >= back)
        sources = items[owner[there], seen[owner[there]] - back]
        kept = (sources >= FIRST_KNOWN) & (sources != targets[there])
        there = there[kept]
        weights = np.full(len(there), back**COUNTED_POWER, dtype=np.float32)
        found.append((sources[kept], targets[there], weights))
    return _Pairs(*(np.concatenate(each) for each in zip(*found, strict=True)))


def _chunks(places: IndexArray) -> Iterator[IndexArray]:
    return (places[at : at + _CHUNK] for at in range(0, len(places), _CHUNK))
