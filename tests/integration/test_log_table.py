"""A table of the training log on the disk and on a real S3 server: whatever is killed, corrupt or done at once."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from functools import partial
from pathlib import Path

import pytest

from features.log.convert import convert
from features.log.delta import DayTable
from features.log.rows import EVENT_TIME, RANKING_ROWS, each_once, rankings_table
from foretaste.kernel.errors import Unavailable
from tests.log_factory import at, ranked
from tests.s3_server import S3Server, s3_server
from tests.unit.features.log.test_convert import older_log

ROOT = Path(__file__).parents[2]
COLUMNS = ["ranking_id", "at"]
LATER = date(2027, 1, 1)
once = partial(each_once, kind=RANKING_ROWS)


@pytest.fixture(scope="module")
def server() -> Iterator[S3Server]:
    with s3_server() as running:
        yield running


@pytest.fixture(params=["disk", "s3"])
def address(request: pytest.FixtureRequest, tmp_path: Path, server: S3Server, monkeypatch: pytest.MonkeyPatch) -> str:
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    return str(tmp_path / "rankings") if request.param == "disk" else server.address()


@pytest.fixture
def overwrite(server: S3Server) -> Callable[[str, bytes], None]:
    def of(path: str, data: bytes) -> None:
        server.put(path, data) if path.startswith("s3://") else Path(path).write_bytes(data)

    return of


def written(address: str, *ids: str, day: float = 0) -> None:
    DayTable(address, "at").append(rankings_table([ranked(each, at(day)) for each in ids]))


def found(address: str) -> list[str]:
    read = DayTable(address, "at").read(COLUMNS)
    assert not read.skipped
    return sorted(map(str, once(read.table)["ranking_id"].to_pylist()))


def objects(address: str, server: S3Server) -> list[str]:
    """Files of rows, those that do not belong to the table too."""
    if address.startswith("s3://"):
        return [key for key in server.keys(address) if key.endswith(".parquet") and "_delta_log" not in key]
    return [path.name for path in Path(address).glob("day=*/*.parquet")]


def writer(address: str, name: str, count: int) -> "subprocess.Popen[str]":
    arguments = [sys.executable, "-m", "tests.integration.log_table_writer", address, name, str(count)]
    return subprocess.Popen(arguments, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def test_two_processes_that_write_at_once_lose_nothing_while_it_is_compacted(address: str) -> None:
    with writer(address, "a", 8) as first, writer(address, "b", 8) as second:
        while first.poll() is None or second.poll() is None:
            DayTable(address, "at").compact(LATER, once)
    assert (first.returncode, second.returncode) == (0, 0)
    assert found(address) == sorted(f"{name}.{n}.{half}" for name in "ab" for n in range(8) for half in (0, 1))


@pytest.mark.parametrize("rows_before", [1, 5])
def test_a_writer_killed_in_the_middle_leaves_all_that_it_said_and_nothing_half(
    address: str, rows_before: int, server: S3Server
) -> None:
    with writer(address, "a", 1000) as process:
        assert process.stdout is not None
        said = [int(process.stdout.readline()) for _ in range(rows_before)]
        process.kill()
        said += [int(line) for line in process.stdout if line.strip()]
    rows = found(address)
    assert set(rows) >= {f"a.{number}.{half}" for number in said for half in (0, 1)}
    halves = [{name.rpartition(".")[0] for name in rows if name.endswith(end)} for end in (".0", ".1")]
    assert halves[0] == halves[1], "both days of a batch, or none"
    written(address, "b")
    table = DayTable(address, "at")
    table.compact(LATER, once)
    table.vacuum(0)
    assert len(objects(address, server)) == sum(map(len, table.files().values()))
    assert found(address) == sorted([*rows, "b"])


def test_compaction_and_retention(address: str, server: S3Server) -> None:
    for day in range(3):
        for name in ("x", "y", "x"):
            written(address, f"{name}{day}", day=day)
    table = DayTable(address, "at")
    assert list(table.compact(at(2).date(), once).days) == [at(0).date(), at(1).date()]
    assert [len(paths) for _, paths in sorted(table.files().items())] == [1, 1, 3]
    assert table.expire(at(1).date()) == [at(0).date()]
    assert found(address) == ["x1", "x2", "y1", "y2"]
    assert len(objects(address, server)) == 11
    table.vacuum(0)
    assert len(objects(address, server)) == 4
    assert found(address) == ["x1", "x2", "y1", "y2"]


def test_a_corrupt_file_is_named_and_the_rest_is_read(address: str, overwrite: Callable[[str, bytes], None]) -> None:
    for name in ("a", "b", "c"):
        written(address, name)
    table = DayTable(address, "at")
    bad = f"{address}/{sorted(next(iter(table.files().values())))[1]}"
    overwrite(bad, b"PAR1 no more PAR1")
    for _ in range(2):
        read = table.read(COLUMNS)
        assert len(read.table) == 2
        assert list(read.skipped) == [bad]
        assert list(table.compact(LATER, once).skipped) == [bad]
    assert [len(paths) for paths in table.files().values()] == [2]


def test_a_window_touches_only_its_days(address: str, overwrite: Callable[[str, bytes], None]) -> None:
    for day in range(3):
        written(address, f"r{day}", day=day)
    table = DayTable(address, "at")
    for of_day, paths in table.files().items():
        if of_day != at(1).date():
            overwrite(f"{address}/{paths[0]}", b"not looked at")
    read = table.read(COLUMNS, at(1), at(1.5))
    assert (read.table["ranking_id"].to_pylist(), list(read.skipped)) == (["r1"], [])


def test_many_threads_that_make_the_table_at_once_lose_nothing(address: str) -> None:
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(partial(written, address), "abcd"))
    assert found(address) == list("abcd")


def test_an_older_log_is_converted_to_an_object_store_too(address: str, tmp_path: Path) -> None:
    old = older_log(tmp_path / "old")
    done = convert(old, address, lambda *_: None)
    assert (done.days, done.rows, done.already, list(done.skipped)) == (4, 8, 0, [])
    assert len(DayTable(f"{address}/rankings", EVENT_TIME).read(["ranking_id", EVENT_TIME]).table) == 4


def test_a_store_that_is_away_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    with s3_server() as gone:
        for name, value in gone.environment.items():
            monkeypatch.setenv(name, value)
        address = gone.address()
        written(address, "a")
    with pytest.raises(Unavailable, match=r"log is not available: s3://training-log/.*Generic S3 error"):
        DayTable(address, "at").read(COLUMNS)
    with pytest.raises(Unavailable, match="log is not available"):
        written(address, "b")
