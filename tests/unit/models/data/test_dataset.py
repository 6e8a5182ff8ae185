"""A dataset folder read whole, and every way in which it can be wrong told with the file, the column and the value."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from foretaste.kernel.errors import InvalidInput
from models.data import table_files
from models.data.dataset import Dataset, read_dataset
from tests.data_factory import ACTIONS, description, write_dataset

START_MS = 1_700_000_000_000
TABLES: dict[str, dict[str, list[Any]]] = {
    "users": {"uid": ["a", "b"], "segment": ["cook", None], "age": [30, None], "city": ["north", "south"]},
    "items": {"iid": ["x", "y"], "genre": ["food", "games"], "price": [1.5, 2.0]},
    "interactions": {
        "who": ["b", "a", "a"],
        "what": ["x", "y", "x"],
        "at": [1_700_000_002, 1_700_000_001, 1_700_000_001],
        "did": ["bought", "clicked", None],
        "device": ["phone", "phone", "desktop"],
        "acted": [1, 0, 1],
    },
}


def write(folder: Path, *, fmt: str = "parquet", labels: bool = True, **columns: Any) -> Path:
    """The tables above, with columns replaced by `users_uid=[…]` and the like; None takes a column away."""
    folder.mkdir()
    frames = {name: dict(table) for name, table in TABLES.items()}
    for key, values in columns.items():
        name, column = key.split("_", 1)
        if values is None:
            del frames[name][column]
        else:
            frames[name][column] = values
    for name, table in frames.items():
        frame = pd.DataFrame(table)
        if fmt == "csv":
            frame.to_csv(folder / f"{name}.csv", index=False)
        else:
            frame.to_parquet(folder / f"{name}.parquet", index=False)
    describe(folder, description(labels=labels))
    return folder


def describe(folder: Path, says: Any) -> None:
    (folder / "dataset.yaml").write_text(yaml.safe_dump(says, sort_keys=False), encoding="utf-8")


def refused(folder: Path) -> InvalidInput:
    with pytest.raises(InvalidInput) as raised:
        read_dataset(folder)
    return raised.value


@pytest.mark.parametrize("fmt", ["parquet", "csv"])
def test_the_columns_have_foretastes_own_names_and_types(tmp_path: Path, fmt: str) -> None:
    dataset = read_dataset(write(tmp_path / "data", fmt=fmt))
    assert dataset.users.columns.tolist() == ["user_id", "segment", "age", "city"]
    assert dataset.items.columns.tolist() == ["item_id", "genre", "price"]
    assert dataset.interactions.columns.tolist() == ["user_id", "item_id", "action", "time_ms", "label", "device"]
    assert dataset.interactions["time_ms"].dtype == np.int64
    assert dataset.interactions["label"].dtype == np.int8
    assert dataset.has_labels


@pytest.mark.parametrize("fmt", ["parquet", "csv"])
def test_rows_are_sorted_by_time_and_those_of_one_time_keep_their_order(tmp_path: Path, fmt: str) -> None:
    rows = read_dataset(write(tmp_path / "data", fmt=fmt)).interactions
    assert rows["time_ms"].tolist() == [START_MS + 1000, START_MS + 1000, START_MS + 2000]
    assert rows["item_id"].tolist() == ["y", "x", "x"]
    assert rows["label"].tolist() == [0, 1, 1]
    assert rows["action"].tolist() == ["clicked", "acted", "bought"]


def test_what_users_answered_or_passed_over_is_no_act(tmp_path: Path) -> None:
    """Data may be made of behaviours as they were stored."""
    folder = write_dataset(tmp_path, fmt="csv")
    acts = pd.read_csv(folder / "interactions.csv")
    acts.loc[:4, "did"] = "answered_no"
    acts.loc[5:9, "did"] = "passed_over"
    acts.to_csv(folder / "interactions.csv", index=False)
    found = read_dataset(folder).interactions
    assert len(found) == len(acts) - 10
    assert set(found["action"]) == set(ACTIONS)
    assert found.index.tolist() == list(range(len(found)))


def test_without_labels_every_interaction_was_acted_on(tmp_path: Path) -> None:
    dataset = read_dataset(write(tmp_path / "data", labels=False))
    assert not dataset.has_labels
    assert dataset.interactions["label"].tolist() == [1, 1, 1]


@pytest.mark.parametrize("fmt", ["parquet", "csv"])
@pytest.mark.parametrize("labels", [False, True])
def test_the_synthetic_data_read_back_whole(tmp_path: Path, fmt: Any, labels: bool) -> None:
    dataset = read_dataset(write_dataset(tmp_path / "data", fmt=fmt, labels=labels))
    assert len(dataset.users) == 200
    assert len(dataset.items) == 60
    assert 3900 <= len(dataset.interactions) <= 4000
    assert set(dataset.interactions["label"]) == ({0, 1} if labels else {1})


def test_csv_and_parquet_hold_the_same_interactions(tmp_path: Path) -> None:
    parquet, csv = (read_dataset(write_dataset(tmp_path / fmt, fmt=fmt)) for fmt in ("parquet", "csv"))
    pd.testing.assert_frame_equal(parquet.interactions, csv.interactions)


def test_the_fingerprint_changes_with_any_byte(tmp_path: Path) -> None:
    folder = write(tmp_path / "data")
    before = read_dataset(folder).fingerprint
    assert read_dataset(folder).fingerprint == before
    describe(folder, description(labels=True) | {"name": "another"})
    assert read_dataset(folder).fingerprint != before


@pytest.mark.parametrize("fmt", ["parquet", "csv"])
def test_number_ids_never_grow_a_fraction(tmp_path: Path, fmt: str) -> None:
    folder = write(tmp_path / "data", fmt=fmt, users_uid=[12, 7], interactions_who=[12.0, 7.0, 7.0])
    if fmt == "csv":
        table = pd.read_csv(folder / "interactions.csv", dtype={"who": "Int64"})
        table.to_csv(folder / "interactions.csv", index=False)
    dataset = read_dataset(folder)
    assert dataset.users["user_id"].tolist() == ["12", "7"]
    assert dataset.interactions["user_id"].tolist() == ["7", "7", "12"]


def test_ids_and_categories_of_a_csv_file_keep_their_leading_zeros(tmp_path: Path) -> None:
    ids: dict[str, Any] = {
        "users_uid": ["007", "7"],
        "interactions_who": ["7", "007", "007"],
        "users_city": ["02139", "2139"],
    }
    dataset = read_dataset(write(tmp_path / "data", fmt="csv", **ids))
    assert dataset.users["user_id"].tolist() == ["007", "7"]
    assert dataset.users["city"].tolist() == ["02139", "2139"]


def test_raw_values_stay_python_scalars_and_whole_numbers_stay_whole(tmp_path: Path) -> None:
    ages = pd.array([30, None], dtype="Int64")
    users = read_dataset(write(tmp_path / "data", users_age=ages)).users
    assert users["age"].tolist() == [30, None]
    assert type(users["age"].iloc[0]) is int
    assert users["segment"].tolist() == ["cook", None]


def test_dates_and_categories_become_their_text(tmp_path: Path) -> None:
    cities = pd.Categorical(["north", "south"])
    segments = [pd.Timestamp("2020-01-02").date(), None]
    users = read_dataset(write(tmp_path / "data", users_city=cities, users_segment=segments)).users
    assert users["city"].tolist() == ["north", "south"]
    assert users["segment"].tolist() == ["2020-01-02", None]


@pytest.mark.parametrize(
    ("times", "unit"),
    [
        ([1_700_000_002, 1_700_000_001, 1_700_000_001], "s"),
        ([1_700_000_002.0, 1_700_000_001.0, 1_700_000_001.0], "s"),
        ([1_700_000_002_000, 1_700_000_001_000, 1_700_000_001_000], "ms"),
        (["2023-11-14T22:13:22Z", "2023-11-14T22:13:21+00:00", "2023-11-14 22:13:21"], "s"),
        (["2023-11-14T22:13:22.000Z", "2023-11-14T23:13:21+01:00", "2023-11-14T22:13:21Z"], "s"),
        (pd.to_datetime([1_700_000_002, 1_700_000_001, 1_700_000_001], unit="s"), "s"),
        (
            pd.to_datetime([1_700_000_002, 1_700_000_001, 1_700_000_001], unit="s", utc=True).tz_convert("Asia/Tokyo"),
            "s",
        ),
    ],
)
@pytest.mark.parametrize("fmt", ["parquet", "csv"])
def test_times_may_be_numbers_texts_or_timestamps(tmp_path: Path, fmt: str, times: Any, unit: str) -> None:
    folder = write(tmp_path / "data", fmt=fmt, interactions_at=times)
    says = description(labels=True)
    says["interactions"]["time_unit"] = unit
    describe(folder, says)
    assert read_dataset(folder).interactions["time_ms"].tolist() == [START_MS + 1000, START_MS + 1000, START_MS + 2000]


def test_a_number_as_action_is_its_text(tmp_path: Path) -> None:
    dataset = read_dataset(write(tmp_path / "data", interactions_did=[5.0, 4.0, None]))
    assert set(dataset.interactions["action"]) == {"5", "4", "acted"}


WRONG: dict[str, tuple[dict[str, Any], list[str]]] = {
    "duplicate user": ({"users_uid": ["a", "a"]}, ["users.", "'uid'", "unique", "got 'a'"]),
    "duplicate item": ({"items_iid": ["y", "y"]}, ["items.", "'iid'", "unique", "got 'y'"]),
    "empty id": ({"users_uid": ["a", ""]}, ["users.", "'uid'", "row 2", "empty"]),
    "long id": ({"items_iid": ["x", "y" * 257]}, ["items.", "'iid'", "256", "yyy"]),
    "unknown user": ({"interactions_who": ["b", "q", "z"]}, ["interactions.", "'who'", "users.", "2 rows", "got 'q'"]),
    "unknown item": (
        {"interactions_what": ["x", "y", "q"]},
        ["interactions.", "'what'", "items.", "1 rows", "got 'q'"],
    ),
    "label 2": ({"interactions_acted": [0, 2, 1]}, ["interactions.", "'acted'", "row 2", "0 or 1", "got 2"]),
    "label nan": ({"interactions_acted": [0, None, 1]}, ["interactions.", "'acted'", "row 2", "0 or 1"]),
    "label text": ({"interactions_acted": ["0", "yes", "1"]}, ["interactions.", "'acted'", "0 or 1", "got 'yes'"]),
    "no time": ({"interactions_at": [1.0, None, 2.0]}, ["interactions.", "'at'", "row 2", "not a time"]),
    "bad time": ({"interactions_at": ["2020-01-01", "soon", "2020-01-02"]}, ["'at'", "not a time", "got 'soon'"]),
    "wrong unit": (
        {"interactions_at": [START_MS] * 3},
        ["interactions.", "'at'", "from 1980 to 2099", "time_unit 's'"],
    ),
    "long action": ({"interactions_did": ["a", "b", "c" * 257]}, ["interactions.", "'did'", "256"]),
    "no column": ({"users_age": None}, ["users.", "no column 'age'", "'city'"]),
    "no id column": ({"items_iid": None}, ["items.", "no column 'iid'"]),
    "no rows": ({"users_uid": [], "users_segment": [], "users_age": [], "users_city": []}, ["users.", "row"]),
}


@pytest.mark.parametrize("fmt", ["parquet", "csv"])
@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_named(tmp_path: Path, fmt: str, case: str) -> None:
    columns, words = WRONG[case]
    error = refused(write(tmp_path / "data", fmt=fmt, **columns))
    assert [word for word in words if word not in str(error)] == [], str(error)


@pytest.mark.parametrize("user", [1.5, float("inf"), 2.0**60])
def test_an_id_that_is_no_whole_number_is_refused(tmp_path: Path, user: float) -> None:
    error = refused(write(tmp_path / "data", users_uid=[user, 7.0]))
    assert "whole number" in str(error)


def test_a_missing_id_is_an_empty_one(tmp_path: Path) -> None:
    assert "may not be empty" in str(refused(write(tmp_path / "data", users_uid=["a", None])))


@pytest.mark.parametrize(
    ("column", "rows"),
    [("users_uid", 2), ("users_city", 2), ("interactions_at", 3), ("interactions_acted", 3), ("interactions_did", 3)],
)
def test_a_column_of_lists_is_refused(tmp_path: Path, column: str, rows: int) -> None:
    lists: dict[str, Any] = {column: [[1]] * rows}
    error = refused(write(tmp_path / "data", **lists))
    assert "cannot be read as" in str(error)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def spoil(path: Path) -> None:
    whole = bytearray(path.read_bytes())
    whole[10:200] = b"\xff" * 190
    path.write_bytes(bytes(whole))


@pytest.mark.parametrize("damage", [cut, spoil, lambda path: path.write_bytes(b"")])
def test_a_damaged_parquet_file_is_named(tmp_path: Path, damage: Callable[[Path], Any]) -> None:
    folder = write_dataset(tmp_path / "data")
    damage(folder / "interactions.parquet")
    assert "interactions.parquet: is damaged" in str(refused(folder))


@pytest.mark.parametrize("content", [b"", b"uid,segment,age,city\na,b,1\n", b"uid,segment,age,city\n\xff\xfe,b,1,c\n"])
def test_a_damaged_csv_file_is_named(tmp_path: Path, content: bytes) -> None:
    folder = write(tmp_path / "data", fmt="csv")
    (folder / "users.csv").write_bytes(content)
    assert str(refused(folder)).startswith("users.csv")


def test_a_column_that_comes_twice_is_refused(tmp_path: Path) -> None:
    folder = write(tmp_path / "data", fmt="csv")
    (folder / "users.csv").write_text("uid,uid,segment,age,city\na,b,cook,3,north\n", encoding="utf-8")
    assert "more than one column 'uid'" in str(refused(folder))


def test_a_missing_table_is_named(tmp_path: Path) -> None:
    folder = write(tmp_path / "data")
    (folder / "items.parquet").unlink()
    assert "needs items.parquet or .csv" in str(refused(folder))


def test_a_table_in_both_formats_is_refused(tmp_path: Path) -> None:
    folder = write(tmp_path / "data")
    (folder / "items.csv").write_text("iid\nx\n", encoding="utf-8")
    assert "twice" in str(refused(folder))


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    assert "nowhere" in str(refused(tmp_path / "nowhere"))


def test_a_folder_without_a_description_is_named(tmp_path: Path) -> None:
    folder = write(tmp_path / "data")
    (folder / "dataset.yaml").unlink()
    assert "has no dataset.yaml" in str(refused(folder))


def without(*keys: str) -> dict[str, Any]:
    says = description()
    part = says
    for key in keys[:-1]:
        part = part[key]
    del part[keys[-1]]
    return says


@pytest.mark.parametrize(
    ("says", "key"),
    [
        (without("name"), "name"),
        (without("users", "id"), "users.id"),
        (without("users", "attributes"), "users.attributes"),
        (without("interactions", "time"), "interactions.time"),
        (description() | {"users": {"id": "uid", "attributes": {}}}, "users.attributes"),
        (description() | {"users": {"id": "uid", "attributes": {"age": "number"}}}, "users.attributes.age"),
        (description() | {"users": {"id": "uid", "attributes": {"user_id": "categorical"}}}, "users.attributes"),
        (description() | {"spilt": "2020-01-01T00:00:00Z"}, "spilt"),
        (description() | {"split": "2020-02-30"}, "split"),
        ("a text", "dataset.yaml"),
    ],
)
def test_a_wrong_key_of_the_description_is_named(tmp_path: Path, says: Any, key: str) -> None:
    folder = write(tmp_path / "data")
    describe(folder, says)
    assert key in str(refused(folder))


def test_a_description_that_is_no_yaml_is_refused(tmp_path: Path) -> None:
    folder = write(tmp_path / "data")
    (folder / "dataset.yaml").write_text("name: [", encoding="utf-8")
    assert "is not YAML" in str(refused(folder))


def test_one_class_of_labels_and_constant_attributes_are_data_like_any(tmp_path: Path) -> None:
    dataset: Dataset = read_dataset(write(tmp_path / "data", interactions_acted=[1, 1, 1], users_city=["north"] * 2))
    assert dataset.interactions["label"].tolist() == [1, 1, 1]


LONG: dict[str, Any] = {
    "who": ["a", "b", "b", "a"] * 20,
    "what": ["x", "y", "x", "y"] * 20,
    "at": list(range(1_700_000_000, 1_700_000_080))[::-1],
    "did": [*["clicked"] * 50, *["bought", None] * 15],
    "device": [*["phone"] * 70, *["desktop"] * 9, ""],
    "acted": [0, 1] * 40,
}


def long(folder: Path, fmt: str, **columns: Any) -> Path:
    return write(folder, fmt=fmt, **{f"interactions_{name}": values for name, values in (LONG | columns).items()})


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """About 20 rows of the tables above."""
    monkeypatch.setattr(table_files, "BLOCK", 13)


@pytest.mark.parametrize("fmt", ["parquet", "csv"])
def test_blocks_of_any_size_give_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fmt: str) -> None:
    folder = long(tmp_path / "data", fmt)
    whole = read_dataset(folder).interactions
    assert len(whole) == 80
    for size in (2, 13, 79, 80):
        monkeypatch.setattr(table_files, "BLOCK", size)
        pd.testing.assert_frame_equal(read_dataset(folder).interactions, whole)


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("fmt", ["parquet", "csv"])
@pytest.mark.parametrize(
    ("column", "value", "words"),
    [
        ("who", "q", ["'who'", "row 70", "users.", "1 rows", "got 'q'"]),
        ("what", "", ["'what'", "row 70", "empty"]),
        ("acted", 2, ["'acted'", "row 70", "got 2"]),
        ("acted", None, ["'acted'", "row 70", "0 or 1"]),
        ("at", 10**12, ["'at'", "row 70", "2099"]),
        ("at", None, ["'at'", "row 70", "not a time"]),
        ("did", "c" * 257, ["'did'", "256"]),
    ],
)
def test_what_is_wrong_in_a_later_block_is_named_by_its_row(
    tmp_path: Path, fmt: str, column: str, value: Any, words: list[str]
) -> None:
    values = [*LONG[column]]
    values[69] = value
    error = refused(
        long(
            tmp_path / "data", fmt, **{column: pd.array(values, dtype="Int64") if column in {"at", "acted"} else values}
        )
    )
    assert [word for word in words if word not in str(error)] == [], str(error)


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("late", ["2023-11-14T22:13:20Z", "1.7e9", "1700000000.0"])
def test_times_of_a_csv_file_may_change_their_form_in_a_later_block(tmp_path: Path, late: str) -> None:
    times = [*[str(at) for at in LONG["at"][:60]], *[late] * 20]
    rows = read_dataset(long(tmp_path / "data", "csv", at=times)).interactions
    assert rows["time_ms"].tolist() == sorted([*[int(at) * 1000 for at in times[:60]], *[START_MS] * 20])


def test_the_row_that_is_no_time_is_named_and_not_its_neighbours(tmp_path: Path) -> None:
    error = refused(write(tmp_path / "data", interactions_at=["1700000000", "soon", "2020-01-01"]))
    assert "row 2" in str(error)


def test_ids_are_categories_whose_codes_are_rows_of_their_tables(tmp_path: Path) -> None:
    dataset = read_dataset(write_dataset(tmp_path / "data"))
    for column, table, rows in (
        ("user_id", dataset.users, dataset.user_rows),
        ("item_id", dataset.items, dataset.item_rows),
    ):
        ids = dataset.interactions[column]
        assert table[column].to_numpy()[ids.cat.codes].tolist() == ids.tolist()
        assert rows(ids).tolist() == ids.cat.codes.tolist()
        assert rows(ids.tolist()).tolist() == ids.cat.codes.tolist()
        assert rows(["nobody"]).tolist() == [-1]


def test_rows_are_found_for_categories_of_another_order(tmp_path: Path) -> None:
    dataset = read_dataset(write_dataset(tmp_path / "data"))
    other = pd.Series(pd.Categorical(["user-3", None, "stranger", "user-0"]))
    assert dataset.user_rows(other).tolist() == [3, -1, -1, 0]


def test_context_keeps_raw_categories_and_numbers_are_floats(tmp_path: Path) -> None:
    says = description(labels=True)
    says["interactions"]["context"] = {"device": "categorical", "depth": "numeric"}
    for fmt, missing in (("parquet", None), ("csv", "n/a")):
        folder = write(tmp_path / fmt, fmt=fmt, interactions_depth=pd.array(["3", missing, "1.5"], dtype=object))
        describe(folder, says)
        rows = read_dataset(folder).interactions
        assert rows.columns.tolist()[-2:] == ["device", "depth"]
        assert rows["depth"].dtype == np.float64
        assert rows["depth"].fillna(-1).tolist() == [-1, 1.5, 3]
        assert rows["device"].tolist() == ["phone", "desktop", "phone"]


def behaving(folder: Path, fmt: str = "parquet", **columns: Any) -> Path:
    """The tables above and three behaviours."""
    table = {
        "who": ["a", "b", "a"],
        "what": ["y", "y", "x"],
        "at": [1_700_000_009, 1_700_000_008, 1_700_000_007],
        "did": ["liked"] * 3,
    } | columns
    path = write(folder, fmt=fmt) / f"behaviours.{fmt}"
    frame = pd.DataFrame(table)
    frame.to_csv(path, index=False) if fmt == "csv" else frame.to_parquet(path, index=False)
    says = description(labels=True)
    says["behaviours"] = {"user": "who", "item": "what", "time": "at", "action": "did"}
    describe(folder, says)
    return folder


@pytest.mark.parametrize("fmt", ["parquet", "csv"])
def test_behaviours_may_have_a_table_of_their_own(tmp_path: Path, fmt: str) -> None:
    dataset = read_dataset(behaving(tmp_path / "data", fmt))
    rows = dataset.behaviours
    assert rows is not None
    assert rows is dataset.behaviour
    assert rows.columns.tolist() == ["user_id", "item_id", "action", "time_ms", "label"]
    assert rows["time_ms"].tolist() == [START_MS + 7000, START_MS + 8000, START_MS + 9000]
    assert rows["item_id"].tolist() == ["x", "y", "y"]
    assert rows["action"].tolist() == ["liked"] * 3
    assert rows["label"].tolist() == [1, 1, 1]


def test_without_them_the_interactions_are_the_behaviour(tmp_path: Path) -> None:
    dataset = read_dataset(write(tmp_path / "data"))
    assert dataset.behaviours is None
    assert dataset.behaviour is dataset.interactions


def test_the_fingerprint_covers_the_behaviours(tmp_path: Path) -> None:
    first, second = (
        read_dataset(behaving(tmp_path / str(at), at=[1_700_000_000 + at, 1_700_000_008, 1_700_000_007]))
        for at in (9, 10)
    )
    assert first.fingerprint != second.fingerprint


def test_what_is_wrong_with_behaviours_is_named(tmp_path: Path) -> None:
    error = refused(behaving(tmp_path / "item", what=["y", "q", "x"]))
    assert [word for word in ("behaviours.parquet", "'what'", "row 2", "got 'q'") if word not in str(error)] == []
    folder = behaving(tmp_path / "file")
    (folder / "behaviours.parquet").unlink()
    assert "needs behaviours.parquet or .csv" in str(refused(folder))
