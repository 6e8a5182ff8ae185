"""What each user had done before a moment: the behaviour that the towers see, in training and in evaluation alike."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from foretaste.kernel.values import MAX_BEHAVIOUR
from models.data.dataset import Dataset
from models.data.indices import Indices, action_indices, item_indices
from models.runtime.encoding import PADDING, Encoding, IndexArray


class PastBehaviour(Protocol):
    """What B users had done before B moments; users are rows of `Dataset.users`."""

    def before(self, users: IndexArray, times_ms: IndexArray) -> tuple[IndexArray, IndexArray, IndexArray]:
        """Items and actions (B, L), the newest L, oldest first, then `PADDING`; and their number (B,)."""
        ...

    def seen(self, users: IndexArray, times_ms: IndexArray) -> IndexArray:
        """(B,) how many behaviours `before` would show, at most L."""
        ...


@dataclass(frozen=True, eq=False)
class Histories:
    """All behaviours (label 1), by user and then by time; within one time in the order of the data.

    `items`, `actions`, `times_ms` (E,): indices and the time of each of E behaviours. `starts` (users + 1,): where each
    user's begin, users being rows of `Dataset.users`.
    """

    items: Indices
    actions: Indices
    times_ms: IndexArray
    starts: IndexArray

    @classmethod
    def of(cls, dataset: Dataset, encoding: Encoding) -> "Histories":
        """Every behaviour of the dataset, those after the split too: `before` alone decides what is seen."""
        frame = dataset.behaviour
        users = dataset.user_rows(frame["user_id"]).astype(np.int32)
        rows = np.flatnonzero(frame["label"].to_numpy() == 1)
        times_ms = frame["time_ms"].to_numpy(dtype=np.int64)
        rows = rows[np.lexsort((times_ms[rows], users[rows]))]
        counts = np.bincount(users[rows], minlength=len(dataset.users))
        return cls(
            items=item_indices(dataset, encoding, frame["item_id"])[rows],
            actions=action_indices(encoding, frame["action"])[rows],
            times_ms=times_ms[rows],
            starts=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        )

    def before(self, users: IndexArray, times_ms: IndexArray) -> tuple[IndexArray, IndexArray, IndexArray]:
        """For B pairs of a user (row of `Dataset.users`) and a time: what that user had done strictly earlier.

        Items and actions (B, L), the newest L, oldest first, then `PADDING`; and their number (B,). Events that share
        the time itself are not seen: many share a second, and one of them is the answer.
        """
        ends = self._ends(users, times_ms)
        lengths = np.minimum(ends - self.starts[users], MAX_BEHAVIOUR)
        items = np.full((len(users), MAX_BEHAVIOUR), PADDING, dtype=np.int64)
        actions = items.copy()
        seen = np.arange(MAX_BEHAVIOUR) < lengths[:, None]
        firsts = np.cumsum(lengths) - lengths
        found = np.arange(lengths.sum()) + np.repeat(ends - lengths - firsts, lengths)
        items[seen] = self.items[found]
        actions[seen] = self.actions[found]
        return items, actions, lengths

    def seen(self, users: IndexArray, times_ms: IndexArray) -> IndexArray:
        """(B,) how many behaviours `before` would show, at most L."""
        seen: IndexArray = np.minimum(self._ends(users, times_ms) - self.starts[users], MAX_BEHAVIOUR)
        return seen

    def _ends(self, users: IndexArray, times_ms: IndexArray) -> IndexArray:
        """(B,) the place after each user's last behaviour before the time: a bisection of all B side by side."""
        low, high = self.starts[users], self.starts[users + 1]
        for _ in range(int((high - low).max(initial=0)).bit_length()):
            middle = (low + high) >> 1
            open_ = low < high
            earlier = open_ & (self.times_ms[np.where(open_, middle, 0)] < times_ms)
            low = np.where(earlier, middle + 1, low)
            high = np.where(open_ & ~earlier, middle, high)
        return low
