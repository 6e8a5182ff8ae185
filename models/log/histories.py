"""The behaviour that rankings were served with: what training may see of a user at that moment, and nothing else."""

from dataclasses import dataclass
from typing import Self

import numpy as np

from foretaste.kernel.errors import InvalidInput
from foretaste.kernel.values import MAX_BEHAVIOUR
from models.data.indices import Indices
from models.log.columns import Lists
from models.runtime.encoding import PADDING, UNKNOWN, IndexArray


@dataclass(frozen=True, eq=False, slots=True)
class ServedHistories:
    """The behaviour that G rankings were served with, found by the row of users and the time: no two share both.

    `keys` (G,) rise: of each pair the place of its time among the T distinct `times_ms`, times the number of `rows`,
    plus its row. `places` (G,) are those of the pairs in `behaviour`. `items` and `actions` are the indices by number,
    the last one that of -1.
    """

    times_ms: IndexArray
    rows: int
    keys: IndexArray
    places: IndexArray
    behaviour: Lists
    items: IndexArray
    actions: IndexArray

    @classmethod
    def of(
        cls,
        users: Indices,
        times_ms: IndexArray,
        rows: int,
        behaviour: Lists,
        items: IndexArray,
        actions: IndexArray,
    ) -> Self:
        """`users` and `times_ms` are the G pairs; `items` and `actions` the indices of the numbers in `behaviour`."""
        distinct, place = np.unique(times_ms, return_inverse=True)
        keys = place.astype(np.int64) * rows + users
        order = np.argsort(keys)
        items, actions = np.append(items, UNKNOWN), np.append(actions, UNKNOWN)
        return cls(distinct, rows, keys[order], order, behaviour, items, actions)

    def before(self, users: IndexArray, times_ms: IndexArray) -> tuple[IndexArray, IndexArray, IndexArray]:
        """For B pairs of a row of users and the time of a ranking: the behaviour that it was served with.

        Items and actions (B, L), the newest L, oldest first, then `PADDING`; and their number (B,). Raises
        `InvalidInput` for a pair that is no ranking of the window: nothing is known of what could be seen then.
        """
        served = self.behaviour.take(self.rankings(users, times_ms), MAX_BEHAVIOUR)
        items = np.full((len(users), MAX_BEHAVIOUR), PADDING, dtype=np.int64)
        actions = items.copy()
        seen = np.arange(MAX_BEHAVIOUR) < served.sizes[:, None]
        items[seen] = self.items[served.items]
        actions[seen] = self.actions[served.actions]
        return items, actions, served.sizes

    def seen(self, users: IndexArray, times_ms: IndexArray) -> IndexArray:
        """(B,) how many behaviours `before` would show, at most L."""
        found = self.rankings(users, times_ms)
        seen: IndexArray = np.minimum(self.behaviour.starts[found + 1] - self.behaviour.starts[found], MAX_BEHAVIOUR)
        return seen

    def rankings(self, users: IndexArray, times_ms: IndexArray) -> IndexArray:
        """(B,) places of rankings in the window, by row of users and time. Raises `InvalidInput` as `before` does."""
        if not len(users):
            return np.zeros(0, dtype=np.int64)
        times = np.searchsorted(self.times_ms, times_ms)
        asked = times * self.rows + users
        found = np.minimum(np.searchsorted(self.keys, asked), len(self.keys) - 1)
        strange = (self.keys[found] != asked) | (self.times_ms[np.minimum(times, len(self.times_ms) - 1)] != times_ms)
        if strange.any():
            first = int(np.flatnonzero(strange)[0])
            raise InvalidInput("moment", (int(users[first]), int(times_ms[first])), "no ranking was served then")
        places: IndexArray = self.places[found]
        return places
