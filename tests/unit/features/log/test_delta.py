"""A table of the training log: rows whole or not there, whatever stops when; corrupt files skipped by name."""

import json
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
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake

from features.log import delta
from features.log.commits import CONFIGURATION, RETENTION_HOURS
from features.log.delta import DayTable, DueDays
from features.log.objects import LEFT_BEHIND, LocalFiles
from features.log.parquet import read_parquet
from features.log.rows import RANKING_ROWS, each_once, rankings_table
from foretaste.kernel.errors import InvalidInput, Unavailable
from tests.log_factory import FIRST, at, ranked

COLUMNS = ["ranking_id", "user_id", "at", "items"]
LATER = date(2027, 1, 1)
once = partial(each_once, kind=RANKING_ROWS)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "rankings"


@pytest.fixture
def table(folder: Path) -> DayTable:
    return DayTable(str(folder), "at")


def rows(*ids: str, when: datetime = FIRST) -> pa.Table:
    return rankings_table([ranked(each, when) for each in ids])


def found(table: DayTable, since: datetime | None = None, until: datetime | None = None) -> list[str]:
    return sorted(map(str, table.read(COLUMNS, since, until).table["ranking_id"].to_pylist()))


def files(table: DayTable) -> list[str]:
    return sorted(path for paths in table.files().values() for path in paths)


def on_disk(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.glob("day=*/*"))


def added(table: DayTable, data: pa.Table) -> Path:
    """The file that the rows lie in."""
    before = files(table)
    table.append(data)
    (path,) = set(files(table)) - set(before)
    return Path(table.address, path)


def test_rows_lie_in_the_folder_of_their_day(table: DayTable, folder: Path) -> None:
    table.append(pa.concat_tables([rows("a"), rows("b", when=at(1.5)), rows("c", when=at(0.999))]))
    assert [len(paths) for _, paths in sorted(table.files().items())] == [1, 1]
    assert [name.split("/")[0] for name in on_disk(folder)] == ["day=2026-01-01", "day=2026-01-02"]
    assert files(table) == on_disk(folder)
    assert found(table) == ["a", "b", "c"]
    assert DeltaTable(folder).version() == 1, "the table, and one commit for both days"


def test_no_rows_are_no_commit(table: DayTable, folder: Path) -> None:
    table.append(rows())
    assert not folder.exists()


def test_any_reader_of_delta_lake_reads_it(table: DayTable, folder: Path) -> None:
    table.append(rows("a", "b"))
    table.append(rows("c", when=at(1)))
    delta = DeltaTable(folder)
    assert delta.metadata().partition_columns == ["day"]
    assert dict(delta.metadata().configuration) == CONFIGURATION
    of_day = delta.to_pyarrow_table(filters=[("day", "=", FIRST.date())])
    assert sorted(map(str, of_day["ranking_id"].to_pylist())) == ["a", "b"]
    assert of_day["items"].to_pylist() == [["i1", "i2"]] * 2
    assert pa.table(delta.get_add_actions(flatten=True))["num_records"].to_pylist() == [1, 2]


