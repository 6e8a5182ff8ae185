"""The users of a dataset as the online store holds them: attributes and the newest behaviours of each."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from foretaste.kernel.errors import InvalidInput
from foretaste.kernel.event_order import first_registration
from foretaste.kernel.events import oversized_integer
from foretaste.kernel.users import Behaviour, UserFeatures
from foretaste.kernel.values import MAX_BEHAVIOUR, Scalar, Value, is_several
from models.data.dataset import Dataset
from models.data.times import utc_text


class DatasetUsers:
    """All users of a dataset, in the order of its table, registered at one time.

    When each registered first is told beside it: what the data say, else the user's first event, where that was before.

    A behaviour is a row of label 1; of a user's, the `MAX_BEHAVIOUR` newest are told, oldest first, those of one time
    in the order of the data. The same item, action and time again is the same behaviour.
    """

    def __init__(self, dataset: Dataset, as_of_ms: int | None = None, now_ms: int | None = None) -> None:
        """`as_of_ms`: when they registered last, epoch milliseconds; by default the newest time in the data.

        Raises `InvalidInput` for a time after `now_ms`: what happens later would count as older.
        """
        frame = dataset.behaviour
        newest = max(int(each["time_ms"].max()) for each in (dataset.interactions, frame))
        for field, at_ms in (("interactions", newest), ("as-of", as_of_ms)):
            if at_ms is not None and now_ms is not None and at_ms > now_ms:
                raise InvalidInput(field, utc_text(at_ms), "must not be in the future")
        self.as_of_ms = newest if as_of_ms is None else as_of_ms
        self._names = list(dataset.description.users.attributes)
        self._users = dataset.users
        self._first_ms = np.maximum(dataset.registrations_ms, 0).tolist()
        users = dataset.user_rows(frame["user_id"]).astype(np.int32)
        rows = _newest(users, frame)
        self._items, self._actions = _texts(frame["item_id"], rows), _texts(frame["action"], rows)
        self._times = frame["time_ms"].to_numpy(dtype=np.int64)[rows]
        counts = np.bincount(users[rows], minlength=len(dataset.users))
        self._starts = np.concatenate([[0], np.cumsum(counts)]).tolist()

    def __len__(self) -> int:
        return len(self._users)

    def blocks(self, start: int, size: int) -> Iterator[list[UserFeatures]]:
        """The users from row `start` on, `size` at a time."""
        for first in range(start, len(self), size):
            yield self._block(first, min(first + size, len(self)))

    def _block(self, first: int, end: int) -> list[UserFeatures]:
        table = self._users.iloc[first:end]
        columns = [[_value(name, value) for value in table[name].tolist()] for name in self._names]
        starts = self._starts[first : end + 1]
        offset = starts[0]
        items, actions, times = (
            column[offset : starts[-1]].tolist() for column in (self._items, self._actions, self._times)
        )
        names, as_of_ms = self._names, self.as_of_ms
        found = []
        for place, (user_id, *values) in enumerate(zip(table["user_id"].tolist(), *columns, strict=True)):
            begin, until = starts[place] - offset, starts[place + 1] - offset
            behaviour = Behaviour(items[begin:until], actions[begin:until], times[begin:until])
            attributes = dict(zip(names, values, strict=True))
            first_ms = first_registration(as_of_ms, self._first_ms[first + place])
            found.append(UserFeatures(user_id, attributes, behaviour, attributes_ms=as_of_ms, first_ms=first_ms))
        return found


def _newest(users: npt.NDArray[np.int32], frame: pd.DataFrame) -> npt.NDArray[np.int64]:
    """The rows of the frame that are told, by user and then by time."""
    times = frame["time_ms"].to_numpy(dtype=np.int64)
    rows = np.flatnonzero(frame["label"].to_numpy() == 1)
    rows = rows[np.lexsort((times[rows], users[rows]))]
    rows = rows[~_repeated(users[rows], times[rows], frame.iloc[rows][["item_id", "action"]])]
    counts = np.bincount(users[rows])
    ends = np.repeat(np.cumsum(counts), counts)
    kept: npt.NDArray[np.int64] = rows[np.arange(len(rows)) >= ends - MAX_BEHAVIOUR]
    return kept


def _repeated(users: npt.NDArray[np.int32], times: npt.NDArray[np.int64], acts: pd.DataFrame) -> npt.NDArray[np.bool_]:
    """Which rows, sorted by user and time, were there before: looked for among those alone that share both."""
    same = (users[1:] == users[:-1]) & (times[1:] == times[:-1])
    shared = np.flatnonzero(np.append(same, False) | np.insert(same, 0, False))
    found = np.zeros(len(users), dtype=np.bool_)
    keys = {name: _codes(acts[name])[shared] for name in acts.columns}
    found[shared] = pd.DataFrame({"user": users[shared], "time": times[shared], **keys}).duplicated().to_numpy()
    return found


def _codes(column: "pd.Series[Any]") -> npt.NDArray[Any]:
    return column.cat.codes.to_numpy() if isinstance(column.dtype, pd.CategoricalDtype) else column.to_numpy()


def _texts(column: "pd.Series[Any]", rows: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
    """The rows' texts, an object for each distinct one."""
    if isinstance(column.dtype, pd.CategoricalDtype):
        return column.cat.categories.to_numpy(dtype=object)[column.cat.codes.to_numpy()[rows]]
    return column.to_numpy(dtype=object)[rows]


def _value(name: str, value: Any) -> Value:
    """As `_scalar`, of each of a list's values."""
    return [_scalar(name, each) for each in value] if is_several(value) else _scalar(name, value)


def _scalar(name: str, value: Any) -> Scalar:
    """A raw value as a sign-up may carry it: what is missing, nan or infinite is null.

    Raises `InvalidInput` for an integer beyond 64 bits.
    """
    if isinstance(value, str):
        return value
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or value is pd.NA or (isinstance(value, float) and not math.isfinite(value)):
        return None
    if isinstance(value, int) and (wrong := oversized_integer("users", {name: value})) is not None:
        raise wrong
    plain: Scalar = value
    return plain
