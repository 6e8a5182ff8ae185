"""A table that is a folder of parts, as Spark and its like write it: plain, partitioned, and what is none."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from foretaste.kernel.errors import InvalidInput
from models.data.dataset import Dataset, read_dataset
from models.data.table_parts import table_file
from tests.data_factory import write_dataset


def folder_of_parts(tmp_path: Path, fmt: str = "parquet") -> tuple[Path, Dataset]:
    """A data set whose interactions are a folder without parts yet, and the same with them as one file."""
    folder = write_dataset(tmp_path / "data", users=20, items=12, interactions=200, fmt=fmt)  # type: ignore[arg-type]
    whole = read_dataset(folder)
    (folder / f"interactions.{fmt}").rename(tmp_path / f"whole.{fmt}")
    (folder / f"interactions.{fmt}").mkdir()
    return folder, whole


def rows(tmp_path: Path, fmt: str = "parquet") -> pd.DataFrame:
    return pd.read_csv(tmp_path / "whole.csv") if fmt == "csv" else pd.read_parquet(tmp_path / "whole.parquet")


def same(found: Dataset, expected: Dataset) -> None:
    texts = {"action": str, "device": str}
    columns = [*expected.interactions.columns]
    by = ["time_ms", "user_id", "item_id", "action"]
    pd.testing.assert_frame_equal(
        found.interactions[columns].astype(texts).sort_values(by, ignore_index=True),
        expected.interactions.astype(texts).sort_values(by, ignore_index=True),
    )


@pytest.mark.parametrize("fmt", ["parquet", "csv"])
def test_parts_are_read_as_one_table_and_marks_passed_over(tmp_path: Path, fmt: str) -> None:
    folder, whole = folder_of_parts(tmp_path, fmt)
    table, parts = rows(tmp_path, fmt), folder / f"interactions.{fmt}"
    for number, part in enumerate((table.iloc[:70], table.iloc[70:70], table.iloc[70:])):
        path = parts / f"part-0000{number}.{fmt}"
        part.to_csv(path, index=False) if fmt == "csv" else part.to_parquet(path, index=False)
    (parts / "_SUCCESS").touch()
    (parts / f".part-00000.{fmt}.crc").touch()
    same(read_dataset(folder), whole)


def test_a_folder_may_be_called_by_the_table_alone_and_users_and_items_be_parts_too(tmp_path: Path) -> None:
    folder, whole = folder_of_parts(tmp_path)
    (folder / "interactions.parquet").rename(folder / "interactions")
    rows(tmp_path).to_parquet(folder / "interactions" / "a.parquet", index=False)
    users = pd.read_parquet(folder / "users.parquet")
    (folder / "users.parquet").unlink()
    (folder / "users.parquet").mkdir()
    users.iloc[:7].to_parquet(folder / "users.parquet" / "0.parquet", index=False)
    users.iloc[7:].to_parquet(folder / "users.parquet" / "1.parquet", index=False)
    found = read_dataset(folder)
    same(found, whole)
    pd.testing.assert_frame_equal(found.users, whole.users)
    assert found.fingerprint != whole.fingerprint


def test_columns_that_the_folders_names_give_are_columns(tmp_path: Path) -> None:
    folder, whole = folder_of_parts(tmp_path)
    table = rows(tmp_path)
    for (device, action), part in table.groupby(["device", "did"], dropna=False):
        inside = folder / "interactions.parquet" / f"device={device}" / f"did={action}"
        inside.mkdir(parents=True)
        part.drop(columns=["device", "did"]).to_parquet(inside / "part-0.parquet", index=False)
    same(read_dataset(folder), whole)


def test_names_of_folders_are_unquoted_kept_as_texts_and_may_stand_for_nothing(tmp_path: Path) -> None:
    folder, _ = folder_of_parts(tmp_path)
    table = rows(tmp_path).drop(columns="device")
    for value, start in (("007", 0), ("a%2Fb", 50), ("__HIVE_DEFAULT_PARTITION__", 100)):
        inside = folder / "interactions.parquet" / f"device={value}"
        inside.mkdir()
        table.iloc[start : start + 50].to_parquet(inside / "part.parquet", index=False)
    device = read_dataset(folder).interactions["device"]
    assert device.value_counts().to_dict() == {"007": 50, "a/b": 50}
    assert device.isna().sum() == 50


def test_a_time_may_be_the_name_of_a_folder(tmp_path: Path) -> None:
    folder, _ = folder_of_parts(tmp_path)
    table = rows(tmp_path).drop(columns="at")
    for day, start in (("2026-03-02", 0), ("2026-03-01", 100)):
        inside = folder / "interactions.parquet" / f"at={day}"
        inside.mkdir()
        table.iloc[start : start + 100].to_parquet(inside / "part.parquet", index=False)
    times = read_dataset(folder).interactions["time_ms"]
    assert times.iloc[0] == 1_772_323_200_000
    assert times.iloc[-1] == 1_772_409_600_000


def test_what_is_wrong_in_a_part_is_named_by_the_part_and_its_own_row(tmp_path: Path) -> None:
    folder, _ = folder_of_parts(tmp_path)
    table = rows(tmp_path)
    table.iloc[:100].to_parquet(folder / "interactions.parquet" / "a.parquet", index=False)
    table.iloc[100:].assign(who=["nobody", *table["who"].iloc[101:]]).to_parquet(
        folder / "interactions.parquet" / "b.parquet", index=False
    )
    with pytest.raises(InvalidInput, match=r"interactions.parquet/b.parquet, column 'who', row 1: .*'nobody'"):
        read_dataset(folder)


@pytest.mark.parametrize(
    ("files", "problem"),
    [
        ([], "holds no .parquet and no .csv file"),
        (["_SUCCESS"], "holds no .parquet"),
        (["a.parquet", "b.csv"], "files of one kind"),
        (["a.parquet", "b.parquet.gz"], "may hold .parquet or .csv files alone"),
        (["_delta_log/0.json", "a.parquet"], "is a Delta table"),
    ],
)
def test_a_folder_of_something_else_is_refused(tmp_path: Path, files: list[str], problem: str) -> None:
    for name in files:
        path = tmp_path / "items.parquet" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (tmp_path / "items.parquet").mkdir(exist_ok=True)
    with pytest.raises(InvalidInput, match=problem):
        table_file(tmp_path, "items")


def test_parts_of_users_whose_columns_differ_in_kind_are_refused(tmp_path: Path) -> None:
    folder, _ = folder_of_parts(tmp_path)
    rows(tmp_path).to_parquet(folder / "interactions.parquet" / "a.parquet", index=False)
    users = pd.read_parquet(folder / "users.parquet")
    (folder / "users.parquet").unlink()
    (folder / "users.parquet").mkdir()
    parts: list[Any] = [users.iloc[:5], users.iloc[5:].assign(age="old")]
    for number, part in enumerate(parts):
        part.to_parquet(folder / "users.parquet" / f"{number}.parquet", index=False)
    with pytest.raises(InvalidInput, match=r"users.parquet: has parts whose columns are of different kinds"):
        read_dataset(folder)
