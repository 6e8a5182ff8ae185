"""The training log's files: whole or not there, whatever stops when, and skipped by name where they are corrupt."""

import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, date, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from features.log import files as log_files
from features.log.files import STALE_SECONDS, append, compact, expire, read
from features.log.rows import RANKING_ROWS, each_once, rankings_table
from foretaste.kernel.errors import Unavailable
from tests.log_factory import FIRST, at, ranked

COLUMNS = ["ranking_id", "user_id", "at", "items"]
LATER = date(2027, 1, 1)
NOW = 0.0
once = partial(each_once, kind=RANKING_ROWS)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "data" / "rankings"


def rows(*ids: str, when: datetime = FIRST) -> pa.Table:
    return rankings_table([ranked(each, when) for each in ids])


def found(folder: Path, since: datetime | None = None, until: datetime | None = None) -> list[str]:
    return sorted(map(str, read(folder, COLUMNS, "at", since, until).table["ranking_id"].to_pylist()))


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def hidden(folder: Path) -> list[Path]:
    return list((folder.parent / ".rankings").glob("*"))


def test_rows_lie_in_the_folder_of_their_day_and_nothing_else_is_left(folder: Path) -> None:
    append(folder, pa.concat_tables([rows("a"), rows("b", when=at(1.5)), rows("c", when=at(0.999))]), "at")
    days = [Path(name).parts for name in files(folder)]
    assert [len(parts) for parts in days] == [2, 2]
    assert [parts[0] for parts in days] == ["day=2026-01-01", "day=2026-01-02"]
    assert hidden(folder) == []
    assert found(folder) == ["a", "b", "c"]


def test_the_same_rows_are_the_same_file(folder: Path) -> None:
    assert append(folder, rows("a", "b"), "at") == append(folder, rows("a", "b"), "at")
    assert len(files(folder)) == 1
    append(folder, rows("b", "a"), "at")
    assert len(files(folder)) == 2


