"""Who signs up in the demo, who comes later, and what the first ones act out."""

from pathlib import Path

import numpy as np
import pytest

from foretaste.demo import interactions
from foretaste.demo.evaluation import CandidateSampler, HeldOutCandidates
from foretaste.demo.interactions import InteractionReplay, ReplayedRanking
from foretaste.demo.new_users import NewUsers, fresh_ids, new_users
from foretaste.kernel.errors import InvalidInput
from models.data.dataset import Dataset, read_dataset
from models.data.split import split_by_time
from models.data.vocabulary import fit_encoding, item_counts
from models.runtime.encoding import FIRST_KNOWN
from tests.data_factory import dataset_of, write_dataset

MOST = 12


def read(folder: Path, *, labels: bool = False) -> Dataset:
    return read_dataset(write_dataset(folder, users=300, interactions=9000, labels=labels))


def rankings_of(dataset: Dataset, users: NewUsers) -> dict[str, list[ReplayedRanking]]:
    """By the id in the data."""
    encoding = fit_encoding(dataset, users.since_ms)
    rng = np.random.default_rng(0)
    replay = InteractionReplay(dataset, encoding, users.since_ms, users.until_ms, rng)
    return replay.of({user_id: user_id for user_id in users.first})


def candidates_of(dataset: Dataset, users: NewUsers, undrawable: str | None = None) -> list[HeldOutCandidates]:
    """Of the first users; nobody had acted on `undrawable`."""
    encoding = fit_encoding(dataset, users.since_ms)
    counts = item_counts(dataset, encoding, users.until_ms)
    if undrawable is not None:
        counts[encoding.encode_items([undrawable])] = 0
    sampler = CandidateSampler(dataset, encoding, counts, 3, 2, np.random.default_rng(0))
    return sampler.of({user_id: f"live {user_id}" for user_id in users.first})


def test_new_users_sign_up_in_order_and_the_later_ones_after_the_first_have_acted(tmp_path: Path) -> None:
    dataset = read(tmp_path)
    found = new_users(dataset, MOST)
    assert (*found.first, *found.later) == split_by_time(dataset).cold_users[: 2 * MOST]
    first_event = dataset.interactions.groupby("user_id", observed=True)["time_ms"].min()
    assert found.until_ms == first_event[next(iter(found.later))]
    assert all(found.since_ms <= first_event[user_id] <= found.until_ms for user_id in found.first)
    one = next(iter(found.first))
    (row,) = dataset.users[dataset.users["user_id"] == one].to_dict("records")
    assert found.first[one]["segment"] == row["segment"]


def test_where_few_are_new_some_of_them_are_left_to_come_later(tmp_path: Path) -> None:
    dataset = read(tmp_path)
    new = split_by_time(dataset).cold_users
    found = new_users(dataset, len(new))
    assert len(found.first) == int(0.6 * len(new))
    assert (*found.first, *found.later) == new


def test_a_second_run_signs_strangers_up() -> None:
    ids = fresh_ids({"a": {}, "b": {}}, "7f")
    assert ids == {"a": "a.7f", "b": "b.7f"}


def test_data_in_which_one_user_is_new_are_refused() -> None:
    events = [(0, item, time, 1) for item, time in zip(range(5), range(5), strict=True)]
    with pytest.raises(InvalidInput, match="1 users are new"):
        new_users(dataset_of([*events, (1, 0, 9, 1), (1, 1, 10, 1)]), MOST)


def test_a_user_acts_on_what_they_did_in_order_and_on_nothing_else(tmp_path: Path) -> None:
    dataset = read(tmp_path)
    users = new_users(dataset, MOST)
    rankings = rankings_of(dataset, users)
    assert list(rankings) == list(users.first)
    assert max(map(len, rankings.values())) > 1
    frame = dataset.interactions
    for user_id, own in rankings.items():
        rows = frame[(frame["user_id"] == user_id) & (frame["time_ms"] < users.until_ms)]
        did = dict(zip(rows["item_id"].astype(str), rows["action"].astype(str), strict=True))
        acted = [item for ranking in own for item in ranking.actions]
        assert acted == list(did)[: interactions.RANKINGS_A_USER * interactions.EVENTS_A_RANKING]
        assert all(did[item] == action for ranking in own for item, action in ranking.actions.items())
        assert all(len(ranking.actions) == interactions.EVENTS_A_RANKING for ranking in own[:-1])


def test_candidates_hold_what_was_acted_on_and_others_that_were_never_met(tmp_path: Path) -> None:
    dataset = read(tmp_path)
    users = new_users(dataset, MOST)
    frame = dataset.interactions
    encoding = fit_encoding(dataset, users.since_ms)
    known = {encoding.items[index - FIRST_KNOWN] for index in range(FIRST_KNOWN, encoding.item_count)}
    for user_id, own in rankings_of(dataset, users).items():
        met = set(frame["item_id"][frame["user_id"] == user_id].astype(str))
        for ranking in own:
            others = set(ranking.candidates) - set(ranking.actions)
            assert len(set(ranking.candidates)) == len(ranking.candidates)
            assert set(ranking.actions) <= set(ranking.candidates)
            assert others
            assert not others & met
            assert others <= known


def test_labelled_data_show_their_own_impressions(tmp_path: Path) -> None:
    dataset = read(tmp_path, labels=True)
    users = new_users(dataset, MOST)
    frame = dataset.interactions
    found = rankings_of(dataset, users)
    for user_id, own in found.items():
        rows = frame[(frame["user_id"] == user_id) & (frame["time_ms"] < users.until_ms)]
        liked = set(rows["item_id"][rows["label"] == 1].astype(str))
        shown = [item for ranking in own for item in ranking.candidates]
        assert set(shown) <= set(rows["item_id"].astype(str))
        assert {item for ranking in own for item in ranking.actions} == liked & set(shown)
    assert any(set(ranking.candidates) - set(ranking.actions) for own in found.values() for ranking in own)


@pytest.mark.parametrize("labels", [False, True])
def test_a_user_is_asked_about_what_was_acted_on_first(tmp_path: Path, labels: bool) -> None:
    """Later acts are those of an older account, which is not the one that is ranked."""
    dataset = read(tmp_path, labels=labels)
    users = new_users(dataset, MOST)
    found = candidates_of(dataset, users)
    assert {each.user_id for each in found} <= {f"live {user_id}" for user_id in users.first}
    frame = dataset.interactions
    for each in found:
        own = frame[frame["user_id"] == each.user_id.removeprefix("live ")]
        liked = own[own["label"] == 1]["item_id"].drop_duplicates().astype(str).tolist()
        acted = {item for item, label in zip(each.items, each.labels, strict=True) if label}
        assert acted == set(liked[:3])
        assert len(set(each.items)) == len(each.items)
        assert not (set(each.items) - acted) & set(liked)


@pytest.mark.parametrize("labels", [False, True])
def test_an_item_that_is_never_drawn_is_asked_about_only_where_users_passed_it_by(tmp_path: Path, labels: bool) -> None:
    dataset = read(tmp_path, labels=labels)
    users = new_users(dataset, MOST)
    first = candidates_of(dataset, users)[0]
    acted = next(item for item, label in zip(first.items, first.labels, strict=True) if label)
    without = candidates_of(dataset, users, undrawable=acted)
    assert without
    assert (acted in {item for each in without for item in each.items}) is labels
