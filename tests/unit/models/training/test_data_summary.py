"""`foretaste data check`: what it says of a data set, and that it refuses what training refuses."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from foretaste.kernel.errors import InvalidInput
from models.data.dataset import read_dataset
from models.training.data_summary import summarise
from tests.data_factory import write_dataset


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_dataset(tmp_path / "data", users=40, items=12, interactions=400)


def changed(folder: Path, table: str, **columns: Any) -> Path:
    path = folder / f"{table}.parquet"
    pd.read_parquet(path).assign(**columns).to_parquet(path, index=False)
    return folder


def test_it_shows_times_as_dates_values_shares_and_what_is_odd(folder: Path) -> None:
    frame = pd.read_parquet(folder / "interactions.parquet").sort_values("at", ignore_index=True)
    frame["what"] = [f"item-{row % 2}" for row in range(len(frame))]
    frame.loc[len(frame) - 3 :, "what"] = "item-5"
    pd.concat([frame, frame.iloc[:2]]).to_parquet(folder / "interactions.parquet", index=False)
    ages: list[Any] = [*["30"] * 34, "old", "", *["50"] * 4]
    cities = [None, *["north"] * 29, *["south"] * 10]
    found = summarise(read_dataset(changed(folder, "users", age=ages, city=cities)))
    assert found["first"] == pd.Timestamp(frame["at"].min(), unit="s").strftime("%Y-%m-%dT%H:%M:%SZ")
    assert found["last"] == pd.Timestamp(frame["at"].max(), unit="s").strftime("%Y-%m-%dT%H:%M:%SZ")
    assert found["first"] < found["split"] <= found["last"]
    assert found["repeated_rows"] >= 2
    assert found["test_rows_of_unknown_items"] == 3
    assert found["before_the_split"] + found["after_the_split"] == found["interactions"] == len(frame) + 2
    city = {"kind": "categorical", "missing_share": 0.025, "values": 2, "most_frequent": {"north": 29, "south": 10}}
    assert found["attributes"]["city"] == city
    age = {"kind": "numeric", "missing_share": 0.05, "values": 2, "least": 30.0, "median": 30.0, "most": 50.0}
    assert found["attributes"]["age"] == age
    (strange,) = found["not_numbers"]
    assert (strange["count"], strange["first"], strange["row"]) == (1, "old", 35)
    assert json.loads(json.dumps(found)) == found


def test_labels_of_one_kind_are_refused_as_training_refuses_them(tmp_path: Path) -> None:
    folder = write_dataset(tmp_path / "data", users=40, items=12, interactions=400, labels=True)
    with pytest.raises(InvalidInput, match="training needs labels of both kinds"):
        summarise(read_dataset(changed(folder, "interactions", acted=1)))


def test_one_item_alone_is_refused_as_training_refuses_it(folder: Path) -> None:
    with pytest.raises(InvalidInput, match="training needs two items at least"):
        summarise(read_dataset(changed(folder, "interactions", what="item-0")))


def test_it_says_how_many_events_repeat_an_earlier_one_and_what_a_negative_is(folder: Path, tmp_path: Path) -> None:
    ever = "0 % of the events repeat an earlier one; a negative is an item that the user did not meet ever"
    assert summarise(read_dataset(folder))["repeats"] == ever
    frame = pd.read_parquet(folder / "interactions.parquet")
    again = frame.iloc[:50].assign(at=frame["at"].max() + 1)
    again = again.drop_duplicates(["who", "what"])
    pd.concat([frame, again]).to_parquet(folder / "interactions.parquet", index=False)
    share = 100 * len(again) / (len(frame) + len(again))
    told = summarise(read_dataset(folder))["repeats"]
    expected = f"{share:.3g} % of the events repeat an earlier one"
    assert told == f"{expected}; a negative is an item that the user did not meet at that moment"
    labelled = write_dataset(tmp_path / "labelled", users=40, items=12, interactions=400, labels=True)
    assert summarise(read_dataset(labelled))["repeats"].endswith("% of the events repeat an earlier one")
