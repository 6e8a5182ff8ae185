"""The training log's files: Parquet (zstd, with checksums), whole or not there, in one folder a day (UTC).

    rankings/day=2026-01-31/1f0c….parquet           as it was written
    rankings/day=2026-01-30/compact-83ab….parquet   a day's rows together
    .rankings/                                      what is being written, or taken away: no reader looks here

A file is named by its content, so the same rows written again are the same file, and it is never changed. What is
removed was first written anew elsewhere, so whoever reads meanwhile may find rows twice, and never too few.
"""

import hashlib
import os
import shutil
import uuid
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from features.log.rows import TIME, between, conformed
from foretaste.kernel.errors import Unavailable

COMPACT = "compact-"
ROW_GROUP = 65_536
"""Rows, at most."""
STALE_SECONDS = 3600.0
"""After which a file that is still being written was left by a writer that died."""
ATTEMPTS = 20
"""At reading a day whose files are replaced meanwhile."""


_OF_DAY = "day="


@dataclass(frozen=True, eq=False, slots=True)
class Found:
    """Rows that were read, and the files that could not be."""

    table: pa.Table
    skipped: Sequence[Path]


@dataclass(frozen=True, slots=True)
class Compacted:
    """Days whose rows now lie in one file, and the files that could not be read, which stay as they are."""

    days: Sequence[date]
    skipped: Sequence[Path]


def append(folder: Path, table: pa.Table, time: str) -> list[Path]:
    """Add rows, by the day of their column `time`; the files that hold them, durable.

    1. Each day's rows are written whole, under a name of their own in the hidden folder, and made durable.
    2. The file is renamed to its place, and the renaming made durable.
    Raises `Unavailable` when the disk takes no more; days that were in place by then are the same files next time.
    """
    with _as_unavailable(folder):
        return [_put(folder, day, rows) for day, rows in _by_day(table, time)]


def read(
    folder: Path, columns: Sequence[str], time: str, since: datetime | None = None, until: datetime | None = None
) -> Found:
    """The rows from `since` to `until`, both included, file by file; only the days between are looked at.

    A file that is corrupt, or whose columns are of another kind than in most rows, is skipped and named. A column
    that a file lacks is null there.
    """
    parts: dict[Path, pa.Table] = {}
    skipped: list[Path] = []
    with _as_unavailable(folder):
        for day, place in _days(folder):
            if (since and day < since.date()) or (until and day > until.date()):
                continue
            of_day, unreadable = _read_day(place, time, columns)
            parts |= {path: between(table, time, since, until) for path, table in of_day.items()}
            skipped += unreadable
    table, odd = _together(parts, columns)
    return Found(table, [*skipped, *odd])


def compact(
    folder: Path,
    before: date,
    time: str,
    each_once: Callable[[pa.Table], pa.Table],
    now: float,
    ended: Callable[[], bool] = lambda: False,
) -> Compacted:
    """One file for each day before `before`, its rows as `each_once` gives them. `now` is in epoch seconds.

    Once `ended` says so, no other day is begun.
    1. A day's files are read. One that cannot be stays as it is.
    2. Their rows are written as one file, as `append` does.
    3. Only now the files that were read are removed: those written meanwhile stay.
    Killed anywhere, it leaves at worst rows twice, which a reader sees once and the next run puts together.
    Raises `Unavailable` when the disk takes no more.
    """
    days: list[date] = []
    skipped: list[Path] = []
    with _as_unavailable(folder):
        _remove_stale(folder, now)
        for day, place in _days(folder):
            if ended():
                break
            if day >= before or _is_compact(_files(place)):
                continue
            of_day, unreadable = _read_day(place, time)  # 1
            names = list(dict.fromkeys(name for table in of_day.values() for name in table.column_names))
            table, odd = _together(of_day, names)
            skipped += [*unreadable, *odd]
            read_files = [path for path in of_day if path not in odd]
            if read_files and not _is_compact(read_files):
                _replace(folder, day, each_once(table), read_files)
                days.append(day)
    return Compacted(days, skipped)


def expire(folder: Path, before: date) -> list[date]:
    """Remove the days before `before`, each at once for a reader; the days. Killed anywhere, the next run goes on.

    Raises `Unavailable` when the disk refuses.
    """
    hidden = _hidden(folder)
    with _as_unavailable(folder):
        expired = [(day, place) for day, place in _days(folder) if day < before]
        for _, place in expired:
            hidden.mkdir(parents=True, exist_ok=True)
            place.rename(hidden / f"{place.name}-{uuid.uuid4().hex}")
        for place in hidden.glob(f"{_OF_DAY}*"):
            shutil.rmtree(place)
    return [day for day, _ in expired]


