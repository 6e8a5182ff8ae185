"""One of Alimama's CSV files, block by block."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from foretaste.kernel.errors import InvalidInput
from foretaste.kernel.ports import Report

BLOCK_BYTES = 1 << 26
_MISSING = ("", "NULL", "null", "NaN", "nan")


class Reader:
    """The blocks of a file as Arrow record batches with the columns `kinds` (name to Arrow type) alone.

    One of the real files ends a column's name with a blank, so blanks around names do not count; and an empty field or
    NULL is a missing value, of text too. Raises `InvalidInput` for a file without one of the columns or without rows,
    and for a value that is not of its column's type. `progress` counts rows.
    """

    def __init__(self, path: Path, kinds: Mapping[str, Any], progress: Report) -> None:
        self._path = path
        self._kinds = kinds
        self._progress = progress
        self._offset = 0

    def __iter__(self) -> Iterator[Any]:
        self._offset = 0
        try:
            with self._opened() as reader:
                for batch in reader:
                    yield pa.RecordBatch.from_arrays(batch.columns, names=list(self._kinds))
                    self._offset += batch.num_rows
                    self._progress(f"convert {self._path.name}", self._offset, None)
        except (pa.ArrowException, OSError) as error:
            problem = f"is damaged after row {self._offset}, or not what its name says"
            raise InvalidInput(self._path.name, str(error).splitlines()[0], problem) from error
        if not self._offset:
            raise InvalidInput(self._path.name, "no rows", "must have at least one row")
        self._progress(f"convert {self._path.name}", self._offset, self._offset)

    def _opened(self) -> Any:
        size = pa.csv.ReadOptions(block_size=BLOCK_BYTES)
        if self._path.stat().st_size == 0:
            raise InvalidInput(self._path.name, "no rows", "must have at least one row")
        with pa.csv.open_csv(self._path, read_options=size) as head:
            written = {name.strip(): name for name in head.schema.names}
        for name in self._kinds:
            if name not in written:
                raise InvalidInput(self._path.name, list(written), f"has no column {name!r}")
        options = pa.csv.ConvertOptions(
            include_columns=[written[name] for name in self._kinds],
            column_types={written[name]: kind for name, kind in self._kinds.items()},
            null_values=list(_MISSING),
            strings_can_be_null=True,
        )
        return pa.csv.open_csv(self._path, read_options=size, convert_options=options)

    def integers(self, block: Any, column: str) -> npt.NDArray[np.int64]:
        """A column of the block in hand (R,). Raises `InvalidInput` where a value is missing."""
        array = block.column(column)
        if array.null_count:
            self.refuse(block, column, pc.is_null(array).to_numpy(zero_copy_only=False), "a value is missing")
        found: npt.NDArray[np.int64] = array.to_numpy()
        return found

    def refuse(self, block: Any, column: str, wrong: npt.NDArray[np.bool_], problem: str) -> None:
        """Raises `InvalidInput` for the first row of the block in hand that `wrong` (R,) marks."""
        if wrong.any():
            row = int(np.argmax(wrong))
            where = f"{self._path.name}, column {column!r}, row {self._offset + row + 1}"
            raise InvalidInput(where, block.column(column)[row].as_py(), problem)

    def frame(self, key: str, wanted: npt.NDArray[np.int64]) -> pd.DataFrame:
        """The rows whose `key` is among `wanted` (K,), in that order; one that the file lacks has no other values.

        Raises `InvalidInput` where a key comes twice.
        """
        parts = []
        for block in self:
            self.integers(block, key)
            parts.append(block.filter(pc.is_in(block.column(key), value_set=pa.array(wanted))))
        frame = pa.Table.from_batches(parts).to_pandas()
        twice = frame[key][frame[key].duplicated()]
        if len(twice):
            raise InvalidInput(f"{self._path.name}, column {key!r}", int(twice.iloc[0]), "must be unique")
        return frame.set_index(key).reindex(wanted).rename_axis(key).reset_index()