def test_a_file_is_compressed_and_has_checksums(table: DayTable) -> None:
    path = added(table, rows(*map(str, range(1000))))
    column = pq.ParquetFile(path).metadata.row_group(0).column(0)
    assert column.compression == "ZSTD"
    data = bytearray(path.read_bytes())
    data[column.data_page_offset + column.total_compressed_size // 2] ^= 1
    path.write_bytes(data)
    assert list(table.read(COLUMNS).skipped) == [str(path)]


def test_only_the_days_asked_for_are_looked_at(table: DayTable) -> None:
    for day in range(3):
        table.append(rows(f"r{day}", when=at(day)))
    for name in files(table):
        if not name.startswith("day=2026-01-02"):
            Path(table.address, name).write_bytes(b"not looked at")
    within = table.read(COLUMNS, at(1), at(1.5))
    assert (within.table["ranking_id"].to_pylist(), list(within.skipped)) == (["r1"], [])
    assert len(table.read(COLUMNS, at(0), at(1)).skipped) == 1


def test_there_may_be_no_table(table: DayTable, folder: Path) -> None:
    for _ in range(2):
        assert found(table) == []
        assert table.read(COLUMNS).table.column_names == COLUMNS
        assert list(table.compact(LATER, once).days) == []
        assert table.expire(LATER) == []
        assert not table.has("mark")
        folder.mkdir(exist_ok=True)


@pytest.mark.parametrize(
    "content",
    [
        lambda good: b"",
        lambda good: b"PAR1",
        lambda good: good[: len(good) // 2],
        lambda good: good[:-1],
        lambda good: b"\0" * len(good),
        lambda good: None,
    ],
    ids=["empty", "magic alone", "half", "one byte short", "zeros", "lost"],
)
def test_a_corrupt_file_is_skipped_named_and_left_by_compaction(
    table: DayTable, content: Callable[[bytes], bytes | None]
) -> None:
    bad = added(table, rows("bad"))
    table.append(rows("a"))
    table.append(rows("b"))
    damaged = content(bad.read_bytes())
    if damaged is None:
        bad.unlink()
    else:
        bad.write_bytes(damaged)
    assert found(table) == ["a", "b"]
    assert list(table.read(COLUMNS).skipped) == [str(bad)]
    for _ in range(2):
        assert list(table.compact(LATER, once).skipped) == [str(bad)]
        assert found(table) == ["a", "b"]
        assert len(files(table)) == 2


def test_a_file_of_other_columns_is_read_as_far_as_it_fits(table: DayTable, folder: Path) -> None:
    """Later versions add columns; what is of another kind altogether is not the log's."""
    for each in ("a", "b"):
        table.append(rows(each))
    table.append(rows("newer").append_column("added", pa.array([7])))
    table.append(rows("older").drop_columns(["items"]))
    skipped, skipped_too = added(table, rows("replaced")), added(table, rows("replaced too"))
    pq.write_table(rows("odd").set_column(3, "items", pa.array([5])), skipped)
    pq.write_table(rows("timeless").drop_columns(["at"]), skipped_too)
    all_read = table.read(COLUMNS)
    assert sorted(map(str, all_read.table["ranking_id"].to_pylist())) == ["a", "b", "newer", "older"]
    assert set(all_read.skipped) == {str(skipped), str(skipped_too)}
    table.compact(LATER, once)
    kept = table.read([*COLUMNS, "added"]).table
    assert sorted(zip(kept["ranking_id"].to_pylist(), kept["added"].to_pylist(), strict=True)) == [
        ("a", None),
        ("b", None),
        ("newer", 7),
        ("older", None),
    ]
    assert "added" in [field.name for field in DeltaTable(folder).schema().fields]


def test_rows_of_another_kind_are_not_taken(table: DayTable) -> None:
    table.append(rows("a"))
    with pytest.raises(InvalidInput, match=r"rankings: columns of another type than in the table \(got \['items'\]\)"):
        table.append(rows("odd").set_column(3, "items", pa.array([5])))
    assert found(table) == ["a"]


def test_compaction_makes_one_file_a_day_with_each_row_once(table: DayTable, folder: Path) -> None:
    for day in range(3):
        table.append(rows("x", f"r{day}", when=at(day)))
        table.append(rows(f"r{day}", f"s{day}", when=at(day, ms=0)))
    done = table.compact(at(2).date(), once)
    assert list(done.days) == [at(0).date(), at(1).date()]
    assert [name.split("/")[0] for name in files(table)] == [f"day=2026-01-0{day}" for day in (1, 2, 3, 3)]
    assert found(table, until=at(1.9)) == ["r0", "r1", "s0", "s1", "x", "x"]
    before = files(table)
    assert list(table.compact(at(2).date(), once).days) == []
    assert files(table) == before
    assert len(on_disk(folder)) == 8, "what was removed stays for whoever still reads it"
    table.vacuum(0)
    assert on_disk(folder) == before
    assert not any(add["dataChange"] for add in actions(folder, "add") if "compact-" in add["path"])


def actions(folder: Path, kind: str) -> list[dict[str, object]]:
    """Of all commits."""
    lines = [line for commit in sorted(folder.glob("_delta_log/*.json")) for line in commit.read_text().splitlines()]
    return [found[kind] for line in lines if kind in (found := json.loads(line))]


def test_rows_that_come_after_compaction_are_put_together_by_the_next(table: DayTable) -> None:
    table.append(rows("a"))
    table.compact(LATER, once)
    table.append(rows("a"))
    table.append(rows("b"))
    table.compact(LATER, once)
    assert len(files(table)) == 1
    assert found(table) == ["a", "b"]


def test_compaction_reads_no_file_to_learn_what_is_clear_without(
    table: DayTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    for day, ids in enumerate((["a"], ["b", "gone"], ["c"], ["gone"])):
        table.append(rows(*ids, when=at(day)))
    table.compact(at(2).date(), once)
    read: list[list[str] | None] = []

    def counted(file: pa.NativeFile, time: str, columns: list[str] | None = None) -> pa.Table | None:
        read.append(columns)
        return read_parquet(file, time, columns)

    def holds(rows: pa.Table) -> bool:
        return "gone" in rows["ranking_id"].to_pylist()

    def left(rows: pa.Table) -> pa.Table:
        return once(rows.filter(pc.field("ranking_id") != "gone"))

    monkeypatch.setattr(delta, "read_parquet", counted)
    done = table.compact(at(3).date(), left, due=DueDays(["ranking_id", "at"], holds))
    assert list(done.days) == [at(1).date(), at(2).date()]
    looks = [columns for columns in read if columns is not None]
    assert (len(looks), len(read) - len(looks)) == (2, 2), "one look a day that is one file, one read a day written"
    assert found(table) == ["a", "b", "c", "gone"]


def test_expiry_removes_whole_days(table: DayTable, folder: Path) -> None:
    for day in range(3):
        table.append(rows(f"r{day}", when=at(day)))
    assert table.expire(at(2).date()) == [at(0).date(), at(1).date()]
    assert found(table) == ["r2"]
    assert table.expire(at(2).date()) == []
    table.vacuum(0)
    assert on_disk(folder) == files(table)


def test_what_a_dead_writer_left_is_removed_and_a_living_ones_is_not(table: DayTable, folder: Path) -> None:
    table.append(rows("a"))
    (kept,) = files(table)
    commits = folder / "_delta_log"
    day = (folder / kept).parent
    left, written = day / "left.parquet", day / "written.parquet"
    half, being_written = commits / "00000000000000000009.json#1", commits / "00000000000000000009.json#2"
    now = (folder / kept).stat().st_mtime
    hours = RETENTION_HOURS * 3600
    for path, age in ((left, hours + 60), (written, hours - 60), (half, LEFT_BEHIND + 60), (being_written, 0)):
        path.write_bytes(b"half")
        os.utime(path, (now - age, now - age))
    assert found(table) == ["a"]
    table.compact(LATER, once)
    assert not left.exists()
    assert written.exists()
    assert not half.exists()
    assert being_written.exists()


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
            done.append(str(name))
            return real(*arguments, **named)

        return call

    with pytest.MonkeyPatch.context() as patch:
        for owner, name in (
            (os, "fsync"),
            (Path, "unlink"),
            (DeltaTable, "create"),
            (DeltaTable, "create_write_transaction"),
            (DeltaTable, "vacuum"),
        ):
            patch.setattr(owner, name, counted(name, getattr(owner, name)))
        yield done


def lists(table: DayTable) -> tuple[list[str], list[str]]:
    """Each row once, by day."""
    rows_read = once(table.read(COLUMNS).table)
    pairs = zip(rows_read["ranking_id"].to_pylist(), rows_read["at"].to_pylist(), strict=True)
    by_day: tuple[list[str], list[str]] = ([], [])
    for name, when in pairs:
        by_day[int(when >= at(1))].append(str(name))
    return by_day


OPERATIONS: dict[str, tuple[Callable[[DayTable], object], list[tuple[list[str], list[str]]]]] = {
    "append": (
        lambda table: table.append(pa.concat_tables([rows("new"), rows("newer", when=at(1))])),
        [(["a", "b"], ["c", "d"]), (["a", "b", "new"], ["c", "d", "newer"])],
    ),
    "compact": (lambda table: table.compact(LATER, once), [(["a", "b"], ["c", "d"])]),
    "expire": (lambda table: table.expire(LATER), [(["a", "b"], ["c", "d"]), ([], [])]),
}


@pytest.mark.parametrize("name", list(OPERATIONS))
def test_killed_at_any_change_no_row_is_lost_or_half_there_and_the_next_run_completes(
    tmp_path: Path, name: str
) -> None:
    operation, allowed = OPERATIONS[name]
    effect, ended = 0, False
    while not ended:
        table = DayTable(str(tmp_path / str(effect) / "rankings"), "at")
        for each, day in (("a", 0), ("b", 0), ("c", 1), ("d", 1)):
            table.append(rows(each, when=at(day)))
        with killed_at(effect) as changes:
            try:
                operation(table)
                ended = True
            except Killed:
                assert len(changes) == effect
        assert lists(table) in allowed
        assert not table.read(COLUMNS).skipped
        operation(table)
        assert lists(table) == allowed[-1]
        table.vacuum(0)
        assert len(on_disk(Path(table.address))) == len(files(table))
        if name != "append":
            assert len(files(table)) == (2 if name == "compact" else 0)
        effect += 1
    assert effect > 3


def test_killed_while_it_makes_the_table_the_next_write_makes_it(tmp_path: Path) -> None:
    effect, ended = 0, False
    while not ended:
        table = DayTable(str(tmp_path / str(effect)), "at")
        with killed_at(effect):
            try:
                table.append(rows("a"))
                ended = True
            except Killed:
                assert found(table) in ([], ["a"])
        table.append(rows("a"))
        assert set(found(table)) == {"a"}
        effect += 1
    assert effect > 3


def test_a_commit_that_the_power_went_before_is_none(table: DayTable, folder: Path) -> None:
    """Its name may have reached the disk without its content, before the writer made it durable and said so."""
    table.append(rows("a"))
    version = DeltaTable(folder).version()
    (folder / "_delta_log" / f"{version + 1:020}.json").touch()
    assert found(table) == ["a"]
    table.append(rows("b"))
    table.compact(LATER, once)
    assert found(table) == ["a", "b"]


def test_all_that_was_written_is_on_the_disk_before_it_is_said_to_be(
    table: DayTable, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    usual = os.fsync

    def noted(handle: int) -> None:
        synced.append(os.path.relpath(Path(f"/proc/self/fd/{handle}").readlink(), folder))
        usual(handle)

    monkeypatch.setattr(os, "fsync", noted)
    for number in range(11):
        synced.clear()
        table.append(rows(f"r{number}"))
        newest = DeltaTable(folder).version()
        assert {f"_delta_log/{newest:020}.json", "_delta_log", "day=2026-01-01", "."} <= set(synced)
        assert any(path.endswith(".parquet") and path.startswith("day=") for path in synced)
    checkpoints = [path.name for path in folder.glob("_delta_log/*.checkpoint.parquet")]
    assert checkpoints
    for path in folder.rglob("*"):
        assert "#" not in path.name


def test_the_folders_above_a_new_table_are_on_the_disk_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    usual = os.fsync

    def noted(handle: int) -> None:
        synced.append(os.path.relpath(Path(f"/proc/self/fd/{handle}").readlink(), tmp_path))
        usual(handle)

    monkeypatch.setattr(os, "fsync", noted)
    DayTable(str(tmp_path / "home" / "log" / "rankings"), "at").append(rows("a"))
    table = "home/log/rankings"
    assert [each for each in (".", "home", "home/log", table) if each not in synced] == []
    commits = synced.index(f"{table}/_delta_log")
    assert table in synced[commits:], "delta-rs makes the folder of commits after the table's own was brought there"


def test_a_full_disk_is_unavailable_and_leaves_nothing(
    table: DayTable, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table.append(rows("a"))
    table.append(rows("a"))

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(Unavailable, match=r"log is not available: .*rankings: .*No space left on device"):
        table.append(rows("b"))
    with pytest.raises(Unavailable, match="No space left"):
        table.compact(LATER, once)
    monkeypatch.undo()
    assert set(found(table)) == {"a"}
    assert on_disk(folder) == files(table)


def test_a_writer_that_was_frozen_gives_up_files_that_may_be_deleted(folder: Path) -> None:
    times = iter([0.0, 0.0, RETENTION_HOURS * 3600.0])
    with pytest.raises(Unavailable, match="took so long that its files may be gone"):
        DayTable(str(folder), "at", now=lambda: next(times)).append(rows("a"))
    table = DayTable(str(folder), "at")
    assert found(table) == []
    table.append(rows("a"))
    assert found(table) == ["a"]


def test_a_reader_sees_each_row_while_others_write_and_compact(table: DayTable) -> None:
    written: list[str] = []
    stopped = threading.Event()

    def write() -> None:
        for number in range(75):
            table.append(rows(f"r{number}", f"s{number}", when=at(number % 2)))
            written.extend((f"r{number}", f"s{number}"))
        stopped.set()

    def put_together() -> None:
        while not stopped.is_set():
            table.compact(LATER, once)

    with ThreadPoolExecutor() as others:
        running = [others.submit(write), others.submit(put_together)]
        while not stopped.is_set() and not any(each.done() for each in running):
            known = set(written)
            read = table.read(COLUMNS)
            seen = once(read.table)["ranking_id"].to_pylist()
            assert not read.skipped
            assert len(seen) == len(set(seen))
            assert known <= set(seen)
        stopped.set()
        for each in running:
            each.result()


def test_files_that_are_deleted_while_they_are_read_are_read_from_the_next_version(
    table: DayTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    for each in ("a", "b", "c"):
        table.append(rows(each))
    opened: list[str] = []
    usual = LocalFiles.open

    def replaced(self: LocalFiles, path: str) -> pa.NativeFile:
        opened.append(path)
        if len(opened) == 2:
            DayTable(table.address, "at").compact(LATER, once)
            DayTable(table.address, "at").vacuum(0)
        return usual(self, path)

    monkeypatch.setattr(LocalFiles, "open", replaced)
    read = table.read(COLUMNS)
    assert sorted(map(str, read.table["ranking_id"].to_pylist())) == ["a", "b", "c"]
    assert not read.skipped


def test_many_writers_at_once_lose_nothing(table: DayTable) -> None:
    """Each makes the table, and one brings a column that the others lack."""

    def write(writer: int) -> None:
        mine = DayTable(table.address, "at")
        for number in range(15):
            data = rows(f"{writer}.{number}", when=at(number % 3))
            mine.append(data.append_column("added", pa.array([1])) if writer == 0 and number == 7 else data)

    with ThreadPoolExecutor(4) as writers:
        list(writers.map(write, range(4)))
    assert found(table) == sorted(f"{writer}.{number}" for writer in range(4) for number in range(15))


def test_old_commits_go_and_the_table_stays(table: DayTable, folder: Path) -> None:
    for number in range(20):
        table.append(rows(f"r{number}"))
    for path in folder.glob("_delta_log/*"):
        os.utime(path, (0, 0))
    table.compact(LATER, once)
    commits = [int(path.stem) for path in folder.glob("_delta_log/*.json")]
    assert min(commits) > 20
    table.append(rows("r20"))
    assert len(found(table)) == 21


def test_a_table_that_another_engine_made_unreadable_is_named(table: DayTable, folder: Path) -> None:
    write_deltalake(
        folder, pa.table({"at": pa.array([FIRST])}), configuration={"delta.enableDeletionVectors": "true"}, name="x"
    )
    with pytest.raises(InvalidInput, match="needs readers of Delta protocol 1: another engine has raised it"):
        table.read(["at"])


def test_a_marker_is_kept_with_its_rows(table: DayTable) -> None:
    table.append(rows("a"), "first")
    assert (table.has("first"), table.has("second")) == (True, False)
    table.append(rows("b"), "second")
    table.compact(LATER, once)
    assert (table.has("first"), table.has("second")) == (True, True)


def test_a_naive_time_is_utc(table: DayTable) -> None:
    data = rows("a")
    naive = data.set_column(2, "at", data["at"].cast(pa.timestamp("us")))
    table.append(naive)
    assert found(table, datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=UTC)) == ["a"]
