"""A dataset folder (users, items, interactions, perhaps behaviours, and `dataset.yaml`) as checked data frames."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from foretaste.kernel.errors import InvalidInput
from foretaste.kernel.values import MISSING_ACTION, NO_ACTS
from models.data import tables
from models.data.columns import Actions, Column, Ids, Labels, Numbers, Times, field_column
from models.data.description_file import DESCRIPTION, read_description
from models.data.schema import (
    COLUMNS,
    BehavioursSection,
    DatasetDescription,
    FieldKind,
    InteractionsSection,
    UsersSection,
)
from models.data.table_files import Table, read_blocks, read_table
from models.data.table_parts import TableFile, table_file
from models.runtime.account_age import NEVER_REGISTERED
from models.runtime.fields import KINDS, VectorEncoder


@dataclass(frozen=True, eq=False)
class Dataset:
    """Data of one recommender, whichever folder they came from.

    `users`: `user_id` (unique) and one column of raw values an attribute. `items`: likewise, by `item_id`.
    `interactions`: `user_id`, `item_id`, `action`, `time_ms` (int64, since the epoch), `label` (int8; 1 where the data
    have no labels) and one column a context field, sorted by time, rows of one time in the order of the file.
    Every `user_id` and `item_id` there is in `users` and `items`. As read, ids, actions and categorical context are
    pandas categories (an integer a row, so that many millions of rows fit in memory); numeric context is float64.
    `behaviours`, where the data have them apart from the interactions: `user_id`, `item_id`, `action`, `time_ms` and
    `label` (1 throughout), likewise.
    `fingerprint` is a sha256 over all files of the folder that were read. `not_numbers` names the numeric columns that
    hold something else too, which training takes for unknown.
    """

    description: DatasetDescription
    users: pd.DataFrame
    items: pd.DataFrame
    interactions: pd.DataFrame
    fingerprint: str
    behaviours: pd.DataFrame | None = None
    not_numbers: tuple[tables.NotNumbers, ...] = ()
    registered_ms: npt.NDArray[np.int64] | None = None
    """(users,) the column of first registrations, epoch milliseconds, `NEVER_REGISTERED` where it is empty; None where
    the data have no such column."""

    @property
    def behaviour(self) -> pd.DataFrame:
        """The table whose rows of label 1 are the users' behaviour."""
        return self.interactions if self.behaviours is None else self.behaviours

    @property
    def has_labels(self) -> bool:
        """The data hold negatives of their own, so that none need be sampled."""
        return self.description.interactions.label is not None

    @cached_property
    def first_events_ms(self) -> npt.NDArray[np.int64]:
        """(users,) the first interaction or behaviour of each, epoch milliseconds; `NEVER_REGISTERED` for none."""
        latest = np.iinfo(np.int64).max
        firsts = np.full(len(self.users), latest)
        for frame in (self.interactions, self.behaviours):
            if frame is not None:  # sorted by time: the first row of a user is the first event
                users, rows = np.unique(self.user_rows(frame["user_id"]), return_index=True)
                firsts[users] = np.minimum(firsts[users], frame["time_ms"].to_numpy(dtype=np.int64)[rows])
        return np.where(firsts == latest, NEVER_REGISTERED, firsts)

    @property
    def registrations_ms(self) -> npt.NDArray[np.int64]:
        """(users,) when each registered first, epoch milliseconds; `NEVER_REGISTERED` where nothing tells it.

        Of data without a column of registrations the first event stands for it. Nothing is told by that which could not
        be known at a moment: whoever meets an item has registered.
        """
        return self.first_events_ms if self.registered_ms is None else self.registered_ms

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
    says = description.interactions
    stems = ("users", "items", "interactions", *(("behaviours",) if description.behaviours else ()))
    files = {stem: table_file(folder, stem) for stem in stems}
    users, strange = read_entities(files["users"], description.users.id, description.users.attributes, "user_id")
    items, strange_items = read_entities(files["items"], description.items.id, description.items.attributes, "item_id")
    registered_ms = read_registrations(files["users"], description.users)
    known = _Known(users, items, files)
    own: dict[str, Column] = {name: field_column(name, kind) for name, kind in says.context.items()}
    if says.label is not None:
        own["label"] = Labels(says.label)
    interactions = _acts_alone(_by_time(files["interactions"], known.columns(says) | own))
    strange_context = [column.not_numbers for column in own.values() if isinstance(column, Numbers)]
    behaviours = None
    if description.behaviours is not None:
        behaviours = _acts_alone(_by_time(files["behaviours"], known.columns(description.behaviours)))
    not_numbers = [each for each in (*strange, *strange_items, *strange_context) if each is not None and each.count]
    fingerprint = _fingerprint(folder, files.values())
    return Dataset(description, users, items, interactions, fingerprint, behaviours, tuple(not_numbers), registered_ms)


