"""Behaviour seen before a moment: strictly earlier, the newest hundred, and never another user's."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foretaste.kernel.values import MAX_BEHAVIOUR
from models.data.dataset import Dataset, read_dataset
from models.data.histories import Histories
from models.data.vocabulary import fit_encoding
from models.runtime.encoding import Encoding
from tests.data_factory import USERS, dataset_of, encoding_of, write_dataset

EVENTS = st.lists(
    st.tuples(st.integers(0, USERS - 1), st.integers(0, 5), st.integers(-3, 8), st.integers(0, 1)), max_size=80
)


def naive(dataset: Dataset, encoding: Encoding, user: int, time: int) -> list[int]:
    frame = dataset.interactions
    mine = frame[(frame["user_id"] == f"user-{user}") & (frame["time_ms"] < time) & (frame["label"] == 1)]
    return [int(index) for index in encoding.encode_items(mine["item_id"].tolist())[-MAX_BEHAVIOUR:]]


@settings(deadline=None, max_examples=50)
@given(EVENTS, st.lists(st.tuples(st.integers(0, USERS - 1), st.integers(-5, 10)), max_size=12))
def test_it_is_what_a_plain_loop_finds(events: list[tuple[int, int, int, int]], asked: list[tuple[int, int]]) -> None:
    dataset, encoding = dataset_of(events), encoding_of()
    users, times = np.array(asked, dtype=np.int64).reshape(-1, 2).T
    items, actions, lengths = Histories.of(dataset, encoding).before(users, times)
    assert items.shape == actions.shape == (len(asked), MAX_BEHAVIOUR)
    for row, (user, time) in enumerate(asked):
        expected = naive(dataset, encoding, user, time)
        assert lengths[row] == len(expected)
        assert items[row].tolist() == expected + [0] * (MAX_BEHAVIOUR - len(expected))
        assert actions[row].tolist() == [2] * len(expected) + [0] * (MAX_BEHAVIOUR - len(expected))


def test_the_newest_hundred_remain_oldest_first() -> None:
    dataset = dataset_of([(1, second % 6, second, 1) for second in range(250)])
    encoding = encoding_of()
    items, _, lengths = Histories.of(dataset, encoding).before(np.array([1]), np.array([200]))
    assert lengths.tolist() == [100]
    assert items[0].tolist() == [2 + second % 6 for second in range(100, 200)]


def test_events_of_one_time_do_not_see_each_other() -> None:
    dataset = dataset_of([(0, 0, 1, 1), (0, 1, 5, 1), (0, 2, 5, 1), (0, 3, 5, 1)])
    items, _, lengths = Histories.of(dataset, encoding_of()).before(np.array([0, 0]), np.array([5, 6]))
    assert lengths.tolist() == [1, 4]
    assert items[0, :2].tolist() == [2, 0]
    assert items[1, :5].tolist() == [2, 3, 4, 5, 0]


def test_what_was_shown_but_not_acted_on_is_no_behaviour() -> None:
    dataset = dataset_of([(0, 0, 1, 0), (0, 1, 2, 1)])
    items, _, lengths = Histories.of(dataset, encoding_of()).before(np.array([0]), np.array([9]))
    assert lengths.tolist() == [1]
    assert items[0, 0] == 3


def test_an_item_outside_the_vocabulary_is_seen_as_unknown() -> None:
    dataset = dataset_of([(0, 5, 1, 1)])
    items, _, lengths = Histories.of(dataset, encoding_of(items=2)).before(np.array([0]), np.array([9]))
    assert lengths.tolist() == [1]
    assert items[0, 0] == 1


def test_a_whole_dataset_gives_every_event_its_own_past(tmp_path: Path) -> None:
    dataset = read_dataset(write_dataset(tmp_path / "synthetic", users=50, interactions=1000))
    encoding = fit_encoding(dataset, 2**60)
    frame = dataset.interactions
    _, _, lengths = Histories.of(dataset, encoding).before(
        dataset.user_rows(frame["user_id"]), frame["time_ms"].to_numpy()
    )
    earlier = frame.groupby("user_id", observed=True)["time_ms"].rank(method="min") - 1
    assert lengths.tolist() == earlier.astype(int).tolist()


def test_users_are_rows_of_the_users_table() -> None:
    dataset = dataset_of([(0, 0, 1, 1)])
    assert dataset.user_rows(["user-2", "user-0", "nobody"]).tolist() == [2, 0, -1]


@pytest.mark.parametrize("time", [-(2**62), 2**62])
def test_times_far_away_do_not_spill_into_another_user(time: int) -> None:
    dataset = dataset_of([(user, user, 5, 1) for user in range(USERS)])
    users = np.arange(USERS)
    items, _, lengths = Histories.of(dataset, encoding_of()).before(users, np.full(USERS, time))
    assert lengths.tolist() == [int(time > 0)] * USERS
    assert items[:, 0].tolist() == ([2, 3, 4, 5] if time > 0 else [0] * USERS)
