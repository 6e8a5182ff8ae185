"""Vocabularies and bins from what happened before an instant."""

from collections.abc import Mapping

import numpy as np
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
    canonical,
    number,
)
from models.schema import Kind

BINS = 16
"""Bins of a numeric field, at most."""


def fit_encoding(dataset: Dataset, before_ms: int) -> Encoding:
    """The encoding that training may know of: items, actions and values of what lies before `before_ms`.

    Attribute values come from the users, and item attributes from the items, with an interaction before that instant.
    Vocabularies put the most frequent value first (ties by text).
    An item without any interaction yet is not known: its embedding would be noise, `UNKNOWN`'s is trained.
    """
    says = dataset.description
    seen = dataset.interactions[dataset.interactions["time_ms"] < before_ms]
    users = dataset.users[dataset.users["user_id"].isin(seen["user_id"].unique())]
    items = _by_frequency(seen["item_id"])
    catalogue = dataset.items.set_index("item_id").loc[list(items)]
    item_attributes = _fit_fields(catalogue, says.items.attributes)
    return Encoding(
        attributes=_fit_fields(users, says.users.attributes),
        context=_fit_fields(seen, says.interactions.context),
        item_attributes=item_attributes,
        items=items,
        actions=_by_frequency(seen.loc[seen["label"] == 1, "action"]),
        item_features=_item_features(catalogue, item_attributes),
    )


def item_counts(dataset: Dataset, encoding: Encoding, before_ms: int) -> IndexArray:
    """(item_count,) interactions with label 1 before `before_ms`, by item index; 0 for `PADDING` and `UNKNOWN`."""
    frame = dataset.interactions
    acted = frame.loc[(frame["time_ms"] < before_ms) & (frame["label"] == 1), "item_id"].value_counts()
    counts = np.zeros(encoding.item_count, dtype=np.int64)
    counts[FIRST_KNOWN:] = acted.reindex(list(encoding.items), fill_value=0).to_numpy()
    return counts


def _fit_fields(frame: pd.DataFrame, fields: Mapping[str, Kind]) -> dict[str, FieldEncoder]:
    return {
        name: _fit_numeric(frame[name]) if kind is Kind.NUMERIC else _fit_categorical(frame[name])
        for name, kind in fields.items()
    }


def _fit_categorical(values: "pd.Series[str]") -> CategoricalEncoder:
    return CategoricalEncoder(_by_frequency(values.map(canonical).dropna()))


def _fit_numeric(values: "pd.Series[float]") -> NumericEncoder:
    """Bins of about equal numbers of rows; fewer where many rows share a value."""
    numbers = values.map(number).to_numpy(dtype=np.float64)
    known = numbers[~np.isnan(numbers)]
    if not len(known):
        return NumericEncoder(())
    edges = np.unique(np.quantile(known, np.arange(1, BINS) / BINS))
    return NumericEncoder(tuple(float(edge) for edge in edges[edges > known.min()]))


def _by_frequency(values: "pd.Series[str]") -> tuple[str, ...]:
    counts = values.value_counts()
    return tuple(sorted(counts.index, key=lambda value: (-counts[value], value)))


def _item_features(catalogue: pd.DataFrame, fields: Mapping[str, FieldEncoder]) -> IndexArray:
    features = np.full((len(catalogue) + FIRST_KNOWN, len(fields)), FIELD_UNKNOWN, dtype=np.int64)
    for column, (name, field) in enumerate(fields.items()):
        features[FIRST_KNOWN:, column] = field.encode(catalogue[name].tolist())
    return features
