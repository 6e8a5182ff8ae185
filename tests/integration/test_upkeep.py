"""The upkeep of the training log: a real table and a real Redis, and what becomes of its writer when it goes wrong."""

import asyncio
import logging
import os
import signal
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import date
from pathlib import Path
from uuid import uuid4

import pyarrow as pa
import pytest

from features.log import upkeep
from features.log.delta import DayTable
from features.log.feast_log import FeastTrainingLog
from features.log.objects import LocalFiles
from features.log.rows import EVENT_TIME
from features.log.upkeep import UpkeepConfig, keep_log, keep_up
from foretaste import compose
from foretaste.cli.processes import serve_log
from foretaste.kernel.errors import Unavailable
from foretaste.kernel.leasing import Lease
from foretaste.kernel.ports import Clock, CompactedDays, LogUpkeep
from foretaste.settings import Settings
from foretaste.testing import InMemoryLease, InMemoryTrainingLog, LeaseBoard
from tests.http_parts import HttpParts
from tests.log_factory import at, behaved, ranked

DAY_5 = at(5.5).timestamp
CONFIG = UpkeepConfig(days=4, every=1800, lease_seconds=1)


@pytest.fixture
def settings(redis_url: str, tmp_path: Path) -> Settings:
    made = Settings(
        home=tmp_path,
        kafka="127.0.0.1:9",
        redis=redis_url,
        triton="in-process",
        project=f"test_{uuid4().hex}",
        lease_seconds=CONFIG.lease_seconds,
    )
    compose.apply_features(made)
    return made


