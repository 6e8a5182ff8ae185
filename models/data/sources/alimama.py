"""Alimama's display advertisements as a dataset folder, from the four public files that a user brings.

An impression is an advertisement shown to a user at a place (`pid`), clicked or not. Behaviour is what the same user
did in the shop, and names a category of goods and never an advertisement: each category is therefore an item too,
which no impression shows, with its own category as attribute, so that behaviour and advertisements meet there.

The files are read in blocks: the log of behaviour has 723 million rows.
"""

from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet
import pydantic.dataclasses
import yaml
from pydantic import Field, PositiveInt

from foretaste.kernel.configuration import NO_OTHER_FIELDS, raises_invalid_input
from foretaste.kernel.errors import InvalidInput, Unavailable
from foretaste.kernel.files import AlreadyThere, remove_whole, write_whole
from foretaste.kernel.ports import Report
from models.data.description_file import DESCRIPTION
from models.data.schema import DatasetDescription
from models.data.sources.alimama_files import Reader

LICENCE = "Ali_Display_Ad_Click, Alimama through Tianchi: under the terms that its page there states"
SAMPLE, ADS, PROFILES, LOG = "raw_sample.csv", "ad_feature.csv", "user_profile.csv", "behavior_log.csv"
TABLES = ("users.parquet", "items.parquet", "interactions.parquet", "behaviours.parquet")
CATEGORY = "category-"
"""Before a category's number, the id of the item that stands for it."""
Action: TypeAlias = Literal["pv", "cart", "fav", "buy"]
ACTIONS: tuple[Action, ...] = get_args(Action)
"""What `btag` may be: viewed, put into the cart, marked as a favourite, bought."""
_AD = ("cate_id", "campaign_id", "customer", "brand")
_USER = (
    "cms_segid", "cms_group_id", "final_gender_code", "age_level", "pvalue_level", "shopping_level", "occupation",
    "new_user_class_level",
)  # fmt: skip
_DAY = 86_400
_ZONE = 8 * 3600
"""Seconds: days begin at midnight in China."""

Int64Array = npt.NDArray[np.int64]


@raises_invalid_input
@pydantic.dataclasses.dataclass(frozen=True, slots=True, config=NO_OTHER_FIELDS)
class AlimamaConfig:
    """Which behaviour is taken over; all of it would fill the memory several times."""

    actions: Annotated[tuple[Action, ...], Field(min_length=1)] = ("cart", "fav", "buy")
    """Of `ACTIONS`; "pv" are nineteen rows in twenty."""
    days: PositiveInt = 22
    """Whole days back from the last impression; the log begins 22 days before it ends."""


def fetch_alimama(cache: Path, *, source: Path | None, config: AlimamaConfig | None = None, progress: Report) -> Path:
    """The dataset folder "alimama" under `cache`, converted if it is not there yet; `source` holds the four files.

    A folder that is there is used as it is, whatever `config` says. Raises `Unavailable` without a source, for nobody
    may hand the files on, and `InvalidInput` naming the file, the row, the column and the value where one is wrong.
    """
    folder = cache / "alimama"
    if all((folder / name).is_file() for name in (DESCRIPTION, *TABLES)):
        progress(f"{folder.name} is in the cache", 1, 1)
        return folder
    if source is None:
        raise Unavailable("alimama", "its files cannot be fetched; give the folder that holds them with --source")
    missing = [name for name in (SAMPLE, ADS, PROFILES, LOG) if not (source / name).is_file()]
    if missing:
        raise InvalidInput("source", str(source), f"has no {', '.join(missing)}")
    progress(LICENCE, 0, None)
    remove_whole(folder)  # a part of it, if anything
    with suppress(AlreadyThere):  # another process may have been faster
        write_whole(folder, lambda unfinished: convert(source, unfinished, config or AlimamaConfig(), progress))
    return folder


def convert(source: Path, folder: Path, config: AlimamaConfig, progress: Report) -> None:
    """The four files of `source` to a dataset folder."""
    seen = _impressions(source / SAMPLE, folder / "interactions.parquet", progress)
    categories = _behaviours(source / LOG, folder / "behaviours.parquet", seen, config, progress)
    _ads(source / ADS, seen.ads, categories, progress).to_parquet(folder / "items.parquet", index=False)
    _users(source / PROFILES, seen.users, progress).to_parquet(folder / "users.parquet", index=False)
    text = yaml.safe_dump(_description(seen).model_dump(mode="json", exclude_none=True), sort_keys=False)
    (folder / DESCRIPTION).write_text(text, encoding="utf-8")


@dataclass
class _Seen:
    """What the impressions name."""

    users: Int64Array = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    ads: Int64Array = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    first: int = np.iinfo(np.int64).max
    last: int = np.iinfo(np.int64).min
    """Seconds since the epoch."""

    @property
    def last_midnight(self) -> int:
        """When the day of the last impression began."""
        return (self.last + _ZONE) // _DAY * _DAY - _ZONE


