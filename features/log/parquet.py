"""A file of the training log as Parquet: compressed, and with checksums, which tell what is corrupt."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import date

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from features.log.rows import TIME, conformed

ROW_GROUP = 65_536
"""Rows, at most."""


def parquet_bytes(table: pa.Table) -> pa.Buffer:
    """The file that holds `table`."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd", write_page_checksum=True, row_group_size=ROW_GROUP)
    return sink.getvalue()


def read_parquet(file: pa.NativeFile, time: str, columns: Sequence[str] | None = None) -> pa.Table | None:
    """Those of `columns` that the file has (all: None), its column `time` in UTC; None where the file is corrupt."""
    try:
        with pq.ParquetFile(file, page_checksum_verification=True) as opened:
            names = opened.schema_arrow.names
            table = opened.read([name for name in names if columns is None or name in columns])
        return with_time(table, time)
    except (pa.ArrowException, OSError, KeyError):
        return None


def with_time(table: pa.Table, time: str) -> pa.Table:
    """The table with its column `time` in UTC; one without a zone means UTC. Raises `KeyError` where there is none."""
    return table.set_column(table.schema.get_field_index(time), time, table[time].cast(TIME))


def by_day(table: pa.Table, time: str) -> Iterator[tuple[date, pa.Table]]:
    """The rows of each day (UTC) of the column `time`."""
    days = table[time].cast(pa.date32())
    for day in pc.unique(days):
        yield day.as_py(), table.filter(pc.equal(days, day))


def together(parts: Mapping[str, pa.Table], columns: Sequence[str]) -> tuple[pa.Table, Sequence[str]]:
    """One table of `columns`, each of the type that it has in most rows, and the names of the parts that do not fit."""
    types: defaultdict[str, Counter[pa.DataType]] = defaultdict(Counter)
    for table in parts.values():
        for name, kind in zip(table.schema.names, table.schema.types, strict=True):
            types[name][kind] += len(table)
    schema = pa.schema([(name, types[name].most_common(1)[0][0] if types[name] else pa.null()) for name in columns])
    fitting: list[pa.Table] = []
    odd: list[str] = []
    for path, table in parts.items():
        try:
            fitting.append(conformed(table, schema))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            odd.append(path)
    return pa.concat_tables(fitting) if fitting else schema.empty_table(), odd
