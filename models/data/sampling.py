"""Negatives for data that hold only what was acted on: popular items that the user never met."""

import numpy as np
import numpy.typing as npt

from foretaste.kernel.errors import InvalidInput
from models.data.dataset import Dataset
from models.data.indices import item_indices
from models.runtime.encoding import FIRST_KNOWN, PADDING, Encoding, IndexArray

ROUNDS = 16
"""Draws of a slot before the exact way is taken."""
MOST_BYTES = 1 << 27
"""Of a bitmap of who met what; where it would be larger, a binary search finds it."""


class NegativeSampler:
    """Draws items by their popularity, never one that the user ever met, before or after the split.

    `counts` (item_count,): the weight of each item by its index; `PADDING` and `UNKNOWN` are never drawn. Users are
    rows of `Dataset.users`. Raises `InvalidInput` where no item has a weight.
    """

    def __init__(self, dataset: Dataset, encoding: Encoding, counts: IndexArray, rng: np.random.Generator) -> None:
        self._rng = rng
        self._items = encoding.item_count
        self._weights = counts.astype(np.float64)
        self._weights[:FIRST_KNOWN] = 0.0
        drawable = np.flatnonzero(self._weights)
        if not len(drawable):
            raise InvalidInput("counts", counts.tolist(), "must give a weight to at least one known item")
        self._last = int(drawable[-1])
        self._cumulated = np.cumsum(self._weights)
        frame = dataset.interactions
        met = dataset.user_rows(frame["user_id"]) * self._items + item_indices(dataset, encoding, frame["item_id"])
        met.sort()
        self._met = met[np.diff(met, prepend=-1) != 0]
        self._bits = _bitmap(self._met, len(dataset.users) * self._items)

    def sample(self, users: IndexArray, count: int = 4) -> IndexArray:
        """(B, count) item indices for B users; `PADDING` where a user has met every item that can be drawn."""
        rows = np.repeat(users, count)
        drawn = np.full(len(rows), PADDING, dtype=np.int64)
        open_slots = np.arange(len(rows))
        for _ in range(ROUNDS):
            if not len(open_slots):
                break
            candidates = self._draw(len(open_slots))
            fresh = ~self._has_met(rows[open_slots], candidates)
            drawn[open_slots[fresh]] = candidates[fresh]
            open_slots = open_slots[~fresh]
        for user in np.unique(rows[open_slots]):
            slots = open_slots[rows[open_slots] == user]
            drawn[slots] = self._draw_exactly(int(user), len(slots))
        return drawn.reshape(len(users), count)

    def _draw(self, size: int) -> IndexArray:
        """Draw items by popularity, met or not."""
        points = self._rng.random(size) * self._cumulated[-1]
        drawn: IndexArray = np.searchsorted(self._cumulated, points, side="right").astype(np.int64)
        return np.minimum(drawn, self._last)  # a point may be rounded up to the whole

    def _has_met(self, users: IndexArray, items: IndexArray) -> npt.NDArray[np.bool_]:
        keys = users * self._items + items
        if self._bits is not None:
            bits: npt.NDArray[np.bool_] = (self._bits[keys >> 3] >> (keys & 7)) & 1 != 0
            return bits
        places = np.minimum(np.searchsorted(self._met, keys), len(self._met) - 1)
        found: npt.NDArray[np.bool_] = self._met[places] == keys
        return found

    def _draw_exactly(self, user: int, size: int) -> IndexArray:
        """Draw items by popularity among what a user has not met; for one who has met nearly everything."""
        begin, end = np.searchsorted(self._met, [user * self._items, (user + 1) * self._items])
        weights = self._weights.copy()
        weights[self._met[begin:end] - user * self._items] = 0.0
        total = weights.sum()
        if total == 0.0:
            return np.full(size, PADDING, dtype=np.int64)
        drawn: IndexArray = self._rng.choice(self._items, size=size, p=weights / total)
        return drawn


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