def _impressions(source: Path, target: Path, progress: Report) -> _Seen:
    seen = _Seen()
    names = {"user": "user_id", "time_stamp": "timestamp", "adgroup_id": "item_id", "pid": "pid", "clk": "clk"}
    kinds = dict.fromkeys(("user", "time_stamp", "adgroup_id", "nonclk", "clk"), pa.int64()) | {"pid": pa.string()}
    reader = Reader(source, kinds, progress)
    with _Writer(target) as writer:
        for block in reader:
            clicked, not_clicked = (reader.integers(block, name) for name in ("clk", "nonclk"))
            wrong = ((clicked != 0) & (clicked != 1)) | (clicked + not_clicked != 1)
            reader.refuse(block, "clk", wrong, "clk must be 0 or 1, and nonclk the other")
            users, ads, times = (reader.integers(block, name) for name in ("user", "adgroup_id", "time_stamp"))
            seen.users, seen.ads = np.union1d(seen.users, users), np.union1d(seen.ads, ads)
            seen.first, seen.last = min(seen.first, int(times.min())), max(seen.last, int(times.max()))
            writer.write({target_name: block.column(name) for name, target_name in names.items()})
    return seen


def _behaviours(source: Path, target: Path, seen: _Seen, config: AlimamaConfig, progress: Report) -> Int64Array:
    """Writes those of users who have impressions; the categories (C,) that they name, rising."""
    categories = np.zeros(0, dtype=np.int64)
    kinds = dict.fromkeys(("user", "time_stamp", "cate"), pa.int64()) | {"btag": pa.string()}
    reader = Reader(source, kinds, progress)
    users, actions = pa.array(seen.users), pa.array(config.actions, pa.string())
    begin = seen.last_midnight + _DAY - config.days * _DAY
    with _Writer(target) as writer:
        for block in reader:
            known = pc.is_in(block.column("btag"), value_set=pa.array(ACTIONS, pa.string()))
            reader.refuse(block, "btag", ~known.to_numpy(zero_copy_only=False), f"is none of {', '.join(ACTIONS)}")
            times = reader.integers(block, "time_stamp")
            wanted = pc.and_(
                pc.is_in(block.column("user"), value_set=users), pc.is_in(block.column("btag"), value_set=actions)
            )
            wanted = pc.and_(wanted, pa.array((times >= begin) & (times <= seen.last)))
            reader.integers(block, "cate")
            kept = block.filter(wanted)
            coded = kept.column("cate").dictionary_encode()
            categories = np.union1d(categories, coded.dictionary.to_numpy())
            writer.write(
                {
                    "user_id": kept.column("user"),
                    "item_id": pa.DictionaryArray.from_arrays(coded.indices, _category_ids(coded.dictionary)),
                    "action": kept.column("btag").dictionary_encode(),
                    "timestamp": kept.column("time_stamp"),
                }
            )
    if not len(categories):
        raise InvalidInput(source.name, list(config.actions), f"no such behaviour within {config.days} days")
    return categories


def _ads(source: Path, shown: Int64Array, browsed: Int64Array, progress: Report) -> pd.DataFrame:
    """Advertisements that were shown, and categories; one without a row in the file has no attributes."""
    kinds = dict.fromkeys(_AD, pa.string()) | {"adgroup_id": pa.int64(), "cate_id": pa.int64(), "price": pa.float64()}
    frame = Reader(source, kinds, progress).frame("adgroup_id", shown)
    categories = np.union1d(browsed, frame["cate_id"].dropna().to_numpy(dtype=np.int64))
    frame["cate_id"] = frame["cate_id"].astype("Int64").astype("string")
    ids = _category_ids(pa.array(categories)).to_pandas()
    browsable = pd.DataFrame({"adgroup_id": ids, "cate_id": categories.astype(str)})
    frame["adgroup_id"] = frame["adgroup_id"].astype(str)
    return pd.concat([frame, browsable], ignore_index=True).rename(columns={"adgroup_id": "item_id"})


def _users(source: Path, active: Int64Array, progress: Report) -> pd.DataFrame:
    """Users with impressions; one without a profile has no attributes: so it is for one in fourteen."""
    kinds = {"userid": pa.int64()} | dict.fromkeys(_USER, pa.string())
    frame = Reader(source, kinds, progress).frame("userid", active)
    return frame.rename(columns={"userid": "user_id"})


def _category_ids(categories: Any) -> Any:
    return pc.binary_join_element_wise(pa.scalar(CATEGORY), pc.cast(categories, pa.string()), "")


def _description(seen: _Seen) -> DatasetDescription:
    whole = seen.first < seen.last_midnight  # else the default split
    says: dict[str, Any] = {
        "name": "alimama",
        "licence": LICENCE,
        "users": {"id": "user_id", "attributes": dict.fromkeys(_USER, "categorical")},
        "items": {"id": "item_id", "attributes": dict.fromkeys(_AD, "categorical") | {"price": "numeric"}},
        "interactions": {
            "user": "user_id",
            "item": "item_id",
            "time": "timestamp",
            "label": "clk",
            "context": {"pid": "categorical"},
        },
        "behaviours": {"user": "user_id", "item": "item_id", "time": "timestamp", "action": "action"},
        "split": pd.Timestamp(seen.last_midnight, unit="s", tz="UTC").to_pydatetime() if whole else None,
    }
    return DatasetDescription.model_validate(says)


class _Writer:
    """A Parquet file, written block by block; closed on leaving."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: Any = None

    def __enter__(self) -> "_Writer":
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()

    def write(self, columns: dict[str, Any]) -> None:
        """The next rows, an Arrow array a column."""
        table = pa.table(columns)
        if self._file is None:
            self._file = pa.parquet.ParquetWriter(self._path, table.schema)
        self._file.write_table(table)
