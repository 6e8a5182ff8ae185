"""The upkeep of the training log: real files and a real Redis, and what becomes of its writer when it goes wrong."""

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

import pytest
from features.log.files import Compacted

from features.log import upkeep
from features.log.feast_log import FeastTrainingLog
from features.log.upkeep import keep_log, keep_up
from foretaste import compose, jobs
from foretaste.kernel.errors import Unavailable
from foretaste.settings import Settings
from tests.log_factory import at, behaved, ranked

DAY_5 = at(5.5).timestamp


@pytest.fixture
def settings(redis_url: str, tmp_path: Path) -> Settings:
    made = Settings(
        home=tmp_path,
        kafka="127.0.0.1:9",
        redis=redis_url,
        redis_timeout=10,
        triton="in-process",
        project=f"test_{uuid4().hex}",
        log_days=4,
        lease_seconds=1,
    )
    jobs.apply_features(made)
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
    found = sorted(settings.training_log.rglob(f"{kind}/day=*/*.parquet"))
    days = [date.fromisoformat(path.parent.name.removeprefix("day=")).day - 1 for path in found]
    return {day: days.count(day) for day in days}


async def test_old_days_go_and_each_other_one_becomes_one_file(settings: Settings) -> None:
    log = await written(settings)
    await keep_log(settings, DAY_5)
    for kind in ("rankings", "behaviours"):
        assert files(settings, kind) == {1: 1, 2: 1, 3: 1, 4: 1, 5: 1}
    kept = await log.read(0, round(at(9).timestamp() * 1000))
    assert kept.rankings["ranking_id"].to_pylist() == [f"r{each}" for each in range(2, 12)]


async def test_what_cannot_be_read_is_named_and_stays(settings: Settings, caplog: pytest.LogCaptureFixture) -> None:
    await written(settings)
    bad = next(settings.training_log.rglob("rankings/day=2026-01-03/*.parquet"))
    bad.write_bytes(b"PAR1 no more PAR1")
    await keep_log(settings, DAY_5)
    assert [record.getMessage() for record in caplog.records if record.name == "features.log.upkeep"] == [
        f"training log: {bad} cannot be read, and is left out of its day's file"
    ]
    assert bad.exists()
    assert files(settings, "rankings") == {1: 1, 2: 2, 3: 1, 4: 1, 5: 1}


async def test_one_writer_is_at_it_at_a_time_and_the_next_may_be_once_it_is_done(settings: Settings) -> None:
    await written(settings)
    other = compose.lease(settings, "log")
    assert await other.take()
    await keep_log(settings, DAY_5)
    assert files(settings, "rankings") == dict.fromkeys(range(6), 2)
    await other.give_back()
    await keep_log(settings, DAY_5)
    assert await other.take()
    await other.give_back()
    await other.close()


async def test_a_compaction_that_outlasts_the_lease_keeps_it(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    other, taken, long = compose.lease(settings, "log"), [], 2.5 * settings.lease_seconds

    async def compact(_log: FeastTrainingLog, _before: date, _ended: Callable[[], bool]) -> Compacted:
        await asyncio.sleep(long)
        taken.append(await other.take())
        return Compacted((), ())

    monkeypatch.setattr(FeastTrainingLog, "compact", compact)
    await keep_log(settings)
    await other.close()
    assert taken == [False]


async def test_cancelled_it_begins_no_other_day_and_gives_the_lease_back(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    await written(settings)
    within, go_on = threading.Event(), threading.Event()
    usual = os.fsync

    def held(handle: int) -> None:
        within.set()
        go_on.wait(30)
        usual(handle)

    monkeypatch.setattr(os, "fsync", held)
    keeping = asyncio.create_task(keep_log(settings, DAY_5))
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


async def test_it_is_done_as_often_as_is_set_and_a_part_that_is_away_is_waited_for(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    slept: list[float] = []

    async def away(_settings: Settings) -> None:
        raise Unavailable("redis", "chosen by the test")

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 2:
            raise asyncio.CancelledError

    monkeypatch.setattr(upkeep, "keep_log", away)
    monkeypatch.setattr(upkeep.asyncio, "sleep", sleep)
    with pytest.raises(asyncio.CancelledError):
        await keep_up(settings.model_copy(update={"log_compact_hours": 0.5}))
    assert slept == [1800, 1800]
    assert caplog.text.count("is not kept up yet: redis is not available: chosen by the test") == 2


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
    async def parts(_settings: Settings) -> AsyncIterator[None]:
        yield

    made = Writer()
    monkeypatch.setattr(compose, "parts", parts)
    monkeypatch.setattr(compose, "log_worker", lambda *_: made)
    return made


class Defect(Exception):
    """Nobody expected it."""


async def test_an_upkeep_that_goes_wrong_ends_its_writer_in_order_and_is_raised(
    settings: Settings, writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(_settings: Settings) -> None:
        await writer.at_work.wait()
        raise Defect

    monkeypatch.setattr(upkeep, "keep_log", broken)
    async with asyncio.timeout(30):
        with pytest.raises(Defect):
            await jobs.serve_log(settings)
    assert writer.settled


async def test_sigterm_ends_the_writer_and_the_upkeep(
    settings: Settings, writer: Writer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    ended: list[bool] = []

    async def at_it(_settings: Settings) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(True)

    monkeypatch.setattr(upkeep, "keep_log", at_it)
    serving = asyncio.create_task(jobs.serve_log(settings))
    async with asyncio.timeout(30):
        await writer.at_work.wait()
        os.kill(os.getpid(), signal.SIGTERM)
        await serving
    assert (writer.settled, ended) == (True, [True])
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []
