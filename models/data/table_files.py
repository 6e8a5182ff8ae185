"""Files of a dataset folder as Arrow columns, whole or block by block. A table is one file, or a folder of parts.

Arrow, and not pandas, reads them: it keeps a column of whole numbers whole where values are missing, so that the id 12
never becomes "12.0".
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet

from foretaste.kernel.errors import InvalidInput
from models.data.table_parts import TableFile, TablePart, first_bytes_not_utf8

BLOCK = 1 << 20
"""Rows of a Parquet file that are read at once, and 1/64 of the bytes of a CSV file."""


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


def read_table(file: TableFile, columns: Sequence[str], texts: Sequence[str]) -> Table:
    """The named columns of a Parquet or CSV table. Those in `texts` are kept as written in a CSV file ("02139").

    Raises `InvalidInput` for a file that cannot be read to its end, lacks a column, has one twice or has no rows, and
    for parts whose columns are of kinds that do not go together.
    """
    wanted = list(dict.fromkeys(columns))
    tables = [_read_part(part, wanted, texts) for part in file.parts]
    try:
        table = pa.concat_tables(tables, promote_options="permissive")
    except pa.ArrowException as error:
        raise InvalidInput(file.name, _first_line(error), "has parts whose columns are of different kinds") from error
    if table.num_rows == 0:
        raise _empty(file.name)
    return Table(file.name, table.num_rows, {column: _plain(table.column(column)) for column in wanted})


def read_blocks(file: TableFile, columns: Sequence[str], texts: Sequence[str]) -> Iterator[Table]:
    """As `read_table`, in blocks of about `BLOCK` rows, so that a table of any length takes little memory.

    A block lies within one part, and is named and counted by it.
    """
    wanted = list(dict.fromkeys(columns))
    empty = True
    for part in file.parts:
        offset = 0
        read = _csv_blocks(part, wanted, texts) if part.is_csv else _parquet_blocks(part, wanted)
        try:
            for batch in read:
                if batch.num_rows:
                    arrays = {column: _column(part, batch, column, texts) for column in wanted}
                    yield Table(part.name, batch.num_rows, arrays, offset)
                    offset += batch.num_rows
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            raise _damaged(part, error) from error
        empty = empty and offset == 0
    if empty:
        raise _empty(file.name)


def _read_part(part: TablePart, wanted: Sequence[str], texts: Sequence[str]) -> Any:
    """A part's columns of these names as a pyarrow.Table."""
    try:
        present, table = _read_csv(part, texts) if part.is_csv else _read_parquet(part, wanted)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise _damaged(part, error) from error
    _check_header(part, wanted, present)
    return pa.table({column: _column(part, table, column, texts) for column in wanted})


def _column(part: TablePart, table: Any, column: str, texts: Sequence[str]) -> Any:
    """A column of the file itself, or the value that the names of the part's folders give it for all of its rows."""
    if column in table.schema.names:
        array = _plain(table.column(column))
        is_unread = part.is_csv and column not in texts and pa.types.is_string(array.type)
        return _inferred(array) if is_unread else array  # Arrow takes "n/a" for missing in a column of numbers alone
    value = pa.array([part.keys[column]], pa.string()).take(pa.array([0] * table.num_rows, pa.int32()))
    return value if column in texts else _inferred(value)


def _read_parquet(part: TablePart, columns: Sequence[str]) -> tuple[list[str], Any]:
    with pa.parquet.ParquetFile(part.path) as file:
        present: list[str] = file.schema_arrow.names
        return present, file.read(columns=[column for column in columns if column in present])


def _parquet_blocks(part: TablePart, wanted: Sequence[str]) -> Iterator[Any]:
    with pa.parquet.ParquetFile(part.path) as file:
        present = file.schema_arrow.names
        _check_header(part, wanted, present)
        yield from file.iter_batches(batch_size=BLOCK, columns=[name for name in wanted if name in present])


def _read_csv(part: TablePart, texts: Sequence[str]) -> tuple[list[str], Any]:
    if part.path.stat().st_size == 0:
        raise _empty(part.name)
    options = pa.csv.ConvertOptions(column_types=dict.fromkeys(texts, pa.string()))
    table = pa.csv.read_csv(part.path, convert_options=options)
    return table.column_names, table


def _csv_blocks(part: TablePart, wanted: Sequence[str], texts: Sequence[str]) -> Iterator[Any]:
    """Every column is read as text: what a block holds is found block by block, for Arrow would take all others to be
    like the first."""
    if part.path.stat().st_size == 0:
        raise _empty(part.name)
    size = pa.csv.ReadOptions(block_size=64 * BLOCK)
    with pa.csv.open_csv(part.path, read_options=size) as head:
        present = head.schema.names
    _check_header(part, wanted, present)
    own = [name for name in wanted if name in present]
    options = pa.csv.ConvertOptions(include_columns=own, column_types=dict.fromkeys(own, pa.string()))
    with pa.csv.open_csv(part.path, read_options=size, convert_options=options) as reader:
        for batch in reader:
            columns = [batch.column(name) if name in texts else _inferred(batch.column(name)) for name in own]
            yield pa.RecordBatch.from_arrays(columns, names=own)


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


def _check_header(part: TablePart, wanted: Sequence[str], present: list[str]) -> None:
    known = [*present, *(name for name in part.keys if name not in present)]
    for column in wanted:
        if known.count(column) != 1:
            problem = f"has no column {column!r}" if column not in known else f"has more than one column {column!r}"
            raise InvalidInput(part.name, known, problem)


def _damaged(part: TablePart, error: Exception) -> InvalidInput:
    """What cannot be read; of a CSV file, the line that is no UTF-8 where that is why."""
    if part.is_csv and (found := first_bytes_not_utf8(part.path)) is not None:
        line, around = found
        return InvalidInput(f"{part.name}, line {line}", around, "is not UTF-8; save the file as UTF-8")
    if isinstance(error, UnicodeDecodeError):
        return InvalidInput(part.name, error.object, "names a column in another encoding than UTF-8")
    return InvalidInput(part.name, _first_line(error), "is damaged, or not what its name says")


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0]


def _empty(name: str) -> InvalidInput:
    return InvalidInput(name, "no rows", "must have at least one row")


def _plain(column: Any) -> Any:
    """One array, without the dictionary that pandas writes for its categories."""
    array: Any = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    return array.dictionary_decode() if pa.types.is_dictionary(array.type) else array
