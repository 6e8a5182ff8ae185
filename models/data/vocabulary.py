"""Vocabularies and bins from what happened before an instant."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from foretaste.kernel.errors import InvalidInput
from foretaste.kernel.values import Attributes, Scalar, Value, canonical
from models.data.dataset import Dataset
from models.data.indices import Flags, as_numbers, factorized, item_indices
from models.data.schema import FieldKind
from models.runtime.account_age import BOUNDS_MS
from models.runtime.encoding import (
    FIELD_UNKNOWN,
    FIRST_KNOWN,
    Encoding,
    FieldEncoder,
    IndexArray,
    columns_of,
    sizes_of,
)
from models.runtime.fields import KINDS, CategoricalEncoder

_NONE: Mapping[str, FieldEncoder] = {}


def fit_encoding(dataset: Dataset, before_ms: int, known: Encoding | None = None) -> Encoding:
    """The encoding that training may know of: items, actions and values of what lies before `before_ms`.

    Attribute values come from the users, and item attributes from the items, with an interaction or a behaviour before
    that instant.
    Vocabularies put the most frequent value first (ties by text).
    An item without any interaction yet is not known: its embedding would be noise, `UNKNOWN`'s is trained.
    Fields that are `known` and do not grow are taken as they are.
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
    item_attributes = _fit_fields(catalogue, says.items.attributes, known.item_attributes if known else _NONE)
    return Encoding(
        attributes=_fit_fields(users, says.users.attributes, known.attributes if known else _NONE),
        context=_fit_fields(frame, says.interactions.context, known.context if known else _NONE, seen),
        item_attributes=item_attributes,
        items=tuple(catalogue["item_id"]),
        actions=CategoricalEncoder.fit(SeenValues(acted["action"], done & (acted["label"].to_numpy() == 1))).values,
        item_features=_item_features(catalogue, item_attributes),
        age_bounds=BOUNDS_MS,
    )


def item_counts(dataset: Dataset, encoding: Encoding, before_ms: int) -> IndexArray:
    """(item_count,) interactions with label 1 before `before_ms`, by item index; 0 for `PADDING` and `UNKNOWN`."""
    frame = dataset.interactions
    acted = (frame["time_ms"].to_numpy() < before_ms) & (frame["label"].to_numpy() == 1)
    counts = np.bincount(item_indices(dataset, encoding, frame["item_id"])[acted], minlength=encoding.item_count)
    counts[:FIRST_KNOWN] = 0
    return counts.astype(np.int64)


def _fit_fields(
    frame: pd.DataFrame,
    fields: Mapping[str, FieldKind],
    known: Mapping[str, FieldEncoder],
    seen: Flags | None = None,
) -> dict[str, FieldEncoder]:
    """Fit each field to its rows in `seen` (R,), None: to all; but take one that is `known` and does not grow."""
    rows = np.ones(len(frame), dtype=np.bool_) if seen is None else seen
    found: dict[str, FieldEncoder] = {}
    for name, kind in fields.items():
        earlier = known.get(name)
        is_fixed = earlier is not None and earlier.kind == kind and not earlier.grows
        found[name] = earlier if earlier is not None and is_fixed else KINDS[kind].fit(SeenValues(frame[name], rows))
    return found


@dataclass(frozen=True, eq=False)
class SeenValues:
    """A column (R,) of which the rows in `seen` (R,) are known: what `FieldEncoder.fit` reads."""

    column: "pd.Series[Any]"
    seen: Flags

    def counts(self) -> dict[str, int]:
        column = self.column
        if not isinstance(column.dtype, pd.CategoricalDtype):
            column = column.map(canonical)  # 1 and True are one value to pandas
        return _counted(*factorized(column), self.seen)

    def numbers(self) -> npt.NDArray[np.float64]:
        numbers = as_numbers(self.column)
        return numbers[self.seen & ~np.isnan(numbers)]

    def raw(self) -> Sequence[Value]:
        found: list[Value] = self.column[self.seen].tolist()
        return found


def _counted(codes: npt.NDArray[np.int32], values: Sequence[Scalar], seen: Flags) -> dict[str, int]:
    """How many of the rows in `seen` have each canonical text of the `values`; `codes` (R,) are places in them."""
    counts: Counter[str] = Counter()
    for value, count in zip(values, np.bincount(codes[seen & (codes >= 0)], minlength=len(values)), strict=True):
        text = canonical(value)
        if count and text is not None:
            counts[text] += int(count)
    return counts