def test_a_file_is_compressed_and_has_checksums(folder: Path) -> None:
    (path,) = append(folder, rows(*map(str, range(1000))), "at")
    column = pq.ParquetFile(path).metadata.row_group(0).column(0)
    assert column.compression == "ZSTD"
    data = bytearray(path.read_bytes())
    data[column.data_page_offset + column.total_compressed_size // 2] ^= 1
    path.write_bytes(data)
    assert list(read(folder, COLUMNS, "at").skipped) == [path]


def test_only_the_days_asked_for_are_looked_at(folder: Path) -> None:
    for day in range(3):
        append(folder, rows(f"r{day}", when=at(day)), "at")
    for name in files(folder):
        if not name.startswith("day=2026-01-02"):
            (folder / name).write_bytes(b"not looked at")
    within = read(folder, COLUMNS, "at", at(1), at(1.5))
    assert (within.table["ranking_id"].to_pylist(), list(within.skipped)) == (["r1"], [])
    assert len(read(folder, COLUMNS, "at", at(0), at(1)).skipped) == 1


def test_there_may_be_no_folder(folder: Path) -> None:
    assert found(folder) == []
    assert read(folder, COLUMNS, "at").table.column_names == COLUMNS
    assert compact(folder, LATER, "at", once, NOW).days == []
    assert expire(folder, LATER) == []


@pytest.mark.parametrize(
    "content",
    [
        lambda good: b"",
        lambda good: b"PAR1",
        lambda good: good[: len(good) // 2],
        lambda good: good[:-1],
        lambda good: b"\0" * len(good),
    ],
    ids=["empty", "magic alone", "half", "one byte short", "zeros"],
)
def test_a_corrupt_file_is_skipped_named_and_left_by_compaction(
    folder: Path, content: Callable[[bytes], bytes]
) -> None:
    (bad,) = append(folder, rows("bad"), "at")
    append(folder, rows("a"), "at")
    append(folder, rows("b"), "at")
    bad.write_bytes(content(bad.read_bytes()))
    assert found(folder) == ["a", "b"]
    assert list(read(folder, COLUMNS, "at").skipped) == [bad]
    for _ in range(2):
        assert list(compact(folder, LATER, "at", once, NOW).skipped) == [bad]
        assert found(folder) == ["a", "b"]
        assert len(files(folder)) == 2


def test_a_file_of_other_columns_is_read_as_far_as_it_fits(folder: Path) -> None:
    """Later versions add columns; what is of another kind altogether is not the log's."""
    for each in ("a", "b"):
        append(folder, rows(each), "at")
    newer = rows("newer").append_column("added", pa.array([7]))
    older = rows("older").drop_columns(["items"])
    append(folder, newer, "at")
    append(folder, older, "at")
    odd = rows("odd").set_column(3, "items", pa.array([5]))
    timeless = rows("timeless").drop_columns(["at"])
    (skipped,) = append(folder, odd, "at")
    (skipped_too,) = append(folder, rows("to be replaced"), "at")
    pq.write_table(timeless, skipped_too)
    all_read = read(folder, COLUMNS, "at")
    assert sorted(map(str, all_read.table["ranking_id"].to_pylist())) == ["a", "b", "newer", "older"]
    assert set(all_read.skipped) == {skipped, skipped_too}
    compact(folder, LATER, "at", once, NOW)
    kept = read(folder, [*COLUMNS, "added"], "at").table
    assert sorted(zip(kept["ranking_id"].to_pylist(), kept["added"].to_pylist(), strict=True)) == [
        ("a", None),
        ("b", None),
        ("newer", 7),
        ("older", None),
    ]


def test_compaction_makes_one_file_a_day_with_each_row_once(folder: Path) -> None:
    for day in range(3):
        append(folder, rows("x", f"r{day}", when=at(day)), "at")
        append(folder, rows(f"r{day}", f"s{day}", when=at(day, ms=0)), "at")
    done = compact(folder, at(2).date(), "at", once, NOW)
    assert list(done.days) == [at(0).date(), at(1).date()]
    assert [name.split("/")[0] for name in files(folder)] == [f"day=2026-01-0{day}" for day in (1, 2, 3, 3)]
    assert found(folder, until=at(1.9)) == ["r0", "r1", "s0", "s1", "x", "x"]
    before = files(folder)
    assert compact(folder, at(2).date(), "at", once, NOW).days == []
    assert files(folder) == before


def test_rows_that_come_after_compaction_are_put_together_by_the_next(folder: Path) -> None:
    append(folder, rows("a"), "at")
    compact(folder, LATER, "at", once, NOW)
    append(folder, rows("a"), "at")
    append(folder, rows("b"), "at")
    compact(folder, LATER, "at", once, NOW)
    assert len(files(folder)) == 1
    assert found(folder) == ["a", "b"]


def test_expiry_removes_whole_days(folder: Path) -> None:
    for day in range(3):
        append(folder, rows(f"r{day}", when=at(day)), "at")
    assert expire(folder, at(2).date()) == [at(0).date(), at(1).date()]
    assert found(folder) == ["r2"]
    assert hidden(folder) == []
    assert expire(folder, at(2).date()) == []


def test_what_a_dead_writer_left_is_removed_and_a_living_ones_is_not(folder: Path) -> None:
    append(folder, rows("a"), "at")
    left, written = folder.parent / ".rankings" / "left.tmp", folder.parent / ".rankings" / "written.tmp"
    for path, age in ((left, STALE_SECONDS + 1), (written, 1.0)):
        path.write_bytes(b"half")
        os.utime(path, (1e6 - age, 1e6 - age))
    compact(folder, LATER, "at", once, 1e6)
    assert hidden(folder) == [written]


class Killed(BaseException):
    """As good as SIGKILL: nothing after it has an effect."""


@contextmanager
def killed_at(effect: int) -> Iterator[list[str]]:
    """From the `effect`-th change of the disk on, none happens. Yields the changes that did."""
    done: list[str] = []

    def counted(name: str, real: Callable[..., object]) -> Callable[..., object]:
        def call(*arguments: object, **named: Any) -> object:
            if len(done) >= effect:
                raise Killed
            done.append(name)
            return real(*arguments, **named)

        return call

    with pytest.MonkeyPatch.context() as patch:
        for owner, name in ((os, "fsync"), (Path, "rename"), (Path, "unlink"), (log_files.shutil, "rmtree")):
            patch.setattr(owner, name, counted(name, getattr(owner, name)))
        yield done


def lists(folder: Path) -> tuple[list[str], list[str]]:
    """Each row once, by day."""
    rows_read = once(read(folder, COLUMNS, "at").table)
    pairs = zip(rows_read["ranking_id"].to_pylist(), rows_read["at"].to_pylist(), strict=True)
    by_day: tuple[list[str], list[str]] = ([], [])
    for name, when in pairs:
        assert isinstance(when, datetime)
        by_day[int(when >= at(1))].append(str(name))
    return by_day


OPERATIONS: dict[str, tuple[Callable[[Path], object], list[tuple[list[str], list[str]]]]] = {
    "append": (
        lambda folder: append(folder, pa.concat_tables([rows("new"), rows("newer", when=at(1))]), "at"),
        [(["a", "b"], ["c", "d"]), (["a", "b", "new"], ["c", "d"]), (["a", "b", "new"], ["c", "d", "newer"])],
    ),
    "compact": (lambda folder: compact(folder, LATER, "at", once, NOW), [(["a", "b"], ["c", "d"])]),
    "expire": (
        lambda folder: expire(folder, LATER),
        [(["a", "b"], ["c", "d"]), ([], ["c", "d"]), ([], [])],
    ),
}


@pytest.mark.parametrize("name", list(OPERATIONS))
def test_killed_at_any_change_no_row_is_lost_or_half_there_and_the_next_run_completes(
    tmp_path: Path, name: str
) -> None:
    operation, allowed = OPERATIONS[name]
    effect, ended = 0, False
    while not ended:
        folder = tmp_path / str(effect) / "rankings"
        for each, day in (("a", 0), ("b", 0), ("c", 1), ("d", 1)):
            append(folder, rows(each, when=at(day)), "at")
        with killed_at(effect) as changes:
            try:
                operation(folder)
                ended = True
            except Killed:
                assert len(changes) == effect
        assert lists(folder) in allowed
        assert not read(folder, COLUMNS, "at").skipped
        operation(folder)
        assert lists(folder) == allowed[-1]
        if name != "append":
            assert len(files(folder)) == (2 if name == "compact" else 0)
        effect += 1
    assert effect > 4


def test_a_full_disk_is_unavailable_and_leaves_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    append(folder, rows("a"), "at")

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(Unavailable, match=r"log is not available: .*rankings: .*No space left on device"):
        append(folder, rows("b"), "at")
    with pytest.raises(Unavailable, match="No space left"):
        compact(folder, LATER, "at", once, NOW)
    monkeypatch.undo()
    assert found(folder) == ["a"]
    assert hidden(folder) == []


def test_a_reader_sees_each_row_while_others_write_and_compact(folder: Path) -> None:
    written: list[str] = []
    stopped = threading.Event()

    def write() -> None:
        for number in range(75):
            append(folder, rows(f"r{number}", f"s{number}", when=at(number % 2)), "at")
            written.extend((f"r{number}", f"s{number}"))
        stopped.set()

    def put_together() -> None:
        while not stopped.is_set():
            compact(folder, LATER, "at", once, NOW)

    with ThreadPoolExecutor() as others:
        running = [others.submit(write), others.submit(put_together)]
        while not stopped.is_set() and not any(each.done() for each in running):
            known = set(written)
            seen = once(read(folder, COLUMNS, "at").table)["ranking_id"].to_pylist()
            assert len(seen) == len(set(seen))
            assert known <= set(seen)
        stopped.set()
        for each in running:
            each.result()


def test_a_naive_time_is_utc(folder: Path) -> None:
    table = rows("a")
    naive = table.set_column(2, "at", table["at"].cast(pa.timestamp("us")))
    append(folder, naive, "at")
    assert found(folder, datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=UTC)) == ["a"]
