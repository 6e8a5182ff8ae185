"""Arrow columns of a dataset folder's files to the types that Foretaste works with.

Every error is an `InvalidInput` that names the file, the column, the row and the value.
"""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from foretaste.kernel.errors import InvalidInput
from foretaste.kernel.events import MAX_ID
from foretaste.kernel.values import EARLIEST_MS, MOST_ELEMENTS, Scalar, number
from models.data.table_files import Table
from models.data.times import TimeUnit, absurd, absurd_problem, numbers_ms, texts_ms
from models.runtime.fields.numeric import numbers_of

Int64Array: TypeAlias = npt.NDArray[np.int64]
_EXACT = 2.0**53
"""Beyond it a float no longer names one whole number."""
MOST_NOT_NUMBERS = 0.1
"""Of the values of a numeric column, the share that may be no numbers, and so unknown to training."""


@dataclass(frozen=True, eq=False)
class Coded:
    """A column's distinct `values` (V,), an Arrow array, and the place of each row's value there: `codes` (R,)."""

    codes: npt.NDArray[np.int32]
    values: Any


def _coded(table: Table, column: str) -> Coded:
    """A column by its distinct values, so that checks, casts and look-ups are as many as values, and not as rows."""
    array = table.columns[column]
    if pa.types.is_null(array.type):
        return Coded(np.zeros(len(array), dtype=np.int32), array[:1])
    try:
        coded = array.dictionary_encode(null_encoding="encode")
    except pa.ArrowException as error:
        raise InvalidInput(table.field(column), str(array.type), "cannot be read as single values") from error
    return Coded(coded.indices.to_numpy(), coded.dictionary)


def ids(table: Table, column: str) -> Coded:
    """A column of ids as texts. Raises `InvalidInput` for an empty one or one too long."""
    coded = _coded(table, column)
    array = coded.values
    if pa.types.is_floating(array.type):
        whole = pc.and_(pc.equal(array, pc.floor(array)), pc.less(pc.abs(array), pa.scalar(_EXACT)))
        wrong = pc.invert(pc.fill_null(whole, True))
        _refuse_value(table, column, coded, wrong, "an id must be a text or a whole number")
        array = pc.cast(array, pa.int64())
    texts = _cast(table, column, array, pa.string())
    empty = pc.fill_null(pc.equal(texts, pa.scalar("")), True)
    _refuse_value(table, column, coded, empty, "an id may not be empty")
    long = pc.greater(pc.utf8_length(texts), pa.scalar(MAX_ID, pa.int32()))
    _refuse_value(table, column, coded, long, f"an id has at most {MAX_ID} characters")
    return Coded(coded.codes, texts)


def unique_ids(table: Table, column: str) -> Any:
    """As `ids`, as an Arrow array of a text a row; no id may come twice."""
    coded = ids(table, column)
    texts = coded.values.take(pa.array(coded.codes))
    counted = pc.value_counts(texts)
    repeated = counted.filter(pc.greater(counted.field("counts"), pa.scalar(1, pa.int64())))
    if len(repeated):
        first = repeated[0].as_py()
        raise InvalidInput(table.field(column), first["values"], f"must be unique, but comes {first['counts']} times")
    return texts


def known_rows(table: Table, column: str, known: "pd.Index[str]", where: str) -> npt.NDArray[np.int32]:
    """As `ids`, as places (R,) in `known`, which are the ids of the file `where`: each must be one of them."""
    coded = ids(table, column)
    places = known.get_indexer(pd.Index(coded.values.to_numpy(zero_copy_only=False), dtype=object)).astype(np.int32)
    strangers = places < 0
    if strangers.any():
        rows = int(np.count_nonzero(strangers[coded.codes]))
        many = f"is not in {where}; up to row {table.offset + table.rows}, {rows} rows name such an id"
        _refuse_value(table, column, coded, pa.array(strangers), many)
    found: npt.NDArray[np.int32] = places[coded.codes]
    return found


def scalars(table: Table, column: str) -> tuple[npt.NDArray[np.int32], list[Scalar]]:
    """A column's codes (R,) and distinct raw values: str, int, float, bool or None; dates and the like as text."""
    coded = _coded(table, column)
    values: list[Scalar] = _scalar_array(table, column, coded.values).to_pylist()
    return coded.codes, values


def numbers(table: Table, column: str) -> npt.NDArray[np.float64]:
    """A column (R,) as the finite numbers that it holds, nan for anything else."""
    array = table.columns[column]
    if _is_any(array.type, "integer", "floating"):
        found = np.asarray(pc.cast(array, pa.float64()).to_numpy(zero_copy_only=False), dtype=np.float64)
        return np.where(np.isfinite(found), found, np.nan)
    codes, values = scalars(table, column)
    return np.array([number(value) for value in values], dtype=np.float64)[codes]


