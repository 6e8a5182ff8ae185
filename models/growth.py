"""A warm start: vocabularies that take in what is new, and towers of the grown sizes that begin where others ended.

Indices never move and bins stay, so what was learned of a value is found where it was. What is new begins as what was
unknown, for that is what the towers have read in its place until now.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from foretaste.errors import InvalidInput
from models.dataset import Dataset
from models.encoding import (
    FIELD_UNKNOWN,
    FIRST_KNOWN,
    UNKNOWN,
    CategoricalEncoder,
    Encoding,
    FieldEncoder,
    IndexArray,
    Scalar,
)
from models.fitting import fit_encoding
from models.saved_counts import SavedCounts
from models.towers.architecture import Towers
from models.towers.embeddings import Sizes

if TYPE_CHECKING:
    from models.cotrain import Trained

_Values = Mapping[str, Sequence[str]]
_NOTHING: Mapping[str, Any] = {}
_LATEST_MS = 1 << 62


def grown(encoding: Encoding, dataset: Dataset, before_ms: int | None = None) -> Encoding:
    """The encoding with what a dataset knows beyond it from before an instant (None: at any), the most frequent first.

    What `fit_encoding` would take in is appended. Attributes of known items become what the dataset says of them, where
    it says anything. Raises `InvalidInput` for a dataset that lacks a field of the encoding, or has it of another kind.
    """
    fresh = fit_encoding(dataset, _LATEST_MS if before_ms is None else before_ms)
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
    features: Mapping[str, Mapping[str, Scalar]] = _NOTHING,
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
        field = fields[name]
        if isinstance(field, CategoricalEncoder):
            found[name] = replace(field, values=_appended(field.values, new))
        elif new:
            raise InvalidInput(f"{where}.{name}", list(new), "the bins of a numeric field stay as they are")
    return found


def _values(where: str, known: Mapping[str, FieldEncoder], fresh: Mapping[str, FieldEncoder]) -> dict[str, list[str]]:
    """What `fresh` has of each categorical field."""
    found = {}
    for name, field in known.items():
        kind = fresh[name].kind if name in fresh else "missing"
        if kind != field.kind:
            raise InvalidInput(f"{where}.{name}", kind, f"a warm start needs the field, and it must be {field.kind}")
        new = fresh[name]
        found[name] = list(new.values) if isinstance(new, CategoricalEncoder) else []
    return found


def _refreshed(
    known: IndexArray,
    fields: Mapping[str, FieldEncoder],
    items: Sequence[str],
    features: Mapping[str, Mapping[str, Scalar]],
) -> IndexArray:
    """(items + 2, item attributes); what is missing, or is no value of the field, leaves what is `known`."""
    told = known.copy()
    for column, (name, field) in enumerate(fields.items()):
        raw = features.get(name, _NOTHING)
        values = field.encode([raw.get(item) for item in items])
        told[FIRST_KNOWN:, column] = np.where(values != FIELD_UNKNOWN, values, told[FIRST_KNOWN:, column])
    return told


@dataclass(frozen=True, eq=False)
class Start:
    """Where training begins: the parameters and buffers of earlier towers, and what was counted for their effects."""

    state: Mapping[str, Tensor]
    sizes: Sizes
    """Of the tables in `state`."""
    counts: SavedCounts | None = None

    @classmethod
    def of(cls, trained: "Trained", encoding: Encoding) -> "Start":
        """For towers of this `encoding`. Raises `InvalidInput` where it is none that grew from the trained one's."""
        _check_grown(trained.encoding, encoding)
        state = {name: value.detach().clone() for name, value in trained.model.state_dict().items()}
        return cls(state, trained.model.embeddings.sizes, trained.counts)

    def into(self, model: Towers) -> None:
        """Fill towers of the same architecture and of grown tables; the attributes of items are the model's own.

        Raises `InvalidInput` naming the parameter that one side lacks, or whose shapes differ in a way that growth does
        not explain.
        """
        target = model.state_dict()
        strange = sorted(target.keys() ^ self.state.keys())
        if strange:
            raise InvalidInput(strange[0], len(strange), "is in one of the towers alone: their architectures differ")
        rows = _Rows(self.sizes, model.embeddings.sizes)
        found = {
            name: value if name == "embeddings.item_features" else rows.placed(name, self.state[name], value.shape)
            for name, value in target.items()
        }
        model.load_state_dict(found)


