"""A dataset folder (users, items, interactions and `dataset.yaml`) as three checked data frames."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import yaml
from pydantic import ValidationError

from foretaste.errors import InvalidInput
from models import tables
from models.columns import Actions, Column, Ids, Labels, Names, Numbers, Times
from models.schema import DatasetDescription, Kind

DESCRIPTION = "dataset.yaml"


@dataclass(frozen=True, eq=False)
class Dataset:
    """Data of one recommender, whichever folder they came from.

    `users`: `user_id` (unique) and one column of raw values an attribute. `items`: likewise, by `item_id`.
    `interactions`: `user_id`, `item_id`, `action`, `time_ms` (int64, since the epoch), `label` (int8; 1 where the data
    have no labels) and one column a context field, sorted by time, rows of one time in the order of the file.
    Every `user_id` and `item_id` there is in `users` and `items`. As read, ids, actions and categorical context are
    pandas categories (an integer a row, so that many millions of rows fit in memory); numeric context is float64.
    `fingerprint` is a sha256 over all files of the folder that were read.
    """

    description: DatasetDescription
    users: pd.DataFrame
    items: pd.DataFrame
    interactions: pd.DataFrame
    fingerprint: str

    @property
    def has_labels(self) -> bool:
        """The data hold negatives of their own, so that none need be sampled."""
        return self.description.interactions.label is not None

    @cached_property
    def _user_index(self) -> "pd.Index[str]":
        return _index(self.users["user_id"])

    @cached_property
    def _item_index(self) -> "pd.Index[str]":
        return _index(self.items["item_id"])

    def user_rows(self, user_ids: "Sequence[str] | pd.Series[str]") -> npt.NDArray[np.int64]:
        """(B,) positions in `users`, the numbers by which `Histories` and `NegativeSampler` know users; -1: unknown."""
        return _places(user_ids, self._user_index)

    def item_rows(self, item_ids: "Sequence[str] | pd.Series[str]") -> npt.NDArray[np.int64]:
        """(B,) positions in `items`; -1: unknown."""
        return _places(item_ids, self._item_index)


def _index(ids: "pd.Series[str]") -> "pd.Index[str]":
    index: pd.Index[str] = pd.Index(ids, dtype=object)
    return index


def _places(ids: "Sequence[str] | pd.Series[str]", index: "pd.Index[str]") -> npt.NDArray[np.int64]:
    if isinstance(ids, pd.Series) and isinstance(ids.dtype, pd.CategoricalDtype):
        places = np.append(index.get_indexer(ids.cat.categories), -1)  # the code -1 stands for a missing id
        return np.asarray(places[ids.cat.codes.to_numpy()], dtype=np.int64)
    return np.asarray(index.get_indexer(pd.Index(ids, dtype=object)), dtype=np.int64)


def read_dataset(folder: Path) -> Dataset:
    """Read and check a dataset folder.

    Raises `InvalidInput`, naming the file, the column and the value, for anything missing, damaged or contradictory.
    """
    if not folder.is_dir():
        raise InvalidInput("dataset", str(folder), "is not a folder")
    description = read_description(folder)
    files = {stem: tables.data_file(folder, stem) for stem in ("users", "items", "interactions")}
    users = _entities(files["users"], description.users.id, description.users.attributes, "user_id")
    items = _entities(files["items"], description.items.id, description.items.attributes, "item_id")
    interactions = _interactions(files, description, users, items)
    return Dataset(description, users, items, interactions, _fingerprint([folder / DESCRIPTION, *files.values()]))


def read_description(folder: Path) -> DatasetDescription:
    """`dataset.yaml` of a folder, checked. Raises `InvalidInput` naming the key."""
    path = folder / DESCRIPTION
    if not path.is_file():
        raise InvalidInput("dataset", str(folder), f"has no {DESCRIPTION}")
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InvalidInput(DESCRIPTION, str(error), "is not YAML") from error
    try:
        return DatasetDescription.model_validate(raw)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(str(part) for part in first["loc"])
        raise InvalidInput(f"{DESCRIPTION}: {key}" if key else DESCRIPTION, first["input"], first["msg"]) from error


def _entities(path: Path, id_column: str, fields: dict[str, Kind], id_name: str) -> pd.DataFrame:
    table = tables.read_table(path, [id_column, *fields], [id_column, *_categorical(fields)])
    texts = tables.unique_ids(table, id_column)
    return pd.DataFrame({id_name: texts.to_pandas(), **{name: _raw(table, name) for name in fields}})


def _raw(table: tables.Table, column: str) -> "pd.Series[Any]":
    """Raw values, an object for each distinct one."""
    codes, values = tables.scalars(table, column)
    objects = np.empty(len(values), dtype=object)
    objects[:] = values
    return pd.Series(objects[codes], dtype=object)


def _interactions(
    files: dict[str, Path], description: DatasetDescription, users: pd.DataFrame, items: pd.DataFrame
) -> pd.DataFrame:
    """Block by block to integers, so that the file's texts are never in memory as a whole."""
    says = description.interactions
    extra = [column for column in (says.action, says.label) if column is not None]
    texts = [says.user, says.item, *_categorical(says.context), *([says.action] if says.action else [])]
    columns: dict[str, Column] = {
        "user_id": Ids(says.user, _index(users["user_id"]), files["users"].name),
        "item_id": Ids(says.item, _index(items["item_id"]), files["items"].name),
        "action": Actions(says.action),
        "time_ms": Times(says.time, says.time_unit),
        "label": Labels(says.label),
        **{name: Numbers(name) if kind is Kind.NUMERIC else Names(name) for name, kind in says.context.items()},
    }
    for block in tables.read_blocks(
        files["interactions"], [says.user, says.item, says.time, *extra, *says.context], texts
    ):
        for column in columns.values():
            column.add(block)
    frame = pd.DataFrame({name: column.whole() for name, column in columns.items()}, copy=False)
    if frame["time_ms"].is_monotonic_increasing:
        return frame
    return frame.sort_values("time_ms", kind="stable", ignore_index=True)


def _categorical(fields: dict[str, Kind]) -> list[str]:
    return [name for name, kind in fields.items() if kind is Kind.CATEGORICAL]


def _fingerprint(paths: Sequence[Path]) -> str:
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            digest.update(f"{path.name} {hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
    return digest.hexdigest()
