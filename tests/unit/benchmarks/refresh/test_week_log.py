"""Weeks of a dataset as a training log: only what was so at each moment, and nothing of what came later."""

import json
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
import pytest

from benchmarks.refresh.week_log import WEEK_MS, Week, first_times, log_of, up_to, weeks_of
from foretaste.kernel.errors import InvalidInput
from models.data.dataset import Dataset, read_dataset
from models.log.join import joined
from tests.data_factory import START, write_dataset

SINCE_MS = 1000 * START + 2 * WEEK_MS


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return read_dataset(write_dataset(tmp_path_factory.mktemp("data")))


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return read_dataset(write_dataset(tmp_path_factory.mktemp("labelled"), labels=True))


@pytest.fixture(scope="module")
def week(dataset: Dataset) -> Week:
    return weeks_of(dataset, SINCE_MS)[0]


def _events(dataset: Any, week: Any) -> Any:
    times = dataset.interactions["time_ms"]
    return dataset.interactions[(times >= week.since_ms) & (times < week.until_ms)]


def _earlier(dataset: Any, user: Any, at_ms: Any) -> Any:
    frame = dataset.interactions
    return frame[(frame["user_id"] == user) & (frame["time_ms"] < at_ms)]


def _ms(at: Any) -> Any:
    return round(at.timestamp() * 1000)


def test_weeks_follow_each_other_for_as_long_as_each_holds_a_new_user(dataset: Dataset) -> None:
    weeks = weeks_of(dataset, SINCE_MS)
    starts = first_times(dataset)
    assert [week.number for week in weeks] == list(range(1, len(weeks) + 1))
    assert all(one.until_ms == other.since_ms for one, other in pairwise(weeks))
    assert all(((week.since_ms <= starts) & (starts < week.until_ms)).any() for week in weeks)
    assert not (starts >= weeks[-1].until_ms).any()
    assert len(weeks_of(dataset, SINCE_MS, most=2)) == 2
    cut = weeks[1].until_ms
    assert weeks_of(dataset, SINCE_MS, until_ms=cut)[-1].until_ms == cut
    assert weeks_of(up_to(dataset, cut + WEEK_MS - 1), SINCE_MS, until_ms=cut + WEEK_MS - 1)[-1].until_ms == cut


def test_fewer_than_two_weeks_are_refused(dataset: Dataset) -> None:
    with pytest.raises(InvalidInput, match="two weeks"):
        weeks_of(dataset, int(dataset.interactions["time_ms"].max()))


def test_what_is_logged_of_a_ranking_is_what_lay_strictly_before_it(dataset: Dataset, week: Week) -> None:
    rankings = log_of(dataset, week, 4, seed=1).rankings.to_pylist()
    users = dataset.users.set_index("user_id")
    firsts = dataset.interactions.groupby("user_id", observed=True)["time_ms"].min()
    for ranking in rankings:
        assert _ms(ranking["registered_at"]) == firsts[ranking["user_id"]]
        assert week.since_ms <= _ms(ranking["at"]) < week.until_ms
        earlier = _earlier(dataset, ranking["user_id"], _ms(ranking["at"]))
        assert ranking["behaviour_items"] == earlier["item_id"].tolist()
        assert ranking["behaviour_actions"] == earlier["action"].tolist()
        told = json.loads(ranking["attributes"])
        raw = users.loc[ranking["user_id"]]
        assert told == {name: None if pd.isna(raw[name]) else raw[name] for name in ("segment", "age", "city")}
        assert json.loads(ranking["context"]).keys() == {"device"}
    assert any(ranking["behaviour_items"] for ranking in rankings)


def test_every_event_is_acted_on_in_its_own_ranking_and_the_others_shown_are_not(dataset: Dataset, week: Week) -> None:
    window = joined(log_of(dataset, week, 4, seed=1), 1, week.until_ms)
    events = _events(dataset, week)
    assert window.unanswered == window.open_rankings == 0
    assert len(window.labels) == 5 * len(events)
    of_row = np.repeat(np.arange(len(window)), window.shown.sizes)
    users = np.array([window.names.users[user] for user in window.user_of_row[window.users]])
    acted = pd.DataFrame(
        {
            "user_id": users[of_row],
            "item_id": np.array(window.names.items)[window.shown.items],
            "time_ms": window.times_ms[of_row],
        }
    )[window.labels == 1]
    expected = events[["user_id", "item_id", "time_ms"]].astype({"user_id": object, "item_id": object})
    order = ["time_ms", "user_id", "item_id"]
    pd.testing.assert_frame_equal(
        acted.sort_values(order, ignore_index=True).astype({"user_id": object, "item_id": object}),
        expected.sort_values(order, ignore_index=True),
        check_dtype=False,
    )
    met = set(zip(*(up_to(dataset, week.until_ms).interactions[name] for name in ("user_id", "item_id")), strict=True))
    shown = np.array(window.names.items)[window.shown.items]
    passed = zip(users[of_row][window.labels == 0], shown[window.labels == 0], strict=True)
    assert not met & set(passed)


def test_a_log_is_the_same_whatever_comes_later(dataset: Dataset, week: Week) -> None:
    whole = log_of(dataset, week, 4, seed=1)
    cut = log_of(up_to(dataset, week.until_ms), week, 4, seed=1)
    assert whole.rankings.equals(cut.rankings)
    assert whole.behaviours.equals(cut.behaviours)
    assert not whole.rankings.equals(log_of(dataset, week, 4, seed=2).rankings)


def test_what_was_popular_before_the_week_is_shown_beside_it_and_nothing_newer(dataset: Dataset, week: Week) -> None:
    known = set(up_to(dataset, week.since_ms).interactions["item_id"])
    fresh = "item-new"
    events = _events(dataset, week)
    items = pd.concat([dataset.items, dataset.items.iloc[:1].assign(item_id=fresh)], ignore_index=True)
    frame = dataset.interactions.astype({"item_id": object})
    frame.loc[events.index[::3], "item_id"] = fresh
    renewed = replace(dataset, items=items, interactions=frame)
    window = joined(log_of(renewed, week, 4, seed=1), 1, week.until_ms)
    shown = np.array(window.names.items)[window.shown.items]
    assert len(window.labels) == 5 * (len(events) - len(events[::3]))
    assert set(shown) <= known, "what is new would be acted on whenever it is shown"
    following = weeks_of(dataset, SINCE_MS)[1]
    later = joined(log_of(renewed, following, 4, seed=1), 1, following.until_ms)
    assert fresh in np.array(later.names.items)[later.shown.items]


def test_data_with_labels_are_logged_as_they_are(labelled: Dataset) -> None:
    week = weeks_of(labelled, SINCE_MS)[0]
    window = joined(log_of(labelled, week, 4, seed=1), 1, week.until_ms)
    events = _events(labelled, week)
    assert len(window.labels) == len(events)
    assert window.labels.sum() == (events["label"] == 1).sum()
    behaved = log_of(labelled, Week(1, week.since_ms, week.until_ms), 4, seed=1).rankings["behaviour_items"].to_pylist()
    assert (
        max(len(each) for each in behaved if each is not None)
        <= labelled.interactions.query("label == 1").groupby("user_id", observed=True).size().max()
    )
