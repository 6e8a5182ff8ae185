"""The split by time: training sees what lies before an instant, evaluation what comes at or after it."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from foretaste.kernel.errors import InvalidInput
from models.data.dataset import Dataset
from models.data.times import utc_text

TRAINING_SHARE = 0.8
"""Of the interactions, where neither the caller nor `dataset.yaml` names an instant."""


@dataclass(frozen=True, eq=False)
class TimeSplit:
    """Interactions before `instant_ms` and at or after it, and the users whom each kind of evaluation is about.

    `cold_users` have their first interaction at or after the instant, in the order of those first interactions: the
    order in which they sign up. `warm_users` have interactions on both sides, in the order of their first one. Where
    the data have behaviours apart, who has one before the instant is warm too, and comes after the others.
    """

    instant_ms: int
    train: pd.DataFrame
    test: pd.DataFrame
    cold_users: tuple[str, ...]
    warm_users: tuple[str, ...]


def split_by_time(dataset: Dataset, instant_ms: int | None = None) -> TimeSplit:
    """Split at `instant_ms` (since the epoch), at what `dataset.yaml` says, or after 80 % of the interactions.

    Where more than these share the first time of all, the next one is the instant.

    Raises `InvalidInput` when a side would be empty.
    """
    frame = dataset.interactions
    instant = _instant(dataset) if instant_ms is None else instant_ms
    before = int(frame["time_ms"].searchsorted(instant, side="left"))
    if before in {0, len(frame)}:
        ends = " and ".join(utc_text(float(frame["time_ms"].iloc[end])) for end in (0, -1))
        problem = f"must leave interactions on both sides; {utc_text(instant)} does not, they lie between {ends}"
        raise InvalidInput("split", instant, problem)
    train, test = frame.iloc[:before], frame.iloc[before:]
    rows = dataset.user_rows(frame["user_id"])
    earlier, later = pd.unique(rows[:before]), pd.unique(rows[before:])
    if dataset.behaviours is not None:
        past = dataset.behaviours["user_id"][dataset.behaviours["time_ms"] < instant]
        earlier = pd.unique(np.concatenate([earlier, dataset.user_rows(past)]))
    users = dataset.users["user_id"].to_numpy()
    return TimeSplit(
        instant_ms=instant,
        train=train,
        test=test,
        cold_users=tuple(users[later[~np.isin(later, earlier)]]),
        warm_users=tuple(users[earlier[np.isin(earlier, later)]]),
    )


def _instant(dataset: Dataset) -> int:
    if dataset.description.split is not None:
        return round(dataset.description.split.timestamp() * 1000)
    times = dataset.interactions["time_ms"]
    instant = int(times.iloc[min(int(TRAINING_SHARE * len(times)), len(times) - 1)])
    if instant > times.iloc[0]:
        return instant
    later = int(times.searchsorted(instant, side="right"))  # most rows share the first time
    return instant if later == len(times) else int(times.iloc[later])
