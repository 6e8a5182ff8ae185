"""Negatives for data that hold only what was acted on: popular items that the user did not meet."""

import numpy as np
import numpy.typing as npt
import pandas as pd

from foretaste.kernel.errors import InvalidInput
from models.data.dataset import Dataset
from models.data.indices import Indices, item_indices
from models.runtime.encoding import FIRST_KNOWN, PADDING, Encoding, IndexArray

LEAST_REPEATS = 0.01
"""Of the acts; from there on what a user did before is no sign of what the user will not do."""
ROUNDS = 16
"""Draws of a slot before the exact way is taken."""
MOST_BYTES = 1 << 27
"""Of a bitmap of who met what; where it would be larger, a binary search finds it."""


def repeat_share(dataset: Dataset) -> float:
    """The share of the interactions of label 1 whose user had acted on the item at an earlier time."""
    frame = dataset.interactions
    acted = np.flatnonzero(frame["label"].to_numpy() == 1)
    if not len(acted):
        return 0.0
    users, items = (rows[acted] for rows in (dataset.user_rows(frame["user_id"]), dataset.item_rows(frame["item_id"])))
    times = frame["time_ms"].to_numpy(dtype=np.int64)[acted]
    _, first, pair = np.unique(users * len(dataset.items) + items, return_index=True, return_inverse=True)
    return float((times > times[first][pair.ravel()]).mean())  # interactions are sorted by time


def users_repeat(dataset: Dataset) -> bool:
    """Whether users act on items that they acted on before."""
    return repeat_share(dataset) >= LEAST_REPEATS


class NegativeSampler:
    """Draws items by their popularity, never one that the user met.

    Where users do not repeat what they did, that is one that the user ever met, before or after the split. Where they
    do (`repeat_share`), it is one that the user met at that moment: else whatever a user did before would always
    be right.

    `counts` (item_count,): the weight of each item by its index; `PADDING` and `UNKNOWN` are never drawn. Users are
    rows of `Dataset.users`. Raises `InvalidInput` where no item has a weight.
    """

    def __init__(self, dataset: Dataset, encoding: Encoding, counts: IndexArray, rng: np.random.Generator) -> None:
        self._rng = rng
        self._dataset, self._encoding = dataset, encoding
        self._items = encoding.item_count
        self._weights = counts.astype(np.float64)
        self._weights[:FIRST_KNOWN] = 0.0
        drawable = np.flatnonzero(self._weights)
        if not len(drawable):
            raise InvalidInput("counts", counts.tolist(), "must give a weight to at least one known item")
        self._last = int(drawable[-1])
        self._cumulated = np.cumsum(self._weights)
        frame = dataset.interactions
        users, items = dataset.user_rows(frame["user_id"]), item_indices(dataset, encoding, frame["item_id"])
        self._ever = _Met(users * self._items + items, len(dataset.users) * self._items)
        self.by_moment = users_repeat(dataset)
        """Whether only what a user met at the moment is left out."""
        if self.by_moment:
            self._users = len(dataset.users)
            self._times_ms, time = np.unique(frame["time_ms"].to_numpy(dtype=np.int64), return_inverse=True)
            self._moments, moment = np.unique(time.ravel() * self._users + users, return_inverse=True)
            self._then = _Met(moment.ravel() * self._items + items, (len(self._moments) + 1) * self._items)

    def sample(self, users: IndexArray, count: int = 4, times_ms: IndexArray | None = None) -> IndexArray:
        """(B, count) item indices for B users; `PADDING` where a user has met every item that can be drawn.

        `times_ms` (B,) are the moments; None: what the user ever met is left out, whether users repeat it or not.
        """
        met, rows = self._ever, users
        if self.by_moment and times_ms is not None:
            met, rows = self._then, self._moments_of(users, times_ms)
        rows = np.repeat(rows, count)
        drawn = np.full(len(rows), PADDING, dtype=np.int64)
        open_slots = np.arange(len(rows))
        for _ in range(ROUNDS):
            if not len(open_slots):
                break
            candidates = self._draw(len(open_slots))
            fresh = ~met.holds(rows[open_slots] * self._items + candidates)
            drawn[open_slots[fresh]] = candidates[fresh]
            open_slots = open_slots[~fresh]
        for row in np.unique(rows[open_slots]):
            slots = open_slots[rows[open_slots] == row]
            drawn[slots] = self._draw_exactly(met.between(int(row) * self._items, self._items), len(slots))
        return drawn.reshape(len(users), count)

    def drawable(self, items: Indices | IndexArray) -> npt.NDArray[np.bool_]:
        """(B,) whether each of `items` (B,) has a weight. One without is never drawn: a row with it is always right."""
        found: npt.NDArray[np.bool_] = self._weights[items] > 0.0
        return found

    def drawable_rows(self, frame: pd.DataFrame) -> pd.DataFrame:
        """The rows of a table of interactions whose item is `drawable`."""
        return frame[self.drawable(item_indices(self._dataset, self._encoding, frame["item_id"]))]

    def _moments_of(self, users: IndexArray, times_ms: IndexArray) -> IndexArray:
        """(B,) the number of each moment; one above all of them where nothing was met."""
        times = np.minimum(np.searchsorted(self._times_ms, times_ms), len(self._times_ms) - 1)
        wanted = times * self._users + users
        places = np.minimum(np.searchsorted(self._moments, wanted), len(self._moments) - 1)
        known = (self._moments[places] == wanted) & (self._times_ms[times] == times_ms)
        return np.where(known, places, len(self._moments))

    def _draw(self, size: int) -> IndexArray:
        """Draw items by popularity, met or not."""
        points = self._rng.random(size) * self._cumulated[-1]
        drawn: IndexArray = np.searchsorted(self._cumulated, points, side="right").astype(np.int64)
        return np.minimum(drawn, self._last)  # a point may be rounded up to the whole

    def _draw_exactly(self, met: IndexArray, size: int) -> IndexArray:
        """Draw items by popularity among what was not `met`; for one who has met nearly everything."""
        weights = self._weights.copy()
        weights[met] = 0.0
        total = weights.sum()
        if total == 0.0:
            return np.full(size, PADDING, dtype=np.int64)
        drawn: IndexArray = self._rng.choice(self._items, size=size, p=weights / total)
        return drawn