def lists(table: Table, column: str) -> list[tuple[Scalar, ...] | None]:
    """A column (R,) of lists: Arrow's own, or texts that are a JSON array or one value alone; None for a missing one.

    Raises `InvalidInput` for a text that begins an array and is none, and for what lists hold beside single values.
    """
    array = table.columns[column]
    if _is_any(array.type, "list", "large_list", "fixed_size_list"):
        values = _of_scalars(table, column, array).to_pylist()
    else:
        codes, distinct = scalars(table, column)
        values = [distinct[code] for code in codes.tolist()]
    return [_listed(table, column, row, value) for row, value in enumerate(values, start=table.offset + 1)]


def _of_scalars(table: Table, column: str, array: Any) -> Any:
    """Lists whose values are read as `scalars` reads a column's."""
    of = array.type.value_type
    if _is_any(of, "integer", "floating", "boolean", "null", "string", "large_string"):
        return array
    return _cast(table, column, array, pa.list_(pa.float64() if pa.types.is_decimal(of) else pa.string()))


def _listed(table: Table, column: str, row: int, value: Any) -> tuple[Scalar, ...] | None:
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            value = json.loads(value)
        except ValueError as error:
            problem = f"begins a JSON array, and is none: {error}"
            raise InvalidInput(f"{table.field(column)}, row {row}", value, problem) from error
    if value is None or value == "":
        return None
    found = tuple(value) if isinstance(value, list) else (value,)
    if any(isinstance(each, list | dict) for each in found) or len(found) > MOST_ELEMENTS:
        problem = f"a list holds single values, {MOST_ELEMENTS} at most"
        raise InvalidInput(f"{table.field(column)}, row {row}", value, problem)
    return found


def check_vectors(table: Table, column: str, vectors: Sequence[tuple[Scalar, ...] | None]) -> None:
    """Raises `InvalidInput` where more than `MOST_NOT_NUMBERS` of the vectors have another length than most, or hold
    what is no finite number."""
    lengths = Counter(len(vector) for vector in vectors if vector is not None)
    most = lengths.most_common(1)[0][0] if lengths else 0

    def is_wrong(vector: tuple[Scalar, ...] | None) -> bool:
        return vector is not None and (len(vector) != most or bool(np.isnan(numbers_of(vector)).any()))

    wrong = [row for row, vector in enumerate(vectors) if is_wrong(vector)]
    if len(wrong) > MOST_NOT_NUMBERS * lengths.total():
        first = vectors[wrong[0]]
        problem = f"is no vector of {most} finite numbers, which {len(wrong)} of {lengths.total()} are not"
        raise InvalidInput(f"{table.field(column)}, row {table.offset + wrong[0] + 1}", first, problem)


@dataclass(frozen=True, slots=True)
class NotNumbers:
    """Of `values` that a numeric column `field` holds, `count` are no numbers; `first` is one, in the row `row`."""

    field: str
    values: int
    count: int
    first: Scalar
    row: int

    def __add__(self, later: "NotNumbers") -> "NotNumbers":
        """Those of two blocks of a column, this one before the other."""
        first = self if self.count else later
        return NotNumbers(first.field, self.values + later.values, self.count + later.count, first.first, first.row)

    def check(self) -> None:
        """Raises `InvalidInput` where they are more than `MOST_NOT_NUMBERS` of the values."""
        if self.count <= MOST_NOT_NUMBERS * self.values:
            return
        comma = isinstance(self.first, str) and not _no_number(self.first.replace(",", "."))
        hint = "; decimals need a point" if comma else ""
        problem = f"is no number, as {self.count} of {self.values} values of this numeric column are not{hint}"
        raise InvalidInput(f"{self.field}, row {self.row}", self.first, problem)


def not_numbers(table: Table, column: str) -> NotNumbers:
    """What of a numeric column is no number; a missing value, nan and an infinite one are missing numbers."""
    array, field = table.columns[column], table.field(column)
    values = len(array) - array.null_count
    if _is_any(array.type, "integer", "floating", "boolean", "null", "decimal"):
        return NotNumbers(field, values, 0, None, 0)
    codes, distinct = scalars(table, column)
    empty = np.array([not value for value in distinct], dtype=np.bool_)[codes]
    wrong = np.array([isinstance(value, str) and _no_number(value) for value in distinct], dtype=np.bool_)[codes]
    if not wrong.any():
        return NotNumbers(field, int(np.count_nonzero(~empty)), 0, None, 0)
    row = int(np.argmax(wrong))
    found = int(np.count_nonzero(~empty)), int(np.count_nonzero(wrong))
    return NotNumbers(field, *found, distinct[codes[row]], table.offset + row + 1)


