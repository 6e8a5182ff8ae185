"""One table of the training log: a Delta table by day (UTC), on the local disk or in an object store.

    rankings/_delta_log/…                            what belongs to the table, commit by commit
    rankings/day=2026-01-31/1f0c….parquet            rows as they were written
    rankings/day=2026-01-30/compact-83ab….parquet    a day's rows together

delta-rs keeps the table: commits, checkpoints, vacuum. The files of rows are written and read here, since delta-rs
neither makes a file on a disk durable, nor writes checksums, nor reads past a corrupt file (decision 29).
A file is never changed. It counts from the commit that adds it, and until the one that removes it.
"""

import json
import time
import uuid
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, date, datetime

import pyarrow as pa
from deltalake.transaction import AddAction, RemoveAction

from features.log.commits import ATTEMPTS, DAY, RETENTION_HOURS, TableCommits, as_unavailable
from features.log.objects import table_files
from features.log.parquet import by_day, parquet_bytes, read_parquet, together, with_time
from features.log.rows import between
from foretaste.kernel.errors import Unavailable
from foretaste.kernel.ports import Clock, CompactedDays

COMPACT = "compact-"


@dataclass(frozen=True, eq=False, slots=True)
class FoundRows:
    """Rows that were read, and the files that could not be."""

    table: pa.Table
    skipped: Sequence[str]


@dataclass(frozen=True, slots=True)
class DueDays:
    """Which days `DayTable.compact` writes anew though each is one file."""

    columns: Sequence[str]
    """What is looked at."""
    holds: Callable[[pa.Table], bool]
    """Whether a file with these columns is a reason."""