class _Rows:
    """For each row of a grown table the row of the table before that it begins as: its own, or that of unknown."""

    def __init__(self, before: Sizes, after: Sizes) -> None:
        items = _grown_table(before.items, after.items, UNKNOWN)
        self._tables: dict[str, Callable[[int, int], Tensor | None]] = {
            "embeddings.items.": _only(items),
            "embeddings.actions.": _only(_grown_table(before.actions, after.actions, UNKNOWN)),
            "embeddings.attributes.": _only(_grown_fields(before.attributes, after.attributes)),
            "embeddings.context.": _only(_grown_fields(before.context, after.context)),
            "embeddings.item_attributes.": _only(_grown_fields(before.item_attributes, after.item_attributes)),
            "ranking.": _only(items),  # a ranking tower is told how many items there are, and of no other table
            "zero_shot.": _any_of(before.attributes, after.attributes),
        }

    def placed(self, name: str, value: Tensor, shape: torch.Size) -> Tensor:
        """A parameter or buffer in its grown `shape`."""
        rows = next((found for prefix, found in self._tables.items() if name.startswith(prefix)), _only(torch.empty(0)))
        placed = value
        for axis, (before, after) in enumerate(zip(value.shape, shape, strict=False)):
            source = None if before == after else rows(before, after)
            if source is not None:
                placed = placed.index_select(axis, source)
        if placed.shape != shape:
            problem = f"its shape was {tuple(value.shape)} and is {tuple(shape)}, which no growth of a table explains"
            raise InvalidInput(name, tuple(shape), problem)
        return placed


def _grown_table(before: int, after: int, unknown: int) -> Tensor:
    return torch.tensor([*range(before), *[unknown] * (after - before)])


def _grown_fields(before: Sequence[int], after: Sequence[int]) -> Tensor:
    """Of fields that lie one after the other in one table."""
    offsets = np.cumsum([0, *before])
    parts = [
        offset + _grown_table(was, becomes, FIELD_UNKNOWN)
        for offset, was, becomes in zip(offsets.tolist(), before, after, strict=False)
    ]
    return torch.cat(parts) if parts else torch.zeros(1, dtype=torch.long)


def _only(rows: Tensor) -> Callable[[int, int], Tensor | None]:
    """An axis that grew as this table did, and no other."""
    before = int(rows.max()) + 1 if len(rows) else 0
    return lambda was, becomes: rows if (was, becomes) == (before, len(rows)) else None


def _any_of(before: Sequence[int], after: Sequence[int]) -> Callable[[int, int], Tensor | None]:
    """An axis that grew as all fields did one after the other, or as a table of one of them."""
    everything = _only(_grown_fields(before, after))
    fields = [_only(_grown_fields([was], [becomes])) for was, becomes in zip(before, after, strict=False)]

    def rows(was: int, becomes: int) -> Tensor | None:
        found = (each(was, becomes) for each in (everything, *fields))
        return next((source for source in found if source is not None), None)

    return rows


def _check_grown(before: Encoding, after: Encoding) -> None:
    """Raises `InvalidInput` naming what `after` does not begin with."""
    vocabularies: list[tuple[str, Sequence[object], Sequence[object]]] = [
        ("items", before.items, after.items),
        ("actions", before.actions, after.actions),
    ]
    for where in ("attributes", "context", "item_attributes"):
        was, becomes = getattr(before, where), getattr(after, where)
        if [*was] != [*becomes]:
            raise InvalidInput(where, [*becomes], f"a warm start needs the same fields in the same order: {[*was]}")
        for name, field in was.items():
            vocabularies.append((f"{where}.{name}", _in_order(field), _in_order(becomes[name])))
    for where, known, now in vocabularies:
        if tuple(now[: len(known)]) != tuple(known):
            raise InvalidInput(where, len(now), f"does not begin with the {len(known)} values that were learned of")


def _in_order(field: FieldEncoder) -> Sequence[object]:
    if isinstance(field, CategoricalEncoder):
        return (field.kind, *field.values)
    return (field.kind, field.to_dict())
