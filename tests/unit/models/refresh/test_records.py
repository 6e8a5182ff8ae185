"""What is kept of refreshes."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from foretaste.kernel.errors import Unavailable
from models.refresh.records import (
    UNFINISHED,
    RefreshOutcome,
    RefreshRecord,
    RefreshRecords,
    UnfinishedRefresh,
    refresh_id,
)
from tests.tiny_disk import needs_a_disk, tiny_disk

RUN = UnfinishedRefresh(id="20260301T000000.000000", base=3, since_ms=1, until_ms=2)


def record(name: str = "20260301T000000.000000", **changes: Any) -> RefreshRecord:
    made = RefreshRecord(
        id=name,
        outcome=RefreshOutcome.SWAPPED,
        detail="generation 4 is active",
        base=3,
        number=4,
        since_ms=1,
        until_ms=2,
        started_at="2026-03-01T00:00:00+00:00",
        seconds=1.5,
        steps={"learn": 1.0},
    )
    return made.model_copy(update=changes)


def test_an_unfinished_run_is_there_until_it_is_forgotten(tmp_path: Path) -> None:
    runs = RefreshRecords(tmp_path / "runs")
    assert runs.unfinished() is None
    assert runs.keep(RUN) == RUN
    assert runs.unfinished() == RUN
    runs.keep(RUN.model_copy(update={"number": 4}))
    assert runs.unfinished().number == 4
    runs.forget()
    assert runs.unfinished() is None
    runs.forget()


@pytest.mark.parametrize("text", ["", "{", '{"id": 1}'])
def test_a_damaged_unfinished_run_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / UNFINISHED).write_text(text, encoding="utf-8")
    assert RefreshRecords(tmp_path).unfinished() is None


def test_records_come_in_order_and_damaged_ones_are_passed_over(tmp_path: Path) -> None:
    runs = RefreshRecords(tmp_path)
    later = record("20260302T000000.000000", outcome=RefreshOutcome.REFUSED)
    for each in (later, record()):
        runs.add(each)
    (tmp_path / "20260303T000000.000000.json").write_text("{}", encoding="utf-8")
    runs.keep(RUN)
    assert runs.all() == [record(), later]
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")], "nothing unfinished is left"


def test_runs_are_named_by_when_they_began_and_sort_by_it() -> None:
    names = [refresh_id(now) for now in (0.0, 1.5, 1.75, 1e9)]
    assert names[0] == "19700101T000000.000000"
    assert names == sorted(names)


def test_with_a_run_its_checkpoints_are_forgotten(tmp_path: Path) -> None:
    runs = RefreshRecords(tmp_path / "runs")
    runs.keep(RUN)
    (runs.checkpoints / "some run" / "000000001").mkdir(parents=True)
    runs.forget()
    assert list(runs.folder.iterdir()) == []


@pytest.mark.parametrize("write", [lambda runs: runs.keep(RUN), lambda runs: runs.add(record())])
def test_a_full_disk_is_named_and_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Callable[..., Any]
) -> None:
    runs = RefreshRecords(tmp_path)
    runs.keep(RUN.model_copy(update={"number": 4}))
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def full(_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(Unavailable, match=f"disk is not available: no room is left in {tmp_path}"):
        write(runs)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@needs_a_disk
def test_a_disk_that_really_is_full_is_named_and_stays_as_it_was(tmp_path: Path) -> None:
    with tiny_disk(tmp_path, 16):
        runs = RefreshRecords(tmp_path)
        runs.keep(RUN)
        with pytest.raises(Unavailable, match=f"no room is left in {tmp_path}"):
            runs.add(record(detail="x" * 100_000))
        assert [path.name for path in tmp_path.iterdir()] == [UNFINISHED]
        assert runs.unfinished() == RUN


def test_records_of_earlier_versions_are_read(tmp_path: Path) -> None:
    """Fields were called `said`, `begun` and `asked`."""
    runs = RefreshRecords(tmp_path)
    before = record().model_dump(mode="json")
    before |= {"said": before.pop("detail"), "begun": before.pop("started_at")}
    (tmp_path / f"{before['id']}.json").write_text(json.dumps(before), encoding="utf-8")
    assert runs.all() == [record()]
    unfinished = RUN.model_copy(update={"requested": {"seed": 1}}).model_dump(mode="json")
    unfinished["asked"] = unfinished.pop("requested")
    (tmp_path / UNFINISHED).write_text(json.dumps(unfinished), encoding="utf-8")
    found = runs.unfinished()
    assert found is not None
    assert found.requested == {"seed": 1}
