"""The split by time: who is cold, who is warm, and where the instant comes from."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from foretaste.kernel.errors import InvalidInput
from models.data.dataset import Dataset, read_dataset
from models.data.split import split_by_time
from tests.data_factory import write_dataset


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return read_dataset(write_dataset(tmp_path_factory.mktemp("data") / "synthetic"))


def test_by_default_four_fifths_lie_before_the_instant(dataset: Dataset) -> None:
    split = split_by_time(dataset)
    assert len(split.train) == pytest.approx(0.8 * len(dataset.interactions), rel=0.02)
    assert split.train["time_ms"].max() < split.instant_ms <= split.test["time_ms"].min()
    assert len(split.train) + len(split.test) == len(dataset.interactions)


def test_cold_users_have_nothing_before_and_warm_users_both_sides(dataset: Dataset) -> None:
    split = split_by_time(dataset)
    before, after = set(split.train["user_id"]), set(split.test["user_id"])
    assert split.cold_users
    assert split.warm_users
    assert set(split.cold_users) == after - before
    assert set(split.warm_users) == after & before


def test_cold_users_come_in_the_order_in_which_they_first_act(dataset: Dataset) -> None:
    split = split_by_time(dataset)
    first = split.test.groupby("user_id", observed=True)["time_ms"].min()
    times = [first[user] for user in split.cold_users]
    assert times == sorted(times)
    assert len(set(split.cold_users)) == len(split.cold_users)


def test_an_event_at_the_instant_is_a_test_event(dataset: Dataset) -> None:
    instant = int(dataset.interactions["time_ms"].iloc[100])
    split = split_by_time(dataset, instant)
    assert (split.train["time_ms"] < instant).all()
    assert split.test["time_ms"].iloc[0] == instant


def test_the_description_names_the_instant_and_the_caller_may_overrule_it(dataset: Dataset) -> None:
    middle = datetime.fromtimestamp(int(dataset.interactions["time_ms"].median()) // 1000, tz=UTC)
    said = replace(dataset, description=dataset.description.model_copy(update={"split": middle}))
    assert split_by_time(said).instant_ms == middle.timestamp() * 1000
    assert split_by_time(said, split_by_time(dataset).instant_ms).instant_ms == split_by_time(dataset).instant_ms


@pytest.mark.parametrize("instant", [0, 2**50])
def test_a_split_that_leaves_a_side_empty_is_refused(dataset: Dataset, instant: int) -> None:
    with pytest.raises(InvalidInput, match="split: must leave interactions on both sides") as raised:
        split_by_time(dataset, instant)
    assert raised.value.value == instant


def test_data_of_one_single_time_cannot_be_split(tmp_path: Path) -> None:
    dataset = read_dataset(write_dataset(tmp_path / "synthetic", interactions=50))
    same = replace(dataset, interactions=dataset.interactions.assign(time_ms=5))
    with pytest.raises(InvalidInput, match="both sides"):
        split_by_time(same)
