"""Columns of data frames to the indices of an encoding, in as many look-ups as there are distinct values."""

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd

from foretaste.kernel.values import Scalar, number
from models.data.dataset import Dataset
from models.runtime.encoding import UNKNOWN, Encoding, FieldEncoder

Flags: TypeAlias = npt.NDArray[np.bool_]
Indices: TypeAlias = npt.NDArray[np.int32]
"""As the data keep them; a batch has int64, which torch wants."""
_AT_ONCE = 1 << 20


def factorized(values: "pd.Series[Any]") -> tuple[Indices, list[Scalar]]:
    """A column (R,) as codes and its distinct values; -1: missing."""
    if isinstance(values.dtype, pd.CategoricalDtype):
        return values.cat.codes.to_numpy().astype(np.int32), list(values.cat.categories)
    codes, distinct = pd.factorize(values)
    return codes.astype(np.int32), list(distinct)


def item_indices(dataset: Dataset, encoding: Encoding, item_ids: "pd.Series[str]") -> Indices:
    """(R,) indices of items of `Dataset.items`."""
    by_row = np.append(encoding.encode_items(dataset.items["item_id"].tolist()), UNKNOWN).astype(np.int32)
    return by_row[dataset.item_rows(item_ids)]


def action_indices(encoding: Encoding, actions: "pd.Series[str]") -> Indices:
    """(R,) indices of actions."""
    codes, names = factorized(actions)
    by_code = np.append(encoding.encode_actions([str(name) for name in names]), UNKNOWN).astype(np.int32)
    return by_code[codes]


def field_indices(field: FieldEncoder, values: "pd.Series[Any]") -> Indices:
    """(R, C) indices of a field's values."""
    if isinstance(values.dtype, pd.CategoricalDtype):
        by_code = field.encode([*values.cat.categories, None]).astype(np.int32)
        return by_code[values.cat.codes.to_numpy()]
    found = np.empty((len(values), len(field.sizes)), dtype=np.int32)
    for start in range(0, len(values), _AT_ONCE):
        found[start : start + _AT_ONCE] = field.encode(values.iloc[start : start + _AT_ONCE].tolist())
    return found


def as_numbers(values: "pd.Series[Any]") -> npt.NDArray[np.float64]:
    """(R,) finite numbers, nan for anything else."""
    if values.dtype == np.float64:
        found = values.to_numpy(dtype=np.float64)
        return np.where(np.isfinite(found), found, np.nan)
    return values.map(number).to_numpy(dtype=np.float64)
