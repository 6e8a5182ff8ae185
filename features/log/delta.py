"""One table of the training log: a Delta table by day (UTC), on the local disk or in an object store.

    rankings/_delta_log/…                            what belongs to the table, commit by commit
    rankings/day=2026-01-31/1f0c….parquet            rows as they were written
    rankings/day=2026-01-30/compact-83ab….parquet    a day's rows together

delta-rs keeps the table: commits, checkpoints, vacuum. The files of rows are written and read here, since delta-rs
neither makes a file on a disk durable, nor writes checksums, nor reads past a corrupt file (decision 29).
A file is never changed. It counts from the commit that adds it, and until the one that removes it.
"""

import json
import re
import time
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, Transaction
from deltalake import Schema as DeltaSchema
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError
from deltalake.transaction import AddAction, RemoveAction
from obstore.exceptions import BaseError

from features.log.objects import table_files
from features.log.parquet import by_day, parquet_bytes, read_parquet, together, with_time
from features.log.rows import between
from foretaste.kernel.errors import InvalidInput, Unavailable
from foretaste.kernel.ports import Clock, CompactedDays

DAY = "day"
COMPACT = "compact-"
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


@dataclass(frozen=True, eq=False, slots=True)
class FoundRows:
    """Rows that were read, and the files that could not be."""

    table: pa.Table
    skipped: Sequence[str]


