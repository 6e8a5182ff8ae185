"""Training logs of earlier versions, Parquet files in one folder a day, brought into the tables of today.

OLD/data/rankings/day=2026-01-31/….parquet
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from features.log.delta import DayTable
from features.log.objects import table_address
from features.log.parquet import read_parquet
from features.log.rows import BEHAVIOUR_ROWS, EVENT_TIME, RANKING_ROWS, RowKind, conformed, each_once
from foretaste.kernel.errors import InvalidInput, Unavailable


@dataclass(frozen=True, slots=True)
class ConvertedLog:
    """What a conversion did. A day of rankings and the same day of behaviours are two."""

    days: int
    """Days that were added, with `rows` rows."""
    rows: int
    already: int
    """Days that an earlier run had added."""
    skipped: Sequence[Path]
    """Files that could not be read; they stay, as all others do."""


def convert(old: Path, address: str, progress: Callable[[int, int], None]) -> ConvertedLog:
    """Bring the log of an earlier version in the folder `old` into the tables under `address`, day by day.

    1. A day's files are read. One that cannot be is named.
    2. Their rows are added to the table in one commit, which keeps a mark of the files that they come from.
    Killed anywhere, the next run goes on: a day whose files are marked is not added again. Files that have come, or can
    be read again, since then make it another day, whose rows are added once more and read once all the same. Nothing of
    `old` is changed. `progress` is told the days that are done, and of how many. Raises `InvalidInput` where there is
    no such log, `Unavailable` when a disk or a store refuses.
    """
    days = [(kind, place) for kind in (RANKING_ROWS, BEHAVIOUR_ROWS) for place in older_days(old, kind)]
    if not days:
        raise InvalidInput("convert", str(old), "expected the folder of an older log, with data/rankings/day=…")
    written, rows, already = 0, 0, 0
    skipped: list[Path] = []
    for done, (kind, place) in enumerate(days, 1):
        table = DayTable(table_address(address, kind.name), EVENT_TIME)
        read, unreadable = _read_day(place, kind)  # 1
        skipped += unreadable
        marker = _marker(place, list(read))
        if read and table.has(marker):
            already += 1
        elif read:
            of_day = each_once(pa.concat_tables(read.values()), kind, EVENT_TIME)
            table.append(of_day, marker)  # 2
            written += 1
            rows += len(of_day)
        progress(done, len(days))
    return ConvertedLog(written, rows, already, skipped)


def older_days(old: Path, kind: RowKind) -> list[Path]:
    """The folders of the days that a log of an earlier version has, in order."""
    return sorted((old / "data" / kind.name).glob("day=????-??-??"))


def _marker(place: Path, files: Sequence[Path]) -> str:
    names = "\n".join(path.name for path in files)  # an older file is named by its content
    return f"converted {place.name} {hashlib.sha256(names.encode()).hexdigest()}"


def _read_day(place: Path, kind: RowKind) -> tuple[Mapping[Path, pa.Table], Sequence[Path]]:
    """Tables by file, and the files that cannot be read."""
    files = sorted(place.glob("*.parquet"))
    read = {path: table for path in files if (table := _read_file(path, kind)) is not None}
    return read, [path for path in files if path not in read]


def _read_file(path: Path, kind: RowKind) -> pa.Table | None:
    schema = pa.schema([field.with_name(EVENT_TIME) if field.name == "at" else field for field in kind.schema])
    try:
        with pa.OSFile(str(path), "r") as file:
            table = read_parquet(file, EVENT_TIME)
        return None if table is None else conformed(table, schema)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return None
    except OSError as error:
        raise Unavailable("log", f"{path}: {error}") from error
