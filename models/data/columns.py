"""Columns of interactions and behaviours, gathered block by block as integers and numbers."""

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pandas as pd

from foretaste.kernel.errors import InvalidInput
from foretaste.kernel.events import MAX_ID
from foretaste.kernel.values import MISSING_ACTION, Scalar, canonical
from models.data import tables
from models.data.table_files import Table
from models.data.times import TimeUnit
from models.runtime.fields import KINDS


class Column(ABC):
    """A column of a file, `source`, and the numbers that it becomes: one array a block."""

    is_text: ClassVar[bool] = False
    """The values of a CSV file are kept as written ("02139")."""

    def __init__(self, source: str) -> None:
        self.source = source
        self._parts: list[npt.NDArray[Any]] = []

    def add(self, block: Table) -> None:
        """Gather the next rows. Raises `InvalidInput` naming the file, the column, the row and the value."""
        self._parts.append(self._read(block))

    def whole(self) -> Any:
        """All rows (R,), as pandas takes them; what was gathered is let go of."""
        together = np.concatenate(self._parts)
        self._parts.clear()
        return together

    @abstractmethod
    def _read(self, block: Table) -> npt.NDArray[Any]: ...


class Ids(Column):
    """Ids of another table of the folder: categories in the order of that table's rows, so that codes are its rows."""

    is_text = True

    def __init__(self, source: str, known: "pd.Index[str]", where: str) -> None:
        super().__init__(source)
        self._known, self._where = known, where

    def _read(self, block: Table) -> npt.NDArray[np.int32]:
        return tables.known_rows(block, self.source, self._known, self._where)

    def whole(self) -> Any:
        return pd.Categorical.from_codes(super().whole(), categories=self._known)


class Categories(Column):
    """Values of a categorical field by their canonical texts: categories in the order in which they come."""

    is_text = True

    def __init__(self, source: str) -> None:
        super().__init__(source)
        self._codes: dict[str, int] = {}

    def _read(self, block: Table) -> npt.NDArray[np.int32]:
        codes, values = tables.scalars(block, self.source)
        found = [self._code(self._named(block, value)) for value in values]
        return np.array(found, dtype=np.int32)[codes]

    def _code(self, text: str | None) -> int:
        return -1 if text is None else self._codes.setdefault(text, len(self._codes))

    def _named(self, block: Table, value: Scalar) -> str | None:  # of the subclass
        return canonical(value)

    def whole(self) -> Any:
        names = pd.Index(list(self._codes), dtype=object)
        return pd.Categorical.from_codes(super().whole(), categories=names)


class Actions(Categories):
    """Actions by their canonical text, `MISSING_ACTION` where there is none."""

    def _named(self, block: Table, value: Scalar) -> str:
        name = canonical(value) or MISSING_ACTION
        if len(name) > MAX_ID:
            raise InvalidInput(block.field(self.source), name, f"an action has at most {MAX_ID} characters")
        return name


class Times(Column):
    """Times as milliseconds since the epoch."""

    def __init__(self, source: str, unit: TimeUnit) -> None:
        super().__init__(source)
        self._unit: TimeUnit = unit

    def _read(self, block: Table) -> npt.NDArray[np.int64]:
        return tables.times_ms(block, self.source, self._unit)


class Labels(Column):
    """Labels, 0 and 1."""

    def _read(self, block: Table) -> npt.NDArray[np.int8]:
        return tables.labels(block, self.source)


class Numbers(Column):
    """Finite numbers, nan where there is none. `not_numbers`: what the rows so far held that is none, though given."""

    not_numbers: tables.NotNumbers | None = None

    def _read(self, block: Table) -> npt.NDArray[np.float64]:
        found = tables.not_numbers(block, self.source)
        self.not_numbers = found if self.not_numbers is None else self.not_numbers + found
        return tables.numbers(block, self.source)

    def whole(self) -> Any:
        """Raises `InvalidInput` where too many of the values are no numbers."""
        if self.not_numbers is not None:
            self.not_numbers.check()
        return super().whole()


def field_column(source: str, kind: str) -> Column:
    """The column of a field of this kind, one of `KINDS`."""
    return Categories(source) if KINDS[kind].is_text else Numbers(source)