class DayTable:
    """A Delta table at `address` (a folder, or `s3://bucket/prefix`, `gs://…`, `abfss://…`), by the day of a column.

    It is created by the first write. `time` names the column of times. All methods block; any number of processes may
    call any of them at once. They raise `Unavailable` when the disk or the store refuses.
    """

    def __init__(self, address: str, time: str, *, now: Clock = time.time) -> None:
        self.address = address
        self._time = time
        self._now = now

    def append(self, table: pa.Table, marker: str | None = None) -> None:
        """Add rows, all of them or none; on return they are durable. A `marker` is kept with them, see `has`.

        1. Each day's rows are written as one file, made durable, that nobody knows of yet.
        2. One commit adds the files.
        3. The commit is made durable.
        Raises `InvalidInput` for a column of another type than the table has.
        """
        if not len(table):
            return
        with self._as_unavailable():
            written_at = self._now()
            table = with_time(table, self._time)
            adds = [self._put(day, rows) for day, rows in by_day(table, self._time)]  # 1
            self._commit(adds, written_at, table.schema, marker)  # 2, 3

    def has(self, marker: str) -> bool:
        """Whether rows were appended under this marker."""
        with self._as_unavailable():
            delta = self._opened()
            return delta is not None and delta.transaction_version(marker) is not None

    def read(self, columns: Sequence[str], since: datetime | None = None, until: datetime | None = None) -> FoundRows:
        """The rows from `since` to `until`, both included, file by file; only the days between are looked at.

        A file that is corrupt or lost, or whose columns are of another kind than in most rows, is skipped and named. A
        column that a file lacks is null there.
        """

        def wanted(table: pa.Table) -> pa.Table:
            return between(table, self._time, since, until)

        def is_asked_for(day: date) -> bool:
            return (since is None or day >= _day_of(since)) and (until is None or day <= _day_of(until))

        with self._as_unavailable():
            tables, unreadable = self._read(is_asked_for, columns, wanted)
        table, odd = together(tables, columns)
        return FoundRows(table, [self._place(path) for path in (*unreadable, *odd)])

    def compact(
        self,
        before: date,
        each_once: Callable[[pa.Table], pa.Table],
        ended: Callable[[], bool] = lambda: False,
    ) -> CompactedDays:
        """One file for each day before `before`, its rows as `each_once` gives them.

        Once `ended` says so, no other day is begun.
        1. A day's files are read. One that cannot be stays as it is.
        2. Their rows are written as one file.
        3. One commit adds it and removes those that were read: files added meanwhile stay.
        4. At the end, files that have not belonged to the table for `RETENTION_HOURS` are deleted.
        Killed anywhere, it changes no answer. Two at once leave rows twice at worst, for the next one to put together.
        """
        days: list[date] = []
        skipped: list[str] = []
        with self._as_unavailable():
            for day, paths in sorted(self.files().items()):
                if ended():
                    break
                if day >= before or _is_compact(paths):
                    continue
                tables, unreadable = self._read(day.__eq__)  # 1
                names = list(dict.fromkeys(name for table in tables.values() for name in table.column_names))
                table, odd = together(tables, names)
                skipped += [self._place(path) for path in (*unreadable, *odd)]
                read = [path for path in tables if path not in odd]
                if read and not _is_compact(read):
                    self._replace(day, read, each_once(table))  # 2, 3
                    days.append(day)
            if not ended():
                self.vacuum()  # 4
        return CompactedDays(days, skipped)

    def expire(self, before: date) -> list[date]:
        """Remove the days before `before` from the table, in one commit; the days. `vacuum` deletes their files."""
        with self._as_unavailable():
            expired = {day: paths for day, paths in self.files().items() if day < before}
            removes = [self._remove(day, path, data_change=True) for day, paths in expired.items() for path in paths]
            if removes:
                self._commit(removes, self._now())
        return sorted(expired)

    def vacuum(self, hours: int = RETENTION_HOURS) -> None:
        """Delete files that were removed, or were written and never added, so many hours ago; and old commits."""
        with self._as_unavailable():
            delta = self._opened()
            if delta is not None:
                delta.vacuum(hours, dry_run=False, enforce_retention_duration=False, full=True)
                delta.create_checkpoint()
                delta.cleanup_metadata()
                files = table_files(self.address)
                files.settle(delta.version())
                files.sweep(self._now)

    def files(self) -> Mapping[date, Sequence[str]]:
        """The paths of each day's files in the table, as it has them now."""
        found: defaultdict[date, list[str]] = defaultdict(list)
        with self._as_unavailable():
            delta = self._opened()
        if delta is not None:
            actions = pa.table(delta.get_add_actions(flatten=True)).select(["path", f"partition.{DAY}"])
            for path, day in zip(*(column.to_pylist() for column in actions.columns), strict=True):
                found[day].append(path)
        return found

    def _replace(self, day: date, paths: Sequence[str], table: pa.Table) -> None:
        """Steps 2 and 3 of `compact`."""
        written_at = self._now()
        add = self._put(day, table, COMPACT)
        self._commit([add, *(self._remove(day, path, data_change=False) for path in paths)], written_at)

    def _put(self, day: date, table: pa.Table, prefix: str = "") -> AddAction:
        """Write a file; what adds it to the table."""
        data = parquet_bytes(table)
        path = f"{DAY}={day.isoformat()}/{prefix}{uuid.uuid4().hex}.parquet"
        table_files(self.address).put(path, data)
        stats = json.dumps({"numRecords": len(table)})
        return AddAction(path, data.size, {DAY: day.isoformat()}, self._now_ms(), not prefix, stats)

    def _remove(self, day: date, path: str, *, data_change: bool) -> RemoveAction:
        return RemoveAction(path, data_change, self._now_ms(), None, {DAY: day.isoformat()})

    def _commit(
        self,
        actions: Sequence[AddAction | RemoveAction],
        written_at: float,
        schema: pa.Schema | None = None,
        marker: str | None = None,
    ) -> None:
        """All actions or none, durably. `schema` is that of rows that are added, where the table may not have it yet.

        delta-rs itself tries again where another commit took the version; a commit that it gives up (the table was
        created or got a column meanwhile) is tried on the table as it is then. Files that have waited for their commit
        for so long that a vacuum may have deleted them are given up: the writer was frozen.
        """
        marks = CommitProperties(app_transactions=[Transaction(marker, 1)]) if marker else None
        for attempt in range(1, ATTEMPTS + 1):
            try:
                delta = self._opened() if schema is None else self._fitting(schema)
                if delta is None:
                    raise Unavailable("log", f"{self.address}: its table is gone")
                if self._now() - written_at > RETENTION_HOURS * 3600 / 2:
                    raise Unavailable("log", f"{self.address}: the commit took so long that its files may be gone")
                delta.create_write_transaction(list(actions), "append", delta.schema(), [DAY], commit_properties=marks)
            except CommitFailedError:
                if attempt == ATTEMPTS:
                    raise
            else:
                table_files(self.address).settle(delta.version() + 1)
                return

    def _fitting(self, schema: pa.Schema) -> DeltaTable:
        """The table, created where it is not there, with all columns of `schema`."""
        wanted = DeltaSchema.from_arrow(schema)
        delta = self._opened()
        if delta is None:
            with_day = DeltaSchema.from_arrow(schema.append(pa.field(DAY, pa.date32())))
            delta = DeltaTable.create(
                self.address, with_day, partition_by=[DAY], mode="ignore", configuration=CONFIGURATION
            )
            table_files(self.address).settle(0)
        there = {field.name: field.type for field in delta.schema().fields}
        odd = [field.name for field in wanted.fields if there.get(field.name, field.type) != field.type]
        if odd:
            raise InvalidInput(self.address, odd, "columns of another type than in the table")
        added = [field for field in wanted.fields if field.name not in there]
        if added:
            delta.alter.add_columns(added)
            table_files(self.address).settle(delta.version())
            return self._fitting(schema)
        return delta

    def _read(
        self,
        is_asked_for: Callable[[date], bool],
        columns: Sequence[str] | None = None,
        wanted: Callable[[pa.Table], pa.Table] = lambda table: table,
    ) -> tuple[Mapping[str, pa.Table], Sequence[str]]:
        """Tables by path, and the paths that cannot be read, as of one version of the table.

        A file that is gone is one that was removed meanwhile, and then the table is looked at again; where it still
        belongs to the table, it is lost.
        """
        known: dict[str, pa.Table | None] = {}
        gone: set[str] = set()
        files = table_files(self.address)

        def read(path: str) -> None:
            try:
                with files.open(path) as file:
                    table = read_parquet(file, self._time, columns)
            except FileNotFoundError:
                gone.add(path)
            else:
                known[path] = None if table is None else wanted(table)

        for _ in range(ATTEMPTS):
            listed = sorted(path for day, paths in self.files().items() if is_asked_for(day) for path in paths)
            known |= dict.fromkeys(gone.intersection(listed))
            gone.clear()
            with ThreadPoolExecutor(files.readers) as readers:
                list(readers.map(read, [path for path in listed if path not in known]))
            if not gone:
                tables = {path: table for path in listed if (table := known[path]) is not None}
                return tables, [path for path in listed if path not in tables]
        raise Unavailable("log", f"{self.address}: its files were replaced {ATTEMPTS} times while they were read")

    def _opened(self) -> DeltaTable | None:
        """The table as it is now; None where there is none yet."""
        try:
            delta = DeltaTable(self.address)
        except TableNotFoundError:
            return None
        protocol = delta.protocol().min_reader_version
        if protocol > READABLE_PROTOCOL:
            problem = f"needs readers of Delta protocol {READABLE_PROTOCOL}: another engine has raised it"
            raise InvalidInput(self.address, protocol, problem)
        return delta

    def _place(self, path: str) -> str:
        return f"{self.address}/{path}"

    def _now_ms(self) -> int:
        return round(self._now() * 1000)

    @contextmanager
    def _as_unavailable(self) -> Iterator[None]:
        try:
            yield
        except (OSError, DeltaError, BaseError) as error:
            raise Unavailable("log", f"{self.address}: {_one_line(error)}") from error


def _day_of(time: datetime) -> date:
    return time.astimezone(UTC).date()


def _is_compact(paths: Sequence[str]) -> bool:
    return len(paths) == 1 and paths[0].rpartition("/")[2].startswith(COMPACT)


def _one_line(error: Any) -> str:
    """What went wrong, without the colours and line breaks of delta-rs."""
    return " ".join(re.sub(r"\x1b\[\d+m↳?", "", str(error)).split())
