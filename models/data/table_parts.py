"""Which files a table of a dataset folder consists of: one, or the parts that Spark and its like write."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote

from foretaste.kernel.errors import InvalidInput

SUFFIXES = (".parquet", ".csv")
_MISSING = "__HIVE_DEFAULT_PARTITION__"
"""What Hive and Spark write for a missing value in the name of a folder."""
_SHOWN = 20
"""Bytes on either side of one that is not UTF-8, at most."""


@dataclass(frozen=True, slots=True)
class TablePart:
    """One file. `keys`: columns that its folders' names give (`day=2026-03-01`), the same for all of its rows."""

    path: Path
    name: str
    """As errors name it: relative to the dataset's folder."""
    keys: Mapping[str, str | None] = field(default_factory=dict)

    @property
    def is_csv(self) -> bool:
        return self.path.suffix == ".csv"


@dataclass(frozen=True, slots=True)
class TableFile:
    """A table: its name as errors give it, and its parts in the order of their names."""

    name: str
    parts: tuple[TablePart, ...]


def table_file(folder: Path, stem: str) -> TableFile:
    """`stem`.parquet or `stem`.csv in the folder, each a file or a folder of parts, or a folder called `stem`.

    Raises `InvalidInput` where there is none, or more than one, and for a folder without parts or with other
    files beside them.
    """
    found = [path for suffix in (*SUFFIXES, "") if (path := folder / f"{stem}{suffix}").exists()]
    if not found:
        raise InvalidInput(str(folder), sorted(path.name for path in folder.iterdir()), f"needs {stem}.parquet or .csv")
    if len(found) > 1:
        raise InvalidInput(str(folder), [path.name for path in found], "holds the same table twice; keep one of them")
    path = found[0]
    return TableFile(path.name, _parts(path) if path.is_dir() else (TablePart(path, path.name),))


def _parts(folder: Path) -> tuple[TablePart, ...]:
    """The files below the folder, by name. What begins with `_` or `.` is no data (`_SUCCESS`)."""
    if (folder / "_delta_log").is_dir():
        problem = "is a Delta table, some of whose files may be deleted ones; write its rows out as Parquet"
        raise InvalidInput(folder.name, "_delta_log", problem)
    parts = []
    for path in sorted(folder.rglob("*")):
        below = path.relative_to(folder)
        if path.is_dir() or any(step.startswith(("_", ".")) for step in below.parts):
            continue
        if path.suffix not in SUFFIXES:
            raise InvalidInput(folder.name, str(below), "may hold .parquet or .csv files alone")
        parts.append(TablePart(path, f"{folder.name}/{below}", _keys(below)))
    kinds = {part.path.suffix for part in parts}
    if len(kinds) != 1:
        problem = "must hold files of one kind, .parquet or .csv" if kinds else "holds no .parquet and no .csv file"
        raise InvalidInput(folder.name, sorted(kinds), problem)
    return tuple(parts)


def _keys(below: Path) -> dict[str, str | None]:
    """What the folders' names say, as in `day=2026-03-01/country=NO/part-0.parquet`."""
    pairs = [step.partition("=") for step in below.parts[:-1] if "=" in step]
    return {unquote(name): None if value == _MISSING else unquote(value) for name, _, value in pairs}


def first_bytes_not_utf8(path: Path) -> tuple[int, bytes] | None:
    """The number of the first line that is not UTF-8, from 1 on, and some bytes around the place; None without one."""
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                line.decode()
            except UnicodeDecodeError as error:
                return number, line[max(error.start - _SHOWN, 0) : error.end + _SHOWN].strip()
    return None
