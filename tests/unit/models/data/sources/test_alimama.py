"""Alimama's four files as a dataset folder: what each row becomes, and what is refused."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from foretaste.kernel.errors import InvalidInput, Unavailable
from models.data.dataset import Dataset, read_dataset
from models.data.examples import Examples
from models.data.histories import Histories
from models.data.sources import alimama_files
from models.data.sources.alimama import ACTIONS, AlimamaConfig, fetch_alimama
from models.data.split import split_by_time
from models.data.vocabulary import fit_encoding, item_counts
from models.training.cotrain import cotrain
from tests.alimama_factory import DAY, MIDNIGHT, write_alimama
from tests.towers_factory import config


def silent(_step: str, _done: int, _total: int | None) -> None:
    """Nobody listens."""


def converted(tmp_path: Path, source: Path, settings: AlimamaConfig | None = None) -> Dataset:
    return read_dataset(fetch_alimama(tmp_path / "cache", source=source, config=settings, progress=silent))


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_alimama(tmp_path_factory.mktemp("alimama") / "files")


@pytest.fixture(scope="module")
def dataset(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return converted(tmp_path_factory.mktemp("converted"), source)


def test_an_impression_keeps_its_user_advertisement_time_place_and_click(source: Path, dataset: Dataset) -> None:
    raw = pd.read_csv(source / "raw_sample.csv").sort_values("time_stamp", kind="stable", ignore_index=True)
    rows = dataset.interactions
    assert dataset.has_labels
    assert rows["user_id"].tolist() == raw["user"].astype(str).tolist()
    assert rows["item_id"].tolist() == raw["adgroup_id"].astype(str).tolist()
    assert rows["time_ms"].tolist() == (raw["time_stamp"] * 1000).tolist()
    assert rows["label"].tolist() == raw["clk"].tolist()
    assert rows["pid"].tolist() == raw["pid"].tolist()


def test_behaviour_names_categories_and_is_that_of_users_with_impressions(source: Path, dataset: Dataset) -> None:
    raw = pd.read_csv(source / "behavior_log.csv")
    shown = pd.read_csv(source / "raw_sample.csv")["user"]
    raw = raw[raw["btag"].isin(["cart", "fav", "buy"]) & raw["user"].isin(shown)]
    raw = raw.sort_values("time_stamp", kind="stable", ignore_index=True)
    rows = dataset.behaviours
    assert rows is not None
    assert rows["user_id"].tolist() == raw["user"].astype(str).tolist()
    assert rows["item_id"].tolist() == ("category-" + raw["cate"].astype(str)).tolist()
    assert rows["action"].tolist() == raw["btag"].tolist()
    assert rows["time_ms"].tolist() == (raw["time_stamp"] * 1000).tolist()


def test_actions_and_days_bound_what_is_taken_over(source: Path, tmp_path: Path) -> None:
    rows = converted(tmp_path, source, AlimamaConfig(actions=ACTIONS, days=2)).behaviours
    assert rows is not None
    assert set(rows["action"]) == set(ACTIONS)
    assert rows["time_ms"].min() >= (MIDNIGHT - DAY) * 1000
    raw = pd.read_csv(source / "behavior_log.csv")
    shown = pd.read_csv(source / "raw_sample.csv")["user"]
    assert len(rows) == ((raw["time_stamp"] >= MIDNIGHT - DAY) & raw["user"].isin(shown)).sum()


def test_blank_headers_null_brands_and_users_without_a_profile(source: Path, dataset: Dataset) -> None:
    users = dataset.users.set_index("user_id")
    raw = pd.read_csv(source / "user_profile.csv", dtype=str).set_index("userid")
    assert users.loc["1"].isna().all()
    assert users.loc["2", "new_user_class_level"] is None
    assert users.loc["3", "new_user_class_level"] == raw.loc["3", "new_user_class_level "]
    assert users.loc["3", "age_level"] == raw.loc["3", "age_level"]
    assert "41" not in users.index, "has no impression"
    ads = pd.read_csv(source / "ad_feature.csv", dtype=str)
    items = dataset.items.set_index("item_id")
    first = ads.iloc[0]
    assert items.loc[first["adgroup_id"], "brand"] is None
    assert items.loc[first["adgroup_id"], "cate_id"] == first["cate_id"]
    assert items.loc[first["adgroup_id"], "price"] == float(first["price"])


def test_a_category_is_an_item_with_its_own_category(dataset: Dataset) -> None:
    encoding = fit_encoding(dataset, split_by_time(dataset).instant_ms)
    items = dataset.items.set_index("item_id")
    assert items.loc["category-3", "cate_id"] == "3"
    column = list(encoding.item_attributes).index("cate_id")
    category = int(encoding.encode_items(["category-3"])[0])
    ad = str(items.index[(items["cate_id"] == "3") & ~items.index.str.startswith("category-")][0])
    assert encoding.item_features[category, column] == encoding.item_features[encoding.encode_items([ad])[0], column]
    assert item_counts(dataset, encoding, 2**60)[category] == 0, "no impression shows it"


def test_the_last_day_is_the_test(dataset: Dataset) -> None:
    assert split_by_time(dataset).instant_ms == MIDNIGHT * 1000


def test_histories_are_the_behaviours_before_each_impression_not_its_clicks(dataset: Dataset) -> None:
    split = split_by_time(dataset)
    encoding = fit_encoding(dataset, split.instant_ms)
    examples = Examples.of(dataset, split.test, encoding, Histories.of(dataset, encoding))
    batch = examples.batch(np.arange(len(examples.users)))
    assert dataset.behaviours is not None
    for moment in range(0, len(examples.users), 7):
        user, time = dataset.users["user_id"][batch.users[moment]], batch.times_ms[moment]
        past = dataset.behaviours[(dataset.behaviours["user_id"] == user) & (dataset.behaviours["time_ms"] < time)]
        items, actions = encoding.encode_behaviour(past["item_id"].tolist(), past["action"].tolist())
        assert batch.items[moment].tolist() == items.tolist()
        assert batch.actions[moment].tolist() == actions.tolist()


def test_a_user_with_behaviour_before_the_split_is_no_cold_one(dataset: Dataset) -> None:
    split = split_by_time(dataset)
    assert dataset.behaviours is not None
    earlier = set(split.train["user_id"])
    done = set(dataset.behaviours["user_id"][dataset.behaviours["time_ms"] < split.instant_ms])
    assert set(split.cold_users) == set(split.test["user_id"]) - earlier - done
    assert set(split.warm_users) == set(split.test["user_id"]) & (earlier | done)


def test_towers_learn_from_it(dataset: Dataset) -> None:
    split = split_by_time(dataset)
    towers = cotrain(dataset, split, config(epochs=1))
    assert np.isfinite(towers.mean_virtual).all()


def test_blocks_of_any_size_give_the_same(
    source: Path, dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alimama_files, "BLOCK_BYTES", 300)
    again = converted(tmp_path, source)
    for name in ("users", "items", "interactions", "behaviours"):
        pd.testing.assert_frame_equal(getattr(again, name), getattr(dataset, name))


def test_a_folder_in_the_cache_needs_no_source(source: Path, tmp_path: Path) -> None:
    folder = fetch_alimama(tmp_path, source=source, progress=silent)
    assert fetch_alimama(tmp_path, source=None, progress=silent) == folder
    assert [path.name for path in tmp_path.iterdir()] == ["alimama"]


def test_without_a_source_the_user_is_told_to_bring_it(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="--source"):
        fetch_alimama(tmp_path, source=None, progress=silent)


def replaced(name: str, old: str, new: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        text = (folder / name).read_text(encoding="utf-8")
        assert old in text
        (folder / name).write_text(text.replace(old, new, 1), encoding="utf-8")

    return change


def appended(name: str, line: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        with (folder / name).open("a", encoding="utf-8") as file:
            file.write(f"{line}\n")

    return change


WRONG: dict[str, tuple[Callable[[Path], object], list[str]]] = {
    "no file": (lambda folder: (folder / "ad_feature.csv").unlink(), ["source", "ad_feature.csv"]),
    "empty file": (lambda folder: (folder / "raw_sample.csv").write_bytes(b""), ["raw_sample.csv", "row"]),
    "no rows": (
        lambda folder: (folder / "behavior_log.csv").write_text("user,time_stamp,btag,cate,brand\n", encoding="utf-8"),
        ["behavior_log.csv", "row"],
    ),
    "no column": (replaced("user_profile.csv", "cms_segid", "segid"), ["user_profile.csv", "'cms_segid'"]),
    "two clicks": (appended("raw_sample.csv", "1,1494600000,1000,p,1,1"), ["raw_sample.csv", "'clk'", "row 801"]),
    "no click": (appended("raw_sample.csv", "1,1494600000,1000,p,,"), ["raw_sample.csv", "'clk'", "missing"]),
    "text for a user": (appended("raw_sample.csv", "u,1494600000,1000,p,1,0"), ["raw_sample.csv", "damaged", "'u'"]),
    "another action": (appended("behavior_log.csv", "1,1494600000,look,1,1"), ["behavior_log.csv", "'btag'", "'look'"]),
    "no category": (appended("behavior_log.csv", "1,1494600000,buy,,1"), ["behavior_log.csv", "'cate'", "missing"]),
    "a user twice": (appended("user_profile.csv", "2,0,0,1,1,1,1,0,1"), ["user_profile.csv", "'userid'", "got 2"]),
    "cut short": (appended("ad_feature.csv", "1001,3"), ["ad_feature.csv", "damaged"]),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_named_and_nothing_is_left(tmp_path: Path, case: str) -> None:
    change, words = WRONG[case]
    folder = write_alimama(tmp_path / "files")
    change(folder)
    with pytest.raises(InvalidInput) as raised:
        fetch_alimama(tmp_path / "cache", source=folder, progress=silent)
    assert [word for word in words if word not in str(raised.value)] == [], str(raised.value)
    assert not list((tmp_path / "cache").glob("*"))


@pytest.mark.parametrize("changes", [{"actions": ("look",)}, {"actions": ()}, {"days": 0}])
def test_settings_that_cannot_be_are_refused_by_field(changes: dict[str, object]) -> None:
    with pytest.raises(InvalidInput, match=next(iter(changes))):
        AlimamaConfig(**changes)  # type: ignore[arg-type]  # on purpose


def test_a_log_without_the_behaviour_asked_for_is_refused(tmp_path: Path) -> None:
    folder = write_alimama(tmp_path / "files", impressions=30)
    log = folder / "behavior_log.csv"
    pd.read_csv(log).assign(btag="pv").to_csv(log, index=False)
    with pytest.raises(InvalidInput, match=r"behavior_log\.csv.*no such behaviour"):
        fetch_alimama(tmp_path / "cache", source=folder, progress=silent)
