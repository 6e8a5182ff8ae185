"""The commits of a table of the training log: delta-rs keeps them, here they are made durable."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, Transaction
from deltalake import Schema as DeltaSchema
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError
from deltalake.transaction import AddAction, RemoveAction
from obstore.exceptions import BaseError

from features.log.objects import table_files
from foretaste.kernel.errors import InvalidInput, Unavailable
from foretaste.kernel.ports import Clock

DAY = "day"
RETENTION_HOURS = 24
"""For which a file that was removed, or never came to belong to the table, stays for those who may still read it."""
CONFIGURATION = {
    "delta.deletedFileRetentionDuration": f"interval {RETENTION_HOURS} hours",
    "delta.logRetentionDuration": "interval 2 hours",
    "delta.checkpointInterval": "10",
}
"""Of a new table. Nobody asks for it as it was, so commits go soon; each is opened for, so checkpoints are many."""
ATTEMPTS = 20
"""At a commit that others' commits stand against, and at reading a day whose files are removed meanwhile."""
READABLE_PROTOCOL = 1
"""What readers of the table must understand, at most: a later one may mark rows as deleted inside of files."""


class TableCommits:
    """The commits of the table at `address`. `now` is in seconds since the epoch."""

    def __init__(self, address: str, now: Clock) -> None:
        self._address = address
        self._now = now

    def commit(
        self,
        actions: Sequence[AddAction | RemoveAction],
        written_at: float,
        schema: pa.Schema | None = None,
        marker: str | None = None,
        number: int = 1,
    ) -> None:
        """All actions or none, durably. `schema` is that of rows that are added, where the table may not have it yet. A
        `number` is kept under the `marker`.

        delta-rs itself tries again where another commit took the version; a commit that it gives up (the table was
        created or got a column meanwhile) is tried on the table as it is then. Files that have waited for their commit
        for so long that a vacuum may have deleted them are given up: the writer was frozen.
        """
        marks = CommitProperties(app_transactions=[Transaction(marker, number)]) if marker else None
        for attempt in range(1, ATTEMPTS + 1):
            try:
                delta = self.opened() if schema is None else self._fitting(schema)
                if delta is None:
                    raise Unavailable("log", f"{self._address}: its table is gone")
                if self._now() - written_at > RETENTION_HOURS * 3600 / 2:
                    raise Unavailable("log", f"{self._address}: the commit took so long that its files may be gone")
                delta.create_write_transaction(list(actions), "append", delta.schema(), [DAY], commit_properties=marks)
            except CommitFailedError:
                if attempt == ATTEMPTS:
                    raise
            else:
                table_files(self._address).settle(delta.version() + 1)
                return

    def _fitting(self, schema: pa.Schema) -> DeltaTable:
        """The table, created where it is not there, with all columns of `schema`."""
        wanted = DeltaSchema.from_arrow(schema)
        delta = self.opened()
        if delta is None:
            with_day = DeltaSchema.from_arrow(schema.append(pa.field(DAY, pa.date32())))
            delta = DeltaTable.create(
                self._address, with_day, partition_by=[DAY], mode="ignore", configuration=CONFIGURATION
            )
            table_files(self._address).settle(0)
        there = {field.name: field.type for field in delta.schema().fields}
        odd = [field.name for field in wanted.fields if there.get(field.name, field.type) != field.type]
        if odd:
            raise InvalidInput(self._address, odd, "columns of another type than in the table")
        added = [field for field in wanted.fields if field.name not in there]
        if added:
            delta.alter.add_columns(added)
            table_files(self._address).settle(delta.version())
            return self._fitting(schema)
        return delta

    def opened(self) -> DeltaTable | None:
        """The table as it is now; None where there is none yet."""
        try:
            delta = DeltaTable(self._address)
        except TableNotFoundError:
            return None
        protocol = delta.protocol().min_reader_version
        if protocol > READABLE_PROTOCOL:
            problem = f"needs readers of Delta protocol {READABLE_PROTOCOL}: another engine has raised it"
            raise InvalidInput(self._address, protocol, problem)
        return delta


@contextmanager
def as_unavailable(address: str) -> Iterator[None]:
    """What the disk or the store of the table at `address` refuses is raised as `Unavailable`."""
    try:
        yield
    except (OSError, DeltaError, BaseError) as error:
        raise Unavailable("log", f"{address}: {_one_line(error)}") from error


def _one_line(error: Any) -> str:
    """What went wrong, without the colours and line breaks of delta-rs."""
    return " ".join(re.sub(r"\x1b\[\d+m↳?", "", str(error)).split())
