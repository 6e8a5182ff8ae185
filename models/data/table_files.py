"""Files of a dataset folder as Arrow columns, whole or block by block.

Arrow, and not pandas, reads them: it keeps a column of whole numbers whole where values are missing, so that the id 12
never becomes "12.0".
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet

from foretaste.kernel.errors import InvalidInput

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