def _item_features(catalogue: pd.DataFrame, fields: Mapping[str, FieldEncoder]) -> IndexArray:
    features = np.full((len(catalogue) + FIRST_KNOWN, len(sizes_of(fields))), FIELD_UNKNOWN, dtype=np.int64)
    for name, field, columns in columns_of(fields):
        features[FIRST_KNOWN:, columns] = field.encode(catalogue[name].tolist())
    return features


_Values = Mapping[str, Sequence[str]]
_NOTHING: Mapping[str, Any] = {}
_LATEST_MS = 1 << 62


def grown(encoding: Encoding, dataset: Dataset, before_ms: int | None = None) -> Encoding:
    """The encoding with what a dataset knows beyond it from before an instant (None: at any), the most frequent first.

    What `fit_encoding` would take in is appended. Attributes of known items become what the dataset says of them, where
    it says anything. Raises `InvalidInput` for a dataset that lacks a field of the encoding, or has it of another kind.
    """
    fresh = fit_encoding(dataset, _LATEST_MS if before_ms is None else before_ms, encoding)
    ids = dataset.items["item_id"].tolist()
    return extended(
        encoding,
        items=fresh.items,
        actions=fresh.actions,
        attributes=_values("attributes", encoding.attributes, fresh.attributes),
        context=_values("context", encoding.context, fresh.context),
        item_attributes=_values("item_attributes", encoding.item_attributes, fresh.item_attributes),
        features={name: dict(zip(ids, dataset.items[name].tolist(), strict=True)) for name in encoding.item_attributes},
    )


def extended(
    encoding: Encoding,
    *,
    items: Sequence[str] = (),
    actions: Sequence[str] = (),
    attributes: _Values = _NOTHING,
    context: _Values = _NOTHING,
    item_attributes: _Values = _NOTHING,
    features: Mapping[str, Attributes] = _NOTHING,
) -> Encoding:
    """The encoding with those of the given items, actions and canonical values appended that it does not know yet.

    `features`: raw values by item attribute and item; a missing one leaves what is known, which of a new item is
    nothing. Raises `InvalidInput` for a field that the encoding does not have, and for values of a numeric one.
    """
    of_items = _extended("item_attributes", encoding.item_attributes, item_attributes)
    all_items = _appended(encoding.items, items)
    more = ((0, len(all_items) - len(encoding.items)), (0, 0))
    known = np.pad(encoding.item_features, more, constant_values=FIELD_UNKNOWN)
    return Encoding(
        attributes=_extended("attributes", encoding.attributes, attributes),
        context=_extended("context", encoding.context, context),
        item_attributes=of_items,
        items=all_items,
        actions=_appended(encoding.actions, actions),
        item_features=_refreshed(known, of_items, all_items, features),
        age_bounds=encoding.age_bounds,
    )


def _appended(known: Sequence[str], values: Iterable[str]) -> tuple[str, ...]:
    """A dict keeps its first order, and each key once."""
    return tuple(dict.fromkeys([*known, *values]))


def _extended(where: str, fields: Mapping[str, FieldEncoder], values: _Values) -> dict[str, FieldEncoder]:
    strange = values.keys() - fields.keys()
    if strange:
        raise InvalidInput(where, sorted(strange), f"a warm start cannot gain fields; there are {', '.join(fields)}")
    found = dict(fields)
    for name, new in values.items():
        try:
            found[name] = fields[name].grown(new)
        except ValueError as error:
            raise InvalidInput(f"{where}.{name}", list(new), str(error)) from error
    return found


def _values(where: str, known: Mapping[str, FieldEncoder], fresh: Mapping[str, FieldEncoder]) -> dict[str, list[str]]:
    """The vocabulary that `fresh` has of each field."""
    found = {}
    for name, field in known.items():
        kind = fresh[name].kind if name in fresh else "missing"
        if kind != field.kind:
            raise InvalidInput(f"{where}.{name}", kind, f"a warm start needs the field, and it must be {field.kind}")
        found[name] = list(fresh[name].vocabulary)
    return found


def _refreshed(
    known: IndexArray,
    fields: Mapping[str, FieldEncoder],
    items: Sequence[str],
    features: Mapping[str, Attributes],
) -> IndexArray:
    """(items + 2, item attributes); what is missing, or is no value of the field, leaves what is `known`."""
    refreshed = known.copy()
    for name, field, columns in columns_of(fields):
        raw = features.get(name, _NOTHING)
        values = field.encode([raw.get(item) for item in items])
        refreshed[FIRST_KNOWN:, columns] = np.where(values != FIELD_UNKNOWN, values, refreshed[FIRST_KNOWN:, columns])
    return refreshed
