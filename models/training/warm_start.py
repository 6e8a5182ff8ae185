"""A warm start: vocabularies that take in what is new, and towers of the grown sizes that begin where others ended.

Indices never move and bins stay, so what was learned of a value is found where it was. What is new begins as what was
unknown, for that is what the towers have read in its place until now.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from foretaste.kernel.errors import InvalidInput
from models.effects.state import SavedCounts
from models.runtime.encoding import FIELD_UNKNOWN, UNKNOWN, Encoding
from models.towers.architecture import TowerPair
from models.towers.embeddings import Sizes

if TYPE_CHECKING:
    from models.training.trained import Trained


@dataclass(frozen=True, eq=False)
class WarmStart:
    """Where training begins: the parameters and buffers of earlier towers, and what was counted for their effects."""

    state: Mapping[str, Tensor]
    sizes: Sizes
    """Of the tables in `state`."""
    counts: SavedCounts | None = None

    @classmethod
    def of(cls, trained: "Trained", encoding: Encoding) -> "WarmStart":
        """The start for towers of this `encoding`. Raises `InvalidInput` where it did not grow from the other."""
        _check_grown(trained.encoding, encoding)
        state = {name: value.detach().clone() for name, value in trained.model.state_dict().items()}
        return cls(state, trained.model.embeddings.sizes, trained.counts)

    def into(self, model: TowerPair) -> None:
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
    begins = {"items": after.items[: len(before.items)] == before.items}
    begins["actions"] = after.actions[: len(before.actions)] == before.actions
    for where in ("attributes", "context", "item_attributes"):
        was, becomes = getattr(before, where), getattr(after, where)
        if [*was] != [*becomes]:
            raise InvalidInput(where, [*becomes], f"a warm start needs the same fields in the same order: {[*was]}")
        begins |= {f"{where}.{name}": becomes[name].begins_with(field) for name, field in was.items()}
    for where, learned_from in begins.items():
        if not learned_from:
            raise InvalidInput(where, "other values", "does not begin with the values that were learned of")