def _acts_alone(acts: pd.DataFrame) -> pd.DataFrame:
    """Without answers to questions and what was passed over: data may be made of behaviours as they were stored."""
    is_no_act = acts["action"].isin(NO_ACTS)
    return acts[~is_no_act].reset_index(drop=True) if is_no_act.any() else acts


def read_entities(
    file: TableFile, id_column: str, fields: Mapping[str, FieldKind], id_name: str
) -> tuple[pd.DataFrame, list[tables.NotNumbers]]:
    """Users or items: `id_name` and a column of raw values a field; and what their numeric columns hold beside numbers.

    Raises `InvalidInput` as `read_dataset` does.
    """
    table = read_table(file, [id_column, *fields], [id_column, *text_fields(fields)])
    texts = tables.unique_ids(table, id_column)
    strange = [tables.not_numbers(table, name) for name, kind in fields.items() if not KINDS[kind].is_text]
    for each in strange:
        each.check()
    values = {name: (_lists if KINDS[kind].is_several else _raw)(table, name) for name, kind in fields.items()}
    for name in [name for name, kind in fields.items() if kind == VectorEncoder.kind]:
        tables.check_vectors(table, name, values[name].tolist())
    return pd.DataFrame({id_name: texts.to_pandas(), **values}), strange


def read_registrations(file: TableFile, says: UsersSection) -> npt.NDArray[np.int64] | None:
    """(users,) the column of first registrations, -1 for a missing one; None where none is named.

    Raises `InvalidInput` as `tables.times_ms` does.
    """
    if says.registered is None:
        return None
    table = read_table(file, [says.registered], [])
    return tables.times_ms(table, says.registered, says.registered_unit, NEVER_REGISTERED)


def _raw(table: Table, column: str) -> "pd.Series[Any]":
    """Raw values, an object for each distinct one."""
    codes, values = tables.scalars(table, column)
    objects = np.empty(len(values), dtype=object)
    objects[:] = values
    return pd.Series(objects[codes], dtype=object)


def _lists(table: Table, column: str) -> "pd.Series[Any]":
    """Raw values of which each is a tuple, or None."""
    found = np.empty(table.rows, dtype=object)
    found[:] = tables.lists(table, column)
    return pd.Series(found, dtype=object)


@dataclass(frozen=True, eq=False)
class _Known:
    """The users and items that the rows of a table may name."""

    users: pd.DataFrame
    items: pd.DataFrame
    files: Mapping[str, TableFile]

    def columns(self, says: InteractionsSection | BehavioursSection) -> dict[str, Column]:
        """The columns that interactions and behaviours share."""
        columns: dict[str, Column] = {
            "user_id": Ids(says.user, _index(self.users["user_id"]), self.files["users"].name),
            "item_id": Ids(says.item, _index(self.items["item_id"]), self.files["items"].name),
            "time_ms": Times(says.time, says.time_unit),
        }
        return columns | ({"action": Actions(says.action)} if says.action else {})


def _by_time(file: TableFile, columns: Mapping[str, Column]) -> pd.DataFrame:
    """A table sorted by time, read block by block to numbers, so that its texts are never in memory as a whole."""
    texts = [column.source for column in columns.values() if column.is_text]
    for block in read_blocks(file, [column.source for column in columns.values()], texts):
        for column in columns.values():
            column.add(block)
    found = {name: column.whole() for name, column in columns.items()}
    rows = len(found["time_ms"])
    action = pd.Categorical.from_codes(np.zeros(rows, dtype=np.int8), pd.Index([MISSING_ACTION]))
    found = {"action": action, "label": np.ones(rows, dtype=np.int8)} | found
    frame = pd.DataFrame({name: found[name] for name in dict.fromkeys([*COLUMNS, *columns])}, copy=False)
    if frame["time_ms"].is_monotonic_increasing:
        return frame
    return frame.sort_values("time_ms", kind="stable", ignore_index=True)


def text_fields(fields: Mapping[str, FieldKind]) -> list[str]:
    """The names of the fields whose values a CSV file keeps as written."""
    return [name for name, kind in fields.items() if KINDS[kind].is_text]


def _fingerprint(folder: Path, files: Iterable[TableFile]) -> str:
    digest = hashlib.sha256()
    parts = [part for file in files for part in file.parts]
    for name, path in [(DESCRIPTION, folder / DESCRIPTION), *((part.name, part.path) for part in parts)]:
        with path.open("rb") as opened:
            digest.update(f"{name} {hashlib.file_digest(opened, 'sha256').hexdigest()}\n".encode())
    return digest.hexdigest()
