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
from models.schema import DatasetDescription, Kind
from models.tables import Table

DESCRIPTION = "dataset.yaml"
ACTED = "acted"
"""The action where the data name none, as in `UserBehaved`."""


@dataclass(frozen=True, eq=False)
class Dataset:
    """Data of one recommender, whichever folder they came from.

    `users`: `user_id` (unique) and one column of raw values an attribute. `items`: likewise, by `item_id`.
    `interactions`: `user_id`, `item_id`, `action`, `time_ms` (int64, since the epoch), `label` (int8; 1 where the data
    have no labels) and one column a context field, sorted by time, rows of one time in the order of the file.
    Every `user_id` and `item_id` there is in `users` and `items`.
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
        index: pd.Index[str] = pd.Index(self.users["user_id"])
        return index

    def user_rows(self, user_ids: "Sequence[str] | pd.Series[str]") -> npt.NDArray[np.int64]:
        """(B,) positions in `users`, the numbers by which `Histories` and `NegativeSampler` know users; -1: unknown."""
        return np.asarray(self._user_index.get_indexer(pd.Index(user_ids)), dtype=np.int64)


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
    return pd.DataFrame({id_name: texts.to_pandas(), **_raw(table, fields)})


def _interactions(
    files: dict[str, Path], description: DatasetDescription, users: pd.DataFrame, items: pd.DataFrame
) -> pd.DataFrame:
    says = description.interactions
    extra = [column for column in (says.action, says.label) if column is not None]
    texts = [says.user, says.item, *_categorical(says.context), *([says.action] if says.action else [])]
    table = tables.read_table(files["interactions"], [says.user, says.item, says.time, *extra, *says.context], texts)
    user_ids = tables.known_ids(table, says.user, users["user_id"], files["users"].name)
    item_ids = tables.known_ids(table, says.item, items["item_id"], files["items"].name)
    frame = pd.DataFrame(
        {
            "user_id": user_ids.to_pandas(),
            "item_id": item_ids.to_pandas(),
            "action": tables.actions(table, says.action, ACTED) if says.action else ACTED,
            "time_ms": tables.times_ms(table, says.time, says.time_unit),
            "label": tables.labels(table, says.label) if says.label else np.ones(table.rows, dtype=np.int8),
            **_raw(table, says.context),
        }
    )
    return frame.sort_values("time_ms", kind="stable", ignore_index=True)


def _raw(table: Table, fields: dict[str, Kind]) -> "dict[str, pd.Series[Any]]":
    return {name: pd.Series(tables.scalars(table, name), dtype=object) for name in fields}


def _categorical(fields: dict[str, Kind]) -> list[str]:
    return [name for name, kind in fields.items() if kind is Kind.CATEGORICAL]


def _fingerprint(paths: Sequence[Path]) -> str:
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            digest.update(f"{path.name} {hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
    return digest.hexdigest()
