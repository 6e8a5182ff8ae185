"""Files of a dataset folder to Arrow columns, and columns to the types that Foretaste works with.

Arrow, and not pandas, reads them: it keeps a column of whole numbers whole where values are missing, so that the id 12
never becomes "12.0". Every error is an `InvalidInput` that names the file, the column and the value.
"""

from collections.abc import Iterator, Mapping, Sequence
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
from models.encoding import number

BLOCK = 1 << 20
"""Rows of a Parquet file that are read at once, and 1/64 of the bytes of a CSV file."""
Int64Array: TypeAlias = npt.NDArray[np.int64]
_LATEST_MS = 253_402_300_800_000
"""The year 10000: a time beyond it was read in the wrong unit."""
_EXACT = 2.0**53
"""Beyond it a float no longer names one whole number."""
_MILLISECONDS = {"s": 1000, "ms": 1}


@dataclass(frozen=True)
class Table:
    """Columns of one file by name: all of its rows, or a block of them after the first `offset`."""

    file: str
    rows: int
    columns: Mapping[str, Any]  # pyarrow.Array, which ships no types
    offset: int = 0

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
        raise _damaged(path, error) from error
    _check_header(path, wanted, present)
    if table.num_rows == 0:
        raise _empty(path)
    return Table(path.name, table.num_rows, {column: _plain(table.column(column)) for column in wanted})


def read_blocks(path: Path, columns: Sequence[str], texts: Sequence[str]) -> Iterator[Table]:
    """As `read_table`, in blocks of about `BLOCK` rows, so that a file of any length takes little memory."""
    wanted = list(dict.fromkeys(columns))
    read = _csv_blocks(path, wanted, texts) if path.suffix == ".csv" else _parquet_blocks(path, wanted)
    offset = 0
    try:
        for batch in read:
            if batch.num_rows:
                arrays = {column: _plain(batch.column(column)) for column in wanted}
                yield Table(path.name, batch.num_rows, arrays, offset)
                offset += batch.num_rows
    except (pa.ArrowException, OSError) as error:
        raise _damaged(path, error) from error
    if offset == 0:
        raise _empty(path)


def _read_parquet(path: Path, columns: Sequence[str]) -> tuple[list[str], Any]:
    with pa.parquet.ParquetFile(path) as file:
        present: list[str] = file.schema_arrow.names
        return present, file.read(columns=[column for column in columns if column in present])


def _parquet_blocks(path: Path, wanted: Sequence[str]) -> Iterator[Any]:
    with pa.parquet.ParquetFile(path) as file:
        _check_header(path, wanted, file.schema_arrow.names)
        yield from file.iter_batches(batch_size=BLOCK, columns=list(wanted))


def _read_csv(path: Path, texts: Sequence[str]) -> tuple[list[str], Any]:
    if path.stat().st_size == 0:
        raise _empty(path)
    options = pa.csv.ConvertOptions(column_types=dict.fromkeys(texts, pa.string()))
    table = pa.csv.read_csv(path, convert_options=options)
    return table.column_names, table


def _csv_blocks(path: Path, wanted: Sequence[str], texts: Sequence[str]) -> Iterator[Any]:
    """Every column is read as text: what a block holds is found block by block, for Arrow would take all others to be
    like the first."""
    if path.stat().st_size == 0:
        raise _empty(path)
    size = pa.csv.ReadOptions(block_size=64 * BLOCK)
    with pa.csv.open_csv(path, read_options=size) as head:
        _check_header(path, wanted, head.schema.names)
    options = pa.csv.ConvertOptions(include_columns=list(wanted), column_types=dict.fromkeys(wanted, pa.string()))
    with pa.csv.open_csv(path, read_options=size, convert_options=options) as reader:
        for batch in reader:
            columns = [batch.column(name) if name in texts else _inferred(batch.column(name)) for name in wanted]
            yield pa.RecordBatch.from_arrays(columns, names=list(wanted))


def _inferred(texts: Any) -> Any:
    """Texts of a CSV file as numbers or booleans where all of them are such; missing where it says so."""
    missing = pc.is_in(texts, value_set=pa.array(pa.csv.ConvertOptions().null_values or [], pa.string()))
    array = pc.if_else(missing, pa.scalar(None, pa.string()), texts)
    for kind in (pa.int64(), pa.float64(), pa.bool_()):
        try:
            return pc.cast(array, kind)
        except pa.ArrowInvalid:
            continue
    return array


def _check_header(path: Path, wanted: Sequence[str], present: list[str]) -> None:
    for column in wanted:
        if present.count(column) != 1:
            problem = f"has no column {column!r}" if column not in present else f"has more than one column {column!r}"
            raise InvalidInput(path.name, present, problem)


def _damaged(path: Path, error: Exception) -> InvalidInput:
    return InvalidInput(path.name, str(error).splitlines()[0], "is damaged, or not what its name says")


def _empty(path: Path) -> InvalidInput:
    return InvalidInput(path.name, "no rows", "must have at least one row")


def _plain(column: Any) -> Any:
    """One array, without the dictionary that pandas writes for its categories."""
    array: Any = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    return array.dictionary_decode() if pa.types.is_dictionary(array.type) else array


@dataclass(frozen=True, eq=False)
class Coded:
    """A column's distinct `values` (V,), an Arrow array, and the place of each row's value there: `codes` (R,)."""

    codes: npt.NDArray[np.int32]
    values: Any


def _coded(table: Table, column: str) -> Coded:
    """Of these checks, casts and look-ups there are then as many as values, and not as rows."""
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


def _scalar_array(table: Table, column: str, array: Any) -> Any:
    if _is_any(array.type, "integer", "floating", "boolean", "null", "string", "large_string"):
        return array
    return _cast(table, column, array, pa.float64() if pa.types.is_decimal(array.type) else pa.string())


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
    raw = pd.Series(_scalar_array(table, column, array).to_pandas())
    moments = pd.to_numeric(raw, errors="coerce").astype("float64") * float(_MILLISECONDS[unit])
    texts = moments.isna() & raw.notna()
    if texts.any() and raw.dtype == object:
        moments[texts] = _iso_ms(raw[texts])
    _refuse_at(table, column, moments.isna(), "is not a time: a number, or a text such as 2000-11-14T23:42:00Z")
    late = f"lies after the year 9999; is time_unit {unit!r} right?"
    _refuse_at(table, column, moments.abs() >= _LATEST_MS, late)
    return np.asarray(moments.round(), dtype=np.int64)


def _iso_ms(texts: "pd.Series[Any]") -> "pd.Series[float]":
    parsed = pd.to_datetime(texts, utc=True, format="ISO8601", errors="coerce")
    return (parsed - pd.Timestamp(0, tz="UTC")) / pd.Timedelta(milliseconds=1)


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
