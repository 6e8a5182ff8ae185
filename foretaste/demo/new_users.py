"""The users who sign up in the demo: those whose first event lies after the split, in order of that event."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from foretaste.kernel.errors import InvalidInput
from foretaste.kernel.values import Attributes

if TYPE_CHECKING:
    from models.data.dataset import Dataset

LATER_SHARE = 0.4
"""Least share of the new users who come later."""


@dataclass(frozen=True, slots=True)
class NewUsers:
    """New users with their raw attributes, by their id in the data, in order of their first event.

    The `first` ones sign up and act: their events from the split, `since_ms`, until the first event of the `later`
    ones, `until_ms` (epoch milliseconds), are replayed. The `later` ones only sign up; their events are held out.
    """

    first: Mapping[str, Attributes]
    later: Mapping[str, Attributes]
    since_ms: int
    until_ms: int


def new_users(dataset: "Dataset", most: int) -> NewUsers:
    """At most `most` first and later users. Raises `InvalidInput` where fewer than two are new after the split."""
    from models.data.split import split_by_time

    split = split_by_time(dataset)
    new = split.cold_users
    if len(new) < 2:  # noqa: PLR2004  # one of each kind
        raise InvalidInput("data", dataset.description.name, f"{len(new)} users are new after the split")
    count = min(most, max(int((1 - LATER_SHARE) * len(new)), 1))
    first, later = new[:count], new[count : count + most]
    frame = dataset.interactions
    until_ms = int(frame["time_ms"][frame["user_id"] == later[0]].iloc[0])
    return NewUsers(_attributes(dataset, first), _attributes(dataset, later), split.instant_ms, until_ms)


def fresh_ids(users: Mapping[str, Attributes], run: str) -> dict[str, str]:
    """The id under which each user signs up: a new one in each `run`."""
    return {user_id: f"{user_id}.{run}" for user_id in users}


def _attributes(dataset: "Dataset", user_ids: Sequence[str]) -> dict[str, Attributes]:
    names = list(dataset.description.users.attributes)
    rows = dataset.users.iloc[dataset.user_rows(user_ids)][names].to_dict("records")
    return {user_id: _scalars(row) for user_id, row in zip(user_ids, rows, strict=True)}


def _scalars(row: Mapping[Any, Any]) -> Attributes:
    return {str(name): value.item() if isinstance(value, np.generic) else value for name, value in row.items()}
