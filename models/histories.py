"""What each user had done before a moment: the behaviour that the towers see, in training and in evaluation alike."""

from dataclasses import dataclass

import numpy as np

from models.dataset import Dataset
from models.encoding import MAX_BEHAVIOUR, PADDING, Encoding, IndexArray


@dataclass(frozen=True, eq=False)
class Histories:
    """All behaviours (label 1), by user and then by time; within one time in the order of the data.

    `items`, `actions` (E,): indices of each of E behaviours. `starts` (users + 1,): where each user's begin, users
    being rows of `Dataset.users`. `moments` (T,): the distinct times, rising. `keys` (E,): user × (T + 1) + the rank
    of the behaviour's time in `moments`, rising, so that one binary search finds a user and a time.
    """

    items: IndexArray
    actions: IndexArray
    starts: IndexArray
    moments: IndexArray
    keys: IndexArray

    @classmethod
    def of(cls, dataset: Dataset, encoding: Encoding) -> "Histories":
        """Every behaviour of the dataset, those after the split too: `before` alone decides what is seen."""
        acted = dataset.interactions[dataset.interactions["label"] == 1]
        users = dataset.user_rows(acted["user_id"])
        moments, ranks = np.unique(acted["time_ms"].to_numpy(dtype=np.int64), return_inverse=True)
        keys = users * (len(moments) + 1) + ranks
        order = np.argsort(keys, kind="stable")
        return cls(
            items=encoding.encode_items(acted["item_id"].tolist())[order],
            actions=encoding.encode_actions(acted["action"].tolist())[order],
            starts=np.searchsorted(users[order], np.arange(len(dataset.users) + 1)).astype(np.int64),
            moments=moments,
            keys=keys[order],
        )

    def before(self, users: IndexArray, times_ms: IndexArray) -> tuple[IndexArray, IndexArray, IndexArray]:
        """For B pairs of a user (row of `Dataset.users`) and a time: what that user had done strictly earlier.

        Items and actions (B, L), the newest L, oldest first, then `PADDING`; and their number (B,). Events that share
        the time itself are not seen: many share a second, and one of them is the answer.
        """
        ranks = np.searchsorted(self.moments, times_ms, side="left")
        ends = np.searchsorted(self.keys, users * (len(self.moments) + 1) + ranks, side="left")
        begins = np.maximum(self.starts[users], ends - MAX_BEHAVIOUR)
        positions = begins[:, None] + np.arange(MAX_BEHAVIOUR)
        seen = positions < ends[:, None]
        found = positions[seen]
        items = np.full(positions.shape, PADDING, dtype=np.int64)
        actions = items.copy()
        items[seen] = self.items[found]
        actions[seen] = self.actions[found]
        return items, actions, ends - begins
