"""Columns of interactions, gathered block by block as integers and numbers, one array a block."""

from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt
import pandas as pd

from foretaste.contracts import MAX_ID, Scalar
from foretaste.errors import InvalidInput
from models import tables
from models.encoding import canonical
from models.tables import Table

ACTED = "acted"
"""The action where the data name none, as in `UserBehaved`."""


class Column(Protocol):
    """What a column of a file becomes."""

    def add(self, block: Table) -> None:
        """The next rows. Raises `InvalidInput` naming the file, the column, the row and the value."""
        ...

    def whole(self) -> Any:
        """All rows (R,), as pandas takes them; what was gathered is let go of."""
        ...


class _Parts:
    def __init__(self) -> None:
        self._parts: list[npt.NDArray[Any]] = []

    def whole(self) -> Any:
        together = np.concatenate(self._parts)
        self._parts.clear()
        return together


class Ids(_Parts):
    """Ids of another table of the folder: categories in the order of that table's rows, so that codes are its rows."""

    def __init__(self, source: str, known: "pd.Index[str]", where: str) -> None:
        super().__init__()
        self._source, self._known, self._where = source, known, where

    def add(self, block: Table) -> None:
        self._parts.append(tables.known_rows(block, self._source, self._known, self._where))

    def whole(self) -> Any:
        return pd.Categorical.from_codes(super().whole(), categories=self._known)


@dataclass
class _Vocabulary:
    """Values by their code, in the order in which they came; -1: missing."""

    codes: dict[Scalar, int] = field(default_factory=dict)

    def of(self, values: "list[Scalar]") -> npt.NDArray[np.int32]:
        missing = [value is None or value != value for value in values]  # noqa: PLR0124  # nan alone differs from itself
        found = [
            -1 if none else self.codes.setdefault(value, len(self.codes))
            for value, none in zip(values, missing, strict=True)
        ]
        return np.array(found, dtype=np.int32)


class Names(_Parts):
    """Raw values of a categorical field: categories in the order in which they come."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self._source, self._vocabulary = source, _Vocabulary()

    def add(self, block: Table) -> None:
        codes, values = tables.scalars(block, self._source)
        self._parts.append(self._vocabulary.of(self._named(block, values))[codes])

    def whole(self) -> Any:
        names = pd.Index(list(self._vocabulary.codes), dtype=object)
        return pd.Categorical.from_codes(super().whole(), categories=names)

    def _named(self, block: Table, values: "list[Scalar]") -> "list[Scalar]":
        return values


class Actions(Names):
    """Actions by their canonical text, `ACTED` where there is none, or no such column (`source` None)."""

    def __init__(self, source: str | None) -> None:
        super().__init__(source or "")
        self._none = source is None

    def add(self, block: Table) -> None:
        if self._none:
            self._parts.append(np.repeat(self._vocabulary.of([ACTED]), block.rows))
        else:
            super().add(block)

    def _named(self, block: Table, values: "list[Scalar]") -> "list[Scalar]":
        names = [canonical(value) or ACTED for value in values]
        too_long = [name for name in names if len(name) > MAX_ID]
        if too_long:
            raise InvalidInput(block.field(self._source), too_long[0], f"an action has at most {MAX_ID} characters")
        return list(names)


class Times(_Parts):
    """Milliseconds since the epoch."""

    def __init__(self, source: str, unit: Literal["s", "ms"]) -> None:
        super().__init__()
        self._source: str = source
        self._unit: Literal["s", "ms"] = unit

    def add(self, block: Table) -> None:
        self._parts.append(tables.times_ms(block, self._source, self._unit))


class Labels(_Parts):
    """0 and 1; 1 where there is no such column (`source` None)."""

    def __init__(self, source: str | None) -> None:
        super().__init__()
        self._source = source

    def add(self, block: Table) -> None:
        ones = np.ones(block.rows, dtype=np.int8)
        self._parts.append(ones if self._source is None else tables.labels(block, self._source))


class Numbers(_Parts):
    """Finite numbers, nan where there is none."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self._source = source

    def add(self, block: Table) -> None:
        self._parts.append(tables.numbers(block, self._source))