async def written(settings: Settings, days: int = 6) -> FeastTrainingLog:
    """Two files a day of either kind."""
    log = compose.training_log(settings)
    for each in range(2 * days):
        await log.write_rankings([ranked(f"r{each}", at(each // 2))])
        await log.write_behaviours([behaved(f"i{each}", at(each // 2))])
    return log


def files(settings: Settings, kind: str) -> dict[int, int]:
    """How many there are of each day."""
    found = DayTable(f"{settings.training_log}/{kind}", EVENT_TIME).files()
    return {day.day - 1: len(paths) for day, paths in sorted(found.items())}


async def kept(settings: Settings, log: LogUpkeep | None = None, now: Clock = DAY_5) -> None:
    """The upkeep of the log that is set, once."""
    await keep_log(log or compose.training_log(settings), compose.lease(settings, "log"), CONFIG, now)


async def test_old_days_go_and_each_other_one_becomes_one_file(settings: Settings) -> None:
    log = await written(settings)
    await kept(settings)
    for kind in ("rankings", "behaviours"):
        assert files(settings, kind) == {1: 1, 2: 1, 3: 1, 4: 1, 5: 1}
    left = await log.read(0, round(at(9).timestamp() * 1000))
    assert left.rankings["ranking_id"].to_pylist() == [f"r{each}" for each in range(2, 12)]


async def test_what_cannot_be_read_is_named_and_stays(settings: Settings, caplog: pytest.LogCaptureFixture) -> None:
    await written(settings)
    table = DayTable(f"{settings.training_log}/rankings", EVENT_TIME)
    bad = Path(table.address, sorted(table.files()[date(2026, 1, 3)])[0])
    await asyncio.to_thread(bad.write_bytes, b"PAR1 no more PAR1")
    await kept(settings)
    assert [record.getMessage() for record in caplog.records if record.name == "features.log.upkeep"] == [
        f"training log: {bad} cannot be read, and is left out of its day's file"
    ]
    assert await asyncio.to_thread(bad.exists)
    assert files(settings, "rankings") == {1: 1, 2: 2, 3: 1, 4: 1, 5: 1}


async def test_one_writer_is_at_it_at_a_time_and_the_next_may_be_once_it_is_done(settings: Settings) -> None:
    await written(settings)
    other = compose.lease(settings, "log")
    assert await other.take()
    await kept(settings)
    assert files(settings, "rankings") == dict.fromkeys(range(6), 2)
    await other.give_back()
    await kept(settings)
    assert await other.take()
    await other.give_back()
    await other.close()


class SlowLog(InMemoryTrainingLog):
    """One whose compaction outlasts the lease, and tries to take it at the end."""

    def __init__(self, lease: Lease) -> None:
        super().__init__()
        self.lease = lease
        self.taken: list[bool] = []

    async def compact(self, before: date, ended: Callable[[], bool] = lambda: False) -> CompactedDays:
        await asyncio.sleep(2.5 * CONFIG.lease_seconds)
        self.taken.append(await self.lease.take())
        return await super().compact(before, ended)


async def test_a_compaction_that_outlasts_the_lease_keeps_it(settings: Settings) -> None:
    log = SlowLog(compose.lease(settings, "log"))
    await kept(settings, log)
    await log.lease.close()
    assert log.taken == [False]


async def test_cancelled_it_begins_no_other_day_and_gives_the_lease_back(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    await written(settings)
    within, go_on = threading.Event(), threading.Event()
    usual = LocalFiles.put

    def held(self: LocalFiles, path: str, data: pa.Buffer) -> None:
        within.set()
        go_on.wait(30)
        usual(self, path, data)

    monkeypatch.setattr(LocalFiles, "put", held)
    keeping = asyncio.create_task(kept(settings))
    await asyncio.to_thread(within.wait, 30)
    keeping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await keeping
    go_on.set()
    await asyncio.get_running_loop().shutdown_default_executor()
    assert files(settings, "rankings") == {1: 1, 2: 2, 3: 2, 4: 2, 5: 2}
    other = compose.lease(settings, "log")
    assert await other.take()
    await other.give_back()
    await other.close()


class AwayLog(InMemoryTrainingLog):
    """One that cannot be reached."""

    async def expire(self, before: date) -> list[date]:
        raise Unavailable("log", f"chosen by the test, before {before}")


async def test_it_is_done_as_often_as_is_set_and_a_part_that_is_away_is_waited_for(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    slept: list[float] = []
    board = LeaseBoard(lambda: 0.0)

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 2:
            raise asyncio.CancelledError

    monkeypatch.setattr(upkeep.asyncio, "sleep", sleep)
    with pytest.raises(asyncio.CancelledError):
        await keep_up(AwayLog(), lambda: InMemoryLease(board, "log", seconds=1), CONFIG, DAY_5)
    assert slept == [1800, 1800]
    assert caplog.text.count("is not kept up yet: log is not available: chosen by the test, before 2026-01-02") == 2


class Writer:
    """A worker without a broker: it works until it is ended, and settles then."""

    def __init__(self) -> None:
        self.at_work = asyncio.Event()
        self.settled = False

    async def __aenter__(self) -> "Writer":
        return self

    async def __aexit__(self, *_: object) -> None:
        self.settled = True

    async def failed(self) -> None:
        self.at_work.set()
        await asyncio.Event().wait()


@pytest.fixture
def writer(monkeypatch: pytest.MonkeyPatch) -> Writer:
    @asynccontextmanager
    async def parts(_settings: Settings) -> AsyncIterator[HttpParts]:
        yield HttpParts()

    made = Writer()
    monkeypatch.setattr(compose, "parts", parts)
    monkeypatch.setattr(compose, "log_worker", lambda *_: made)
    return made


class Defect(Exception):
    """Nobody expected it."""


async def test_an_upkeep_that_goes_wrong_ends_its_writer_in_order_and_is_raised(
    settings: Settings, writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: object) -> None:
        await writer.at_work.wait()
        raise Defect

    monkeypatch.setattr(upkeep, "keep_log", broken)
    async with asyncio.timeout(30):
        with pytest.raises(Defect):
            await serve_log(settings)
    assert writer.settled


async def test_sigterm_ends_the_writer_and_the_upkeep(
    settings: Settings, writer: Writer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    ended: list[bool] = []

    async def at_it(*_: object) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(True)

    monkeypatch.setattr(upkeep, "keep_log", at_it)
    serving = asyncio.create_task(serve_log(settings))
    async with asyncio.timeout(30):
        await writer.at_work.wait()
        os.kill(os.getpid(), signal.SIGTERM)
        await serving
    assert (writer.settled, ended) == (True, [True])
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []
