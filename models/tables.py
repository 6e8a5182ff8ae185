"""Files of a dataset folder to Arrow columns, and columns to the types that Foretaste works with.

Arrow, and not pandas, reads them: it keeps a column of whole numbers whole where values are missing, so that the id 12
never becomes "12.0". Every error is an `InvalidInput` that names the file, the column and the value.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet

from foretaste.contracts import MAX_ID, Scalar
from foretaste.errors import InvalidInput
from models.encoding import canonical

Int64Array: TypeAlias = npt.NDArray[np.int64]
_LATEST_MS = 253_402_300_800_000
"""The year 10000: a time beyond it was read in the wrong unit."""
_EXACT = 2.0**53
"""Beyond it a float no longer names one whole number."""
_MILLISECONDS = {"s": 1000, "ms": 1}


@dataclass(frozen=True)
class Table:
    """The columns of one file, by name."""

    file: str
    rows: int
    columns: Mapping[str, Any]  # pyarrow.Array, which ships no types

    def field(self, column: str) -> str:
        """How errors name a column of this file."""
        return f"{self.file}, column {column!r}"


def data_file(folder: Path, stem: str) -> Path:
    """`stem`.parquet or `stem`.csv in the folder. Raises `InvalidInput` where there is neither, or both."""
    found = [path for suffix in ("parquet", "csv") if (path := folder / f"{stem}.{suffix}").is_file()]
    if not found:
        raise InvalidInput(str(folder), sorted(path.name for path in folder.iterdir()), f"needs {stem}.parquet or .csv")
    if len(found) > 1:
        raise InvalidInput(str(folder), [path.name for path in found], "holds the same table twice; keep one of them")
    return found[0]


def read_table(path: Path, columns: Sequence[str], texts: Sequence[str]) -> Table:
    """The named columns of a Parquet or CSV file. Those in `texts` are kept as written in a CSV file ("02139").

    Raises `InvalidInput` for a file that cannot be read to its end, lacks a column, has one twice or has no rows.
    """
    wanted = list(dict.fromkeys(columns))
    try:
        present, table = _read_csv(path, texts) if path.suffix == ".csv" else _read_parquet(path, wanted)
    except (pa.ArrowException, OSError) as error:
        raise InvalidInput(path.name, str(error).splitlines()[0], "is damaged, or not what its name says") from error
    for column in wanted:
        if present.count(column) != 1:
            problem = f"has no column {column!r}" if column not in present else f"has more than one column {column!r}"
            raise InvalidInput(path.name, present, problem)
    if table.num_rows == 0:
        raise InvalidInput(path.name, "no rows", "must have at least one row")
    return Table(path.name, table.num_rows, {column: _plain(table.column(column)) for column in wanted})


def _read_parquet(path: Path, columns: Sequence[str]) -> tuple[list[str], Any]:
    with pa.parquet.ParquetFile(path) as file:
        present: list[str] = file.schema_arrow.names
        return present, file.read(columns=[column for column in columns if column in present])


def _read_csv(path: Path, texts: Sequence[str]) -> tuple[list[str], Any]:
    if path.stat().st_size == 0:
        raise InvalidInput(path.name, "0 bytes", "is empty")
    options = pa.csv.ConvertOptions(column_types=dict.fromkeys(texts, pa.string()))
    table = pa.csv.read_csv(path, convert_options=options)
    return table.column_names, table


def _plain(column: Any) -> Any:
    """One array, without the dictionary that pandas writes for its categories."""
    array = column.combine_chunks()
    return array.dictionary_decode() if pa.types.is_dictionary(array.type) else array


def ids(table: Table, column: str) -> Any:
    """A column of ids as an Arrow array of strings. Raises `InvalidInput` for an empty one or one too long."""
    array = table.columns[column]
    if pa.types.is_floating(array.type):
        whole = pc.and_(pc.equal(array, pc.floor(array)), pc.less(pc.abs(array), pa.scalar(_EXACT)))
        _refuse(table, column, array, pc.invert(pc.fill_null(whole, True)), "an id must be a text or a whole number")
        array = pc.cast(array, pa.int64())
    texts = _cast(table, column, array, pa.string())
    _refuse(table, column, texts, pc.fill_null(pc.equal(texts, pa.scalar("")), True), "an id may not be empty")
    long = pc.greater(pc.utf8_length(texts), pa.scalar(MAX_ID, pa.int32()))
    _refuse(table, column, texts, long, f"an id has at most {MAX_ID} characters")
    return texts


def unique_ids(table: Table, column: str) -> Any:
    """As `ids`, and no id may come twice."""
    texts = ids(table, column)
    counted = pc.value_counts(texts)
    repeated = counted.filter(pc.greater(counted.field("counts"), pa.scalar(1, pa.int64())))
    if len(repeated):
        first = repeated[0].as_py()
        raise InvalidInput(table.field(column), first["values"], f"must be unique, but comes {first['counts']} times")
    return texts


def known_ids(table: Table, column: str, known: "pd.Series[str]", where: str) -> Any:
    """As `ids`, and each must be one of `known`, which are the ids of the file `where`."""
    texts = ids(table, column)
    strangers = pc.invert(pc.is_in(texts, value_set=pa.array(known, pa.string())))
    _refuse(table, column, texts, strangers, f"is not in {where}; {pc.sum(strangers).as_py()} rows name such an id")
    return texts


def scalars(table: Table, column: str) -> list[Scalar]:
    """A column as raw values: str, int, float, bool or None; dates and the like as their text."""
    array = table.columns[column]
    if not _is_any(array.type, "integer", "floating", "boolean", "null"):
        array = _cast(table, column, array, pa.float64() if pa.types.is_decimal(array.type) else pa.string())
    values: list[Scalar] = array.to_pylist()
    return values


def actions(table: Table, column: str, missing: str) -> "pd.Series[str]":
    """A column of actions as canonical texts, `missing` where there is none. Raises `InvalidInput` for one too long."""
    coded = _cast(table, column, table.columns[column], pa.string()).dictionary_encode(null_encoding="encode")
    names = [canonical(value) or missing for value in coded.dictionary.to_pylist()]
    too_long = [name for name in names if len(name) > MAX_ID]
    if too_long:
        raise InvalidInput(table.field(column), too_long[0], f"an action has at most {MAX_ID} characters")
    return pd.Series(np.array(names, dtype=object)[coded.indices.to_numpy()])


def times_ms(table: Table, column: str, unit: Literal["s", "ms"]) -> Int64Array:
    """A column of times as milliseconds since the epoch: numbers in `unit`, timestamps or ISO 8601 texts.

    A time without a zone is UTC. Raises `InvalidInput` for one that is missing, not a time, or after the year 9999.
    """
    array = table.columns[column]
    if pa.types.is_temporal(array.type):
        zone = array.type.tz if pa.types.is_timestamp(array.type) else None
        stamps = _cast(table, column, array, pa.timestamp("ms", tz=zone), safe=False)
        _refuse(table, column, array, pc.is_null(stamps), "a time is missing")
        return np.asarray(pc.cast(stamps, pa.int64()).to_numpy(zero_copy_only=False), dtype=np.int64)
    raw = _simple(table, column)
    numbers = pd.to_numeric(raw, errors="coerce")
    moments = _iso_ms(raw) if numbers.isna().any() and raw.dtype == object else numbers * float(_MILLISECONDS[unit])
    _refuse_at(table, column, moments.isna(), "is not a time: a number, or a text such as 2000-11-14T23:42:00Z")
    late = f"lies after the year 9999; is time_unit {unit!r} right?"
    _refuse_at(table, column, moments.abs() >= _LATEST_MS, late)
    return np.asarray(moments.round(), dtype=np.int64)


def _iso_ms(texts: "pd.Series[Any]") -> "pd.Series[float]":
    parsed = pd.to_datetime(texts, utc=True, format="ISO8601", errors="coerce")
    return (parsed - pd.Timestamp(0, tz="UTC")) / pd.Timedelta(milliseconds=1)


def labels(table: Table, column: str) -> npt.NDArray[np.int8]:
    """A column of 0 and 1 (or false and true). Raises `InvalidInput` for anything else, a missing value included."""
    raw = _simple(table, column)
    values = pd.to_numeric(raw, errors="coerce")
    _refuse_at(table, column, ~values.isin([0, 1]), "a label must be 0 or 1")
    return np.asarray(values, dtype=np.int8)


def _simple(table: Table, column: str) -> "pd.Series[Any]":
    """A column of numbers or texts in pandas."""
    array = table.columns[column]
    if not _is_any(array.type, "integer", "floating", "boolean", "null", "string", "large_string"):
        array = _cast(table, column, array, pa.float64() if pa.types.is_decimal(array.type) else pa.string())
    return pd.Series(array.to_pandas())


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
        raise InvalidInput(f"{table.field(column)}, row {row + 1}", array[row].as_py(), problem)


def _refuse_at(table: Table, column: str, wrong: "pd.Series[bool]", problem: str) -> None:
    """As `_refuse`, for a pandas mask."""
    _refuse(table, column, table.columns[column], pa.array(wrong), problem)
