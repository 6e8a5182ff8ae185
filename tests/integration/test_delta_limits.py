"""What delta-rs alone does not keep, and why the log writes its own files (decision 29): if one fails, look again."""

from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake
from deltalake.exceptions import DeltaError


def _table(folder: Path) -> DeltaTable:
    for name in ("a", "b", "b"):
        write_deltalake(
            folder, pa.table({"day": ["1"], "name": [name], "count": [7]}), mode="append", partition_by=["day"]
        )
    return DeltaTable(folder)


def test_compaction_ends_at_a_corrupt_file(tmp_path: Path) -> None:
    table = _table(tmp_path / "table")
    next((tmp_path / "table").rglob("*.parquet")).write_bytes(b"PAR1 no more")
    with pytest.raises(DeltaError, match="Parquet"):
        table.optimize.compact()


def test_compaction_keeps_a_row_that_was_written_twice(tmp_path: Path) -> None:
    table = _table(tmp_path / "table")
    table.optimize.compact()
    assert sorted(map(str, DeltaTable(tmp_path / "table").to_pyarrow_table()["name"].to_pylist())) == ["a", "b", "b"]