class DayTable:
    """A Delta table at `address` (a folder, or `s3://bucket/prefix`, `gs://…`, `abfss://…`), by the day of a column.

    It is created by the first write. `time` names the column of times. All methods block; any number of processes may
    call any of them at once. They raise `Unavailable` when the disk or the store refuses.
    """

    def __init__(self, address: str, time: str, *, now: Clock = time.time) -> None:
        self._commits = TableCommits(address, now)
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
        with as_unavailable(self.address):
            written_at = self._now()
            table = with_time(table, self._time)
            adds = [self._put(day, rows) for day, rows in by_day(table, self._time)]  # 1
            self._commits.commit(adds, written_at, table.schema, marker)  # 2, 3

    def has(self, marker: str) -> bool:
        """Whether rows were appended under this marker."""
        with as_unavailable(self.address):
            delta = self._commits.opened()
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

        with as_unavailable(self.address):
            tables, unreadable = self._read(is_asked_for, columns, wanted)
        table, odd = together(tables, columns)
        return FoundRows(table, [self._place(path) for path in (*unreadable, *odd)])

    def matching(self, columns: Sequence[str], wanted: Callable[[pa.Table], pa.Table]) -> FoundRows:
        """Of each file, the rows of these columns and the times that `wanted` leaves; `skipped` as for `read`."""
        with as_unavailable(self.address):
            tables, unreadable = self._read(lambda _: True, [*columns, self._time], wanted)
        table, odd = together(tables, columns)
        return FoundRows(table, [self._place(path) for path in (*unreadable, *odd)])

    def compact(
        self,
        before: date,
        each_once: Callable[[pa.Table], pa.Table],
        ended: Callable[[], bool] = lambda: False,
        due: "DueDays | None" = None,
    ) -> CompactedDays:
        """One file for each day before `before`, its rows as `each_once` gives them; none where it gives none.

        A day that is one file already stays as it is, but for those that are `due`. Once `ended` says so, no other day
        is begun.
        1. A day's files are read. One that cannot be stays as it is.
        2. Their rows are written as one file.
        3. One commit adds it and removes those that were read: files added meanwhile stay.
        4. At the end, files that have not belonged to the table for `RETENTION_HOURS` are deleted.
        Killed anywhere, it changes no answer. Two at once leave rows twice at worst, for the next one to put together.
        """
        days: list[date] = []
        skipped: list[str] = []
        with as_unavailable(self.address):
            for day, paths in sorted(self.files().items()):
                if ended():
                    break
                if day >= before or (_is_compact(paths) and (due is None or not self._is_due(day, due))):
                    continue
                tables, unreadable = self._read(day.__eq__)  # 1
                is_due = due is not None and any(map(due.holds, tables.values()))
                names = list(dict.fromkeys(name for table in tables.values() for name in table.column_names))
                table, odd = together(tables, names)
                skipped += [self._place(path) for path in (*unreadable, *odd)]
                read = [path for path in tables if path not in odd]
                if read and (is_due or not _is_compact(read)):
                    self._replace(day, read, each_once(table), data_change=is_due)  # 2, 3
                    days.append(day)
            if not ended():
                self.vacuum()  # 4
        return CompactedDays(days, skipped)

    def expire(self, before: date) -> list[date]:
        """Remove the days before `before` from the table, in one commit; the days. `vacuum` deletes their files."""
        with as_unavailable(self.address):
            expired = {day: paths for day, paths in self.files().items() if day < before}
            removes = [self._remove(day, path, data_change=True) for day, paths in expired.items() for path in paths]
            if removes:
                self._commits.commit(removes, self._now())
        return sorted(expired)

    def vacuum(self, hours: int = RETENTION_HOURS) -> None:
        """Delete files that were removed, or were written and never added, so many hours ago; and old commits."""
        with as_unavailable(self.address):
            delta = self._commits.opened()
            if delta is not None:
                delta.vacuum(hours, dry_run=False, enforce_retention_duration=False, full=True)
                delta.create_checkpoint()
                delta.cleanup_metadata()
                files = table_files(self.address)
                files.settle(delta.version())
                files.sweep(self._now)

    def version(self) -> int:
        """Which rises with each commit; -1 where there is no table."""
        with as_unavailable(self.address):
            delta = self._commits.opened()
        return -1 if delta is None else delta.version()

    def mark(self, name: str, number: int) -> None:
        """Keep a number under a name with the table, where there is one."""
        with as_unavailable(self.address):
            if self._commits.opened() is not None:
                self._commits.commit([], self._now(), marker=name, number=number)

    def marked(self, name: str) -> int:
        """The number that was kept under a name last; -1 for none."""
        with as_unavailable(self.address):
            delta = self._commits.opened()
            number = None if delta is None else delta.transaction_version(name)
        return -1 if number is None else number

    def files(self) -> Mapping[date, Sequence[str]]:
        """The paths of each day's files in the table, as it has them now."""
        found: defaultdict[date, list[str]] = defaultdict(list)
        with as_unavailable(self.address):
            delta = self._commits.opened()
        if delta is not None:
            actions = pa.table(delta.get_add_actions(flatten=True)).select(["path", f"partition.{DAY}"])
            for path, day in zip(*(column.to_pylist() for column in actions.columns), strict=True):
                found[day].append(path)
        return found

    def _is_due(self, day: date, due: "DueDays") -> bool:
        tables, _ = self._read(day.__eq__, due.columns)
        return any(due.holds(table) for table in tables.values())

    def _replace(self, day: date, paths: Sequence[str], table: pa.Table, *, data_change: bool) -> None:
        """Steps 2 and 3 of `compact`."""
        written_at = self._now()
        adds = [self._put(day, table, COMPACT)] if len(table) else []
        removes = [self._remove(day, path, data_change=data_change) for path in paths]
        self._commits.commit([*adds, *removes], written_at)

    def _put(self, day: date, table: pa.Table, prefix: str = "") -> AddAction:
        """Write a file; what adds it to the table."""
        data = parquet_bytes(table)
        path = f"{DAY}={day.isoformat()}/{prefix}{uuid.uuid4().hex}.parquet"
        table_files(self.address).put(path, data)
        stats = json.dumps({"numRecords": len(table)})
        return AddAction(path, data.size, {DAY: day.isoformat()}, self._now_ms(), not prefix, stats)

    def _remove(self, day: date, path: str, *, data_change: bool) -> RemoveAction:
        return RemoveAction(path, data_change, self._now_ms(), None, {DAY: day.isoformat()})

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

    def _place(self, path: str) -> str:
        return f"{self.address}/{path}"

    def _now_ms(self) -> int:
        return round(self._now() * 1000)


def _day_of(time: datetime) -> date:
    return time.astimezone(UTC).date()


def _is_compact(paths: Sequence[str]) -> bool:
    return len(paths) == 1 and paths[0].rpartition("/")[2].startswith(COMPACT)
