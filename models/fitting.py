"""Vocabularies and bins from what happened before an instant."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from models.dataset import Dataset
from models.encoding import (
    FIELD_UNKNOWN,
    FIRST_KNOWN,
    CategoricalEncoder,
    Encoding,
    FieldEncoder,
    IndexArray,
    NumericEncoder,
    Scalar,
    canonical,
)
from models.indices import Flags, as_numbers, factorized, item_indices
from models.schema import Kind

BINS = 16
"""Bins of a numeric field, at most."""


def fit_encoding(dataset: Dataset, before_ms: int) -> Encoding:
    """The encoding that training may know of: items, actions and values of what lies before `before_ms`.

    Attribute values come from the users, and item attributes from the items, with an interaction or a behaviour before
    that instant.
    Vocabularies put the most frequent value first (ties by text).
    An item without any interaction yet is not known: its embedding would be noise, `UNKNOWN`'s is trained.
    """
    says = dataset.description
    frame, acted = dataset.interactions, dataset.behaviour
    seen, done = (table["time_ms"].to_numpy() < before_ms for table in (frame, acted))
    active, met = np.zeros(len(dataset.users), dtype=np.bool_), np.zeros(len(dataset.items), dtype=np.int64)
    for table, rows in [(frame, seen), (acted, done)][: 1 if acted is frame else 2]:
        active[dataset.user_rows(table["user_id"])[rows]] = True
        met += np.bincount(dataset.item_rows(table["item_id"])[rows], minlength=len(met))
    users = dataset.users[active]
    ids = dataset.items["item_id"].tolist()
    catalogue = dataset.items.iloc[sorted(np.flatnonzero(met).tolist(), key=lambda row: (-met[row], ids[row]))]
    item_attributes = _fit_fields(catalogue, says.items.attributes)
    return Encoding(
        attributes=_fit_fields(users, says.users.attributes),
        context=_fit_fields(frame, says.interactions.context, seen),
        item_attributes=item_attributes,
        items=tuple(catalogue["item_id"]),
        actions=_by_frequency(*factorized(acted["action"]), done & (acted["label"].to_numpy() == 1)),
        item_features=_item_features(catalogue, item_attributes),
    )


def item_counts(dataset: Dataset, encoding: Encoding, before_ms: int) -> IndexArray:
    """(item_count,) interactions with label 1 before `before_ms`, by item index; 0 for `PADDING` and `UNKNOWN`."""
    frame = dataset.interactions
    acted = (frame["time_ms"].to_numpy() < before_ms) & (frame["label"].to_numpy() == 1)
    counts = np.bincount(item_indices(dataset, encoding, frame["item_id"])[acted], minlength=encoding.item_count)
    counts[:FIRST_KNOWN] = 0
    return counts.astype(np.int64)


def _fit_fields(frame: pd.DataFrame, fields: Mapping[str, Kind], seen: Flags | None = None) -> dict[str, FieldEncoder]:
    """Of the rows in `seen` (R,); None: all."""
    rows = np.ones(len(frame), dtype=np.bool_) if seen is None else seen
    return {
        name: _fit_numeric(frame[name], rows) if kind is Kind.NUMERIC else _fit_categorical(frame[name], rows)
        for name, kind in fields.items()
    }


def _fit_categorical(values: "pd.Series[Any]", seen: Flags) -> CategoricalEncoder:
    if not isinstance(values.dtype, pd.CategoricalDtype):
        values = values.map(canonical)  # 1 and True are one value to pandas
    return CategoricalEncoder(_by_frequency(*factorized(values), seen))


def _fit_numeric(values: "pd.Series[Any]", seen: Flags) -> NumericEncoder:
    """Bins of about equal numbers of rows; fewer where many rows share a value."""
    numbers = as_numbers(values)
    known = numbers[seen & ~np.isnan(numbers)]
    if not len(known):
        return NumericEncoder(())
    edges = np.unique(np.quantile(known, np.arange(1, BINS) / BINS))
    return NumericEncoder(tuple(float(edge) for edge in edges[edges > known.min()]))


def _by_frequency(codes: npt.NDArray[np.int32], values: Sequence[Scalar], seen: Flags) -> tuple[str, ...]:
    """The canonical texts of the `values` that the rows in `seen` have; `codes` (R,) are places in them."""
    counts: Counter[str] = Counter()
    for value, count in zip(values, np.bincount(codes[seen & (codes >= 0)], minlength=len(values)), strict=True):
        text = canonical(value)
        if count and text is not None:
            counts[text] += int(count)
    return tuple(sorted(counts, key=lambda text: (-counts[text], text)))


def _item_features(catalogue: pd.DataFrame, fields: Mapping[str, FieldEncoder]) -> IndexArray:
    features = np.full((len(catalogue) + FIRST_KNOWN, len(fields)), FIELD_UNKNOWN, dtype=np.int64)
    for column, (name, field) in enumerate(fields.items()):
        features[FIRST_KNOWN:, column] = field.encode(catalogue[name].tolist())
    return features
