"""`python -m benchmarks liked`: MovieLens asked who liked a film, a question on which nothing here was tuned.

Elsewhere the question is what a user watches, against films sampled by popularity. Here every rating is an impression,
and its label says whether the user liked the film: four stars of five or more. Behaviour is all that was rated before,
with the rating as its action. Users, attributes and the instant of the split stay what they are.
"""

import shutil
from pathlib import Path
from typing import Annotated

import pandas as pd
import typer
import yaml

from foretaste.console import console, progress
from foretaste.kernel.errors import InvalidInput
from foretaste.settings import Settings
from models.data.description_file import DESCRIPTION, read_description
from models.data.sources.public import fetch

LIKED = 4
"""Stars from which a film was liked."""
PREFIX = "rated-"


def write_liked(movielens: Path, folder: Path) -> Path:
    """Make the folder from that of MovieLens (`foretaste data fetch`). Raises `InvalidInput` where it exists."""
    if folder.exists():
        raise InvalidInput("folder", str(folder), "exists already")
    description = read_description(movielens).model_dump(mode="json", exclude_none=True)
    columns = description["interactions"]
    description["name"] += "-liked"
    description["behaviours"] = {name: columns[name] for name in ("user", "item", "time", "time_unit", "action")}
    description["interactions"] = {key: value for key, value in columns.items() if key != "action"} | {"label": "liked"}
    rated = pd.read_parquet(movielens / "interactions.parquet")
    stars = rated[columns["action"]].str.removeprefix(PREFIX).astype(int)
    folder.mkdir(parents=True)
    for table in ("users", "items"):
        shutil.copyfile(movielens / f"{table}.parquet", folder / f"{table}.parquet")
    rated.assign(liked=(stars >= LIKED).astype("int8")).to_parquet(folder / "interactions.parquet", index=False)
    rated.to_parquet(folder / "behaviours.parquet", index=False)
    (folder / DESCRIPTION).write_text(yaml.safe_dump(description, sort_keys=False), encoding="utf-8")
    return folder


def liked(
    folder: Annotated[Path, typer.Argument(help="Where the data set is to be.")],
    data: Annotated[str, typer.Option("--data", help="ml-1m or ml-100k.")] = "ml-1m",
) -> None:
    """Make a data set of who liked which film, for `foretaste evaluate --data FOLDER`."""
    with progress() as report:
        made = write_liked(fetch(data, Settings().home / "data", report=report), folder)
    console.print(f"{data}, asked who liked what, is in {made}")