class _Met:
    """A set of numbers below `size`, each a row and an item: as a bitmap where that is small enough."""

    def __init__(self, keys: IndexArray, size: int) -> None:
        keys = np.sort(keys)
        self._keys = keys[np.diff(keys, prepend=-1) != 0]
        self._bits = _bitmap(self._keys, size)

    def holds(self, keys: IndexArray) -> npt.NDArray[np.bool_]:
        """(B,) whether each key is there."""
        if self._bits is not None:
            bits: npt.NDArray[np.bool_] = (self._bits[keys >> 3] >> (keys & 7)) & 1 != 0
            return bits
        places = np.minimum(np.searchsorted(self._keys, keys), len(self._keys) - 1)
        found: npt.NDArray[np.bool_] = self._keys[places] == keys
        return found

    def between(self, first: int, length: int) -> IndexArray:
        """What is there from `first` on, counted from it, before `first + length`."""
        begin, end = np.searchsorted(self._keys, [first, first + length])
        found: IndexArray = self._keys[begin:end] - first
        return found


def _bitmap(keys: IndexArray, size: int) -> npt.NDArray[np.uint8] | None:
    """A bit for each of the numbers below `size`, set for rising `keys`; None where that takes over `MOST_BYTES`."""
    if size > 8 * MOST_BYTES:
        return None
    bits = np.zeros(size // 8 + 1, dtype=np.uint8)
    if len(keys):
        places = keys >> 3
        firsts = np.flatnonzero(np.diff(places, prepend=-1))
        bits[places[firsts]] = np.bitwise_or.reduceat(np.left_shift(1, keys & 7).astype(np.uint8), firsts)
    return bits