def _replace(folder: Path, day: date, table: pa.Table, files: Sequence[Path]) -> None:
    """Steps 2 and 3 of `compact`."""
    whole = _put(folder, day, table, COMPACT)  # 2
    for path in files:  # 3
        if path != whole:
            path.unlink(missing_ok=True)
    _sync(whole.parent)


def _put(folder: Path, day: date, table: pa.Table, prefix: str = "") -> Path:
    data = _parquet(table)
    place = folder / f"{_OF_DAY}{day.isoformat()}" / f"{prefix}{hashlib.sha256(data).hexdigest()}.parquet"
    if not place.exists():
        hidden = _hidden(folder)
        hidden.mkdir(parents=True, exist_ok=True)
        place.parent.mkdir(parents=True, exist_ok=True)
        written = hidden / f"{uuid.uuid4().hex}.tmp"
        try:
            with written.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())  # 1
            written.rename(place)  # 2
        finally:
            written.unlink(missing_ok=True)
    _sync(place.parent)
    _sync(folder)
    return place


def _parquet(table: pa.Table) -> pa.Buffer:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd", write_page_checksum=True, row_group_size=ROW_GROUP)
    return sink.getvalue()


def _by_day(table: pa.Table, time: str) -> Iterator[tuple[date, pa.Table]]:
    days = table[time].cast(pa.date32())
    for day in pc.unique(days):
        yield day.as_py(), table.filter(pc.equal(days, day))


def _read_day(
    place: Path, time: str, columns: Sequence[str] | None = None
) -> tuple[dict[Path, pa.Table], Sequence[Path]]:
    """Tables by file, and the files that cannot be read, as of one instant.

    Files are listed once more after they were read: a day that was compacted meanwhile is looked at again.
    """
    known: dict[Path, pa.Table | None] = {}
    for _ in range(ATTEMPTS):
        listed = _files(place)
        try:
            known |= {path: _read_file(path, time, columns) for path in listed if path not in known}
        except FileNotFoundError:
            continue
        if all(path in known for path in _files(place) if path.name.startswith(COMPACT)):
            tables = {path: table for path in listed if (table := known[path]) is not None}
            return tables, [path for path in listed if path not in tables]
    raise Unavailable("log", f"{place}: its files were replaced {ATTEMPTS} times while they were read")


def _read_file(path: Path, time: str, columns: Sequence[str] | None) -> pa.Table | None:
    """The columns that the file has; None where it cannot be read."""
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            names = file.schema_arrow.names
            table = file.read([name for name in names if columns is None or name in columns])
        return table.set_column(table.schema.get_field_index(time), time, table[time].cast(TIME))
    except (FileNotFoundError, PermissionError):
        raise
    except (pa.ArrowException, OSError, KeyError):
        return None


def _together(parts: dict[Path, pa.Table], columns: Sequence[str]) -> tuple[pa.Table, Sequence[Path]]:
    """One table of `columns`, each of the type it has in most rows, and the files that do not fit."""
    types: defaultdict[str, Counter[pa.DataType]] = defaultdict(Counter)
    for table in parts.values():
        for name, kind in zip(table.schema.names, table.schema.types, strict=True):
            types[name][kind] += len(table)
    schema = pa.schema([(name, types[name].most_common(1)[0][0] if types[name] else pa.null()) for name in columns])
    fitting: list[pa.Table] = []
    odd: list[Path] = []
    for path, table in parts.items():
        try:
            fitting.append(conformed(table, schema))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            odd.append(path)
    return pa.concat_tables(fitting) if fitting else schema.empty_table(), odd


def _days(folder: Path) -> list[tuple[date, Path]]:
    """The days that there are, in order."""
    places = folder.glob(f"{_OF_DAY}????-??-??")
    return sorted((date.fromisoformat(place.name.removeprefix(_OF_DAY)), place) for place in places)


def _files(place: Path) -> list[Path]:
    """A day's files in the order of their names; none where the day is gone."""
    return sorted(place.glob("*.parquet"))


def _is_compact(files: Sequence[Path]) -> bool:
    return len(files) == 1 and files[0].name.startswith(COMPACT)


def _hidden(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}")


def _remove_stale(folder: Path, now: float) -> None:
    for path in _hidden(folder).glob("*.tmp"):
        with suppress(FileNotFoundError):  # renamed to its place meanwhile
            if now - path.stat().st_mtime > STALE_SECONDS:
                path.unlink()


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def _as_unavailable(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise Unavailable("log", f"{folder}: {error}") from error
