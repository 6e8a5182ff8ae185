"""Training logs of earlier versions: brought in whole, once, and again after whatever stopped it."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from features.log.convert import convert
from features.log.delta import DayTable
from features.log.feast_log import FeastTrainingLog
from features.log.rows import EVENT_TIME, behaviours_table, rankings_table
from foretaste.kernel.errors import InvalidInput
from tests.log_factory import AT_MS, at, behaved, log_config, ranked


def older_file(old: Path, name: str, table: pa.Table, day: int) -> Path:
    """As the version before wrote it: named by its content, in the folder of its day."""
    sink = pa.BufferOutputStream()
    names = [EVENT_TIME if each == "at" else each for each in table.schema.names]
    pq.write_table(table.rename_columns(names), sink, compression="zstd", write_page_checksum=True)
    data = sink.getvalue().to_pybytes()
    path = old / "data" / name / f"day={at(day).date()}" / f"{hashlib.sha256(data).hexdigest()}.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def older_log(old: Path, days: Sequence[int] = (0, 1)) -> Path:
    """Two rankings and two behaviours a day; one file has rows of another one again."""
    for day in days:
        for names in (("x",), ("x", "y")):
            older_file(old, "rankings", rankings_table([ranked(f"{each}{day}", at(day)) for each in names]), day)
            older_file(old, "behaviours", behaviours_table([behaved(f"{each}{day}", at(day)) for each in names]), day)
    return old


async def test_all_rows_come_in_once_and_again_none(tmp_path: Path) -> None:
    old, told = older_log(tmp_path / "log"), list[tuple[int, int]]()
    config = log_config(tmp_path)
    log = FeastTrainingLog(config)
    await log.write_rankings([ranked("new", at(1))])
    first = convert(old, config.offline_store.address, lambda *each: told.append(each))
    assert (first.days, first.rows, first.already, list(first.skipped)) == (4, 8, 0, [])
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]
    before = await log.read(0, 2 * AT_MS)
    again = convert(old, config.offline_store.address, lambda *_: None)
    assert (again.days, again.rows, again.already) == (0, 0, 4)
    logged = await log.read(0, 2 * AT_MS)
    assert logged.rankings["ranking_id"].to_pylist() == ["x0", "y0", "new", "x1", "y1"]
    assert logged.behaviours["item_id"].to_pylist() == ["x0", "y0", "x1", "y1"]
    assert logged.rankings.equals(before.rankings)
    whole = logged.rankings.filter(pa.compute.field("ranking_id") == "x0").to_pylist()
    assert whole == rankings_table([ranked("x0", at(0))]).to_pylist()


def test_stopped_in_the_middle_it_goes_on(tmp_path: Path) -> None:
    class Stopped(BaseException):
        """As by Ctrl-C."""

    def stop(done: int, _days: int) -> None:
        if done == 3:
            raise Stopped

    old, new = older_log(tmp_path / "old"), str(tmp_path / "new")
    with pytest.raises(Stopped):
        convert(old, new, stop)
    done = convert(old, new, lambda *_: None)
    assert (done.days, done.already) == (1, 3)
    for kind in ("rankings", "behaviours"):
        assert len(DayTable(f"{new}/{kind}", EVENT_TIME).read([EVENT_TIME]).table) == 4


def test_what_cannot_be_read_is_named_each_time_until_it_can(tmp_path: Path) -> None:
    old, new = older_log(tmp_path / "old", (0,)), str(tmp_path / "new")
    bad = older_file(old, "rankings", rankings_table([ranked("bad", at(0))]), 0)
    whole = bad.read_bytes()
    bad.write_bytes(whole[:-7])
    odd = older_file(old, "behaviours", pa.table({"at": [at(3)], "user_id": [["u"]]}), 3)
    for already in (0, 2):
        done = convert(old, new, lambda *_: None)
        assert (list(done.skipped), done.already) == ([bad, odd], already)
    bad.write_bytes(whole)
    done = convert(old, new, lambda *_: None)
    assert (list(done.skipped), done.days, done.already) == ([odd], 1, 1)
    ids = DayTable(f"{new}/rankings", EVENT_TIME).read(["ranking_id", EVENT_TIME]).table["ranking_id"].to_pylist()
    assert set(ids) == {"x0", "y0", "bad"}


def test_nothing_of_the_older_log_is_changed(tmp_path: Path) -> None:
    old = older_log(tmp_path / "log")
    before = {path: path.stat().st_mtime_ns for path in (old / "data").rglob("*")}
    convert(old, str(old), lambda *_: None)
    assert {path: path.stat().st_mtime_ns for path in (old / "data").rglob("*")} == before
    for name in ("rankings", "behaviours"):
        DayTable(f"{old}/{name}", EVENT_TIME).vacuum(0)
    assert {path: path.stat().st_mtime_ns for path in (old / "data").rglob("*")} == before


def test_a_folder_without_an_older_log_is_said_to_be_one(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"convert: expected the folder of an older log, with data/rankings/day=…"):
        convert(tmp_path, str(tmp_path / "new"), lambda *_: None)