def _no_number(text: str) -> bool:
    if not text:
        return False
    try:
        float(text)
    except ValueError:
        return True
    return False


def _scalar_array(table: Table, column: str, array: Any) -> Any:
    if _is_any(array.type, "integer", "floating", "boolean", "null", "string", "large_string"):
        return array
    return _cast(table, column, array, pa.float64() if pa.types.is_decimal(array.type) else pa.string())


def times_ms(table: Table, column: str, unit: TimeUnit, missing_ms: int | None = None) -> Int64Array:
    """A column of times as milliseconds since the epoch: numbers in `unit`, dates, timestamps or ISO 8601 texts.

    A number such as 20260301 is a date. A time without a zone is UTC. Raises `InvalidInput` for one that is missing,
    unless `missing_ms` is what stands for it, is not a time, or lies before 1980 or after 2099.
    """
    array = table.columns[column]
    if pa.types.is_temporal(array.type):
        zone = array.type.tz if pa.types.is_timestamp(array.type) else None
        stamps = _cast(table, column, array, pa.timestamp("ms", tz=zone), safe=False)
        missing = np.asarray(pc.is_null(stamps).to_numpy(zero_copy_only=False), dtype=np.bool_)
        if missing_ms is None:
            _refuse(table, column, array, pa.array(missing), "a time is missing")
        found = np.asarray(pc.fill_null(pc.cast(stamps, pa.int64()), EARLIEST_MS).to_numpy(), dtype=np.int64)
        _refuse_absurd(table, column, found, None)
        return np.where(missing, missing_ms or 0, found)
    raw = pd.Series(_scalar_array(table, column, array).to_pandas())
    missing = np.asarray(raw.isna() | (raw == ""), dtype=np.bool_) & (missing_ms is not None)
    moments = numbers_ms(pd.to_numeric(raw, errors="coerce").astype("float64"), unit)
    texts = np.asarray(moments.isna() & raw.notna(), dtype=np.bool_) & ~missing
    if texts.any() and raw.dtype == object:
        moments[texts] = texts_ms(raw[texts])
    moments[missing] = EARLIEST_MS
    _refuse_at(
        table,
        column,
        moments.isna(),
        "is not a time from 1980 to 2099: a number, or a text such as 2000-11-14T23:42:00Z",
    )
    _refuse_absurd(table, column, moments.to_numpy(), None if texts.any() and raw.dtype == object else unit)
    return np.where(missing, missing_ms or 0, np.asarray(moments.round(), dtype=np.int64))


def _refuse_absurd(table: Table, column: str, moments: npt.NDArray[Any], unit: TimeUnit | None) -> None:
    outside = absurd(moments)
    if outside.any():
        first = float(moments[int(np.argmax(outside))])
        _refuse(table, column, table.columns[column], pa.array(outside), absurd_problem(first, unit))


def labels(table: Table, column: str) -> npt.NDArray[np.int8]:
    """A column of 0 and 1 (or false and true). Raises `InvalidInput` for anything else, a missing value included."""
    raw = pd.Series(_scalar_array(table, column, table.columns[column]).to_pandas())
    values = pd.to_numeric(raw, errors="coerce")
    _refuse_at(table, column, ~values.isin([0, 1]), "a label must be 0 or 1")
    return np.asarray(values, dtype=np.int8)


def _is_any(kind: Any, *names: str) -> bool:
    return any(getattr(pa.types, f"is_{name}")(kind) for name in names)


def _cast(table: Table, column: str, array: Any, kind: Any, *, safe: bool = True) -> Any:
    try:
        return pc.cast(array, kind, safe=safe)
    except pa.ArrowException as error:
        raise InvalidInput(table.field(column), str(array.type), f"cannot be read as {kind}") from error


def _refuse(table: Table, column: str, array: Any, wrong: Any, problem: str) -> None:
    """Raise for the first row that `wrong`, an Arrow array, marks; rows count from 1, a header left out."""
    row = pc.index(wrong, pa.scalar(True)).as_py()
    if row >= 0:
        raise InvalidInput(f"{table.field(column)}, row {table.offset + row + 1}", array[row].as_py(), problem)


def _refuse_at(table: Table, column: str, wrong: "pd.Series[bool]", problem: str) -> None:
    """As `_refuse`, for a pandas mask."""
    _refuse(table, column, table.columns[column], pa.array(wrong), problem)


def _refuse_value(table: Table, column: str, coded: Coded, wrong: Any, problem: str) -> None:
    """As `_refuse`, for a mask of the distinct values."""
    if pc.any(wrong).as_py():
        marked = np.asarray(pc.fill_null(wrong, False).to_numpy(zero_copy_only=False), dtype=np.bool_)
        _refuse(table, column, table.columns[column], pa.array(marked[coded.codes]), problem)
