"""Users of a dataset as the online store takes them: the newest behaviours of each, by time, each once."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foretaste.kernel.errors import InvalidInput
from foretaste.kernel.users import Behaviour, UserFeatures
from foretaste.kernel.values import MAX_BEHAVIOUR
from models.data.dataset import Dataset, read_dataset
from models.data.stored_users import DatasetUsers
from tests.data_factory import USERS, dataset_of, write_dataset

EVENTS = st.lists(
    st.tuples(st.integers(0, USERS - 1), st.integers(0, 5), st.integers(0, 400), st.integers(0, 1)),
    min_size=1,
    max_size=600,
)
NAMES = ("segment", "age", "city")


def dataset(events: list[tuple[int, int, int, int]], **values: Any) -> Dataset:
    found = dataset_of(events)
    return replace(found, users=found.users.assign(**{name: values.get(name) for name in NAMES}))


def appended(frame: pd.DataFrame, user: int) -> Behaviour:
    """By the way of a behaviour, one event at a time."""
    from streams.behaviours import append  # noqa: PLC0415  # what is compared with; the room itself does not know it

    behaviour = Behaviour()
    for row in frame[(frame["user_id"] == f"user-{user}") & (frame["label"] == 1)].itertuples():
        behaviour = append(behaviour, str(row.item_id), str(row.action), int(row.time_ms))  # type: ignore[arg-type]
    return behaviour


@settings(deadline=None, max_examples=40)
@given(EVENTS, st.integers(1, 3))
def test_behaviours_are_those_that_the_way_of_a_behaviour_keeps(
    events: list[tuple[int, int, int, int]], size: int
) -> None:
    data = dataset(events)
    users = DatasetUsers(data)
    found = [user for block in users.blocks(0, size) for user in block]
    assert [user.user_id for user in found] == [f"user-{each}" for each in range(USERS)]
    for place, user in enumerate(found):
        expected = appended(data.interactions, place)
        assert list(user.behaviour.items) == list(expected.items)
        assert list(user.behaviour.times) == list(expected.times)
        assert len(user.behaviour) <= MAX_BEHAVIOUR


def test_blocks_go_on_from_any_row() -> None:
    users = DatasetUsers(dataset([(user, item, 10 * user + item, 1) for user in range(USERS) for item in range(3)]))
    whole = [user for block in users.blocks(0, 100) for user in block]
    for start in range(USERS + 1):
        assert [user for block in users.blocks(start, 2) for user in block] == whole[start:]


def test_all_are_registered_as_of_the_newest_time_or_the_one_given() -> None:
    data = dataset([(0, 0, 500, 1), (1, 1, 900, 0)])
    assert {user.attributes_ms for user in _all(DatasetUsers(data))} == {900}
    assert {user.attributes_ms for user in _all(DatasetUsers(data, 700))} == {700}


@pytest.mark.parametrize(("as_of", "field"), [(None, "interactions"), (901, "as-of")])
def test_what_lies_in_the_future_is_refused(as_of: int | None, field: str) -> None:
    data = dataset([(0, 0, 500 if as_of else 901, 1)])
    with pytest.raises(InvalidInput, match=f"{field}: must not be in the future"):
        DatasetUsers(data, as_of, 900)


def test_attributes_are_as_a_sign_up_may_carry_them() -> None:
    values = {
        "segment": pd.Series(["a", None, "", "0x"], dtype=object),
        "age": pd.Series([1, np.nan, np.inf, np.int64(7)], dtype=object),
        "city": pd.Series([True, pd.NA, 2.5, None], dtype=object),
    }
    found = [user.attributes for user in _all(DatasetUsers(dataset([(0, 0, 1, 1)], **values)))]
    assert found == [
        {"segment": "a", "age": 1, "city": True},
        {"segment": None, "age": None, "city": None},
        {"segment": "", "age": None, "city": 2.5},
        {"segment": "0x", "age": 7, "city": None},
    ]
    assert found[3] is not None
    assert type(found[3]["age"]) is int


def test_an_integer_beyond_64_bits_is_named() -> None:
    with pytest.raises(InvalidInput, match=r"users\.age: must fit in 64 bits"):
        _all(DatasetUsers(dataset([(0, 0, 1, 1)], age=2**63)))


@pytest.mark.parametrize("fmt", ["csv", "parquet"])
def test_a_folder_is_read_as_training_reads_it(tmp_path: Path, fmt: str) -> None:
    data = read_dataset(write_dataset(tmp_path, users=30, interactions=300, fmt=fmt))  # type: ignore[arg-type]
    users = _all(DatasetUsers(data))
    assert len(users) == 30
    assert sum(len(user.behaviour) for user in users) == len(data.interactions.drop_duplicates())
    assert all(user.attributes is not None and set(user.attributes) == set(NAMES) for user in users)


def _all(users: DatasetUsers) -> list[UserFeatures]:
    return [user for block in users.blocks(0, 1000) for user in block]


def test_each_registered_first_with_the_first_event_where_the_data_do_not_tell() -> None:
    data = dataset([(0, 0, 500, 1), (0, 1, 700, 0), (1, 1, 900, 0)])
    assert [user.registered_ms for user in _all(DatasetUsers(data))][:3] == [500, 900, 900]
    assert [user.first_ms for user in _all(DatasetUsers(data))][:3] == [500, 0, 0], "no event, no earlier registration"


def test_each_registered_first_as_the_data_have_it() -> None:
    registered_ms = np.array([100, -1, 2000, 50], dtype=np.int64)
    data = replace(dataset([(0, 0, 500, 1), (1, 1, 900, 0)]), registered_ms=registered_ms)
    assert [user.registered_ms for user in _all(DatasetUsers(data))] == [100, 900, 900, 50]
