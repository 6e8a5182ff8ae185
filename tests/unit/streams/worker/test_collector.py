"""The collector: batches, back-pressure, retries, dead letters, and acknowledgement only of what is durable."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial

import pytest

from foretaste.kernel.batching import BatchPolicy
from foretaste.kernel.errors import ForetasteError, InvalidInput, Unavailable
from foretaste.kernel.events import DeadLetter, Message, Reason
from foretaste.kernel.running.logs import LineFormatter
from foretaste.testing import InMemoryOffsets
from streams.worker import collector as collector_module
from streams.worker.collector import Collector, CollectorConfig
from streams.worker.health.store_progress import LostTail, StoreProgress
from tests.stream_parts import NOW, NOW_MS, World, message

AWAY = Unavailable("redis", "chosen by the test")


@dataclass
class Bench:
    """A collector whose handler does what the test says, and what came of it."""

    size: int = 3
    capacity: int = 100
    trouble: Callable[[Sequence[Message]], BaseException | None] = lambda _: None
    handled: list[list[int]] = field(default_factory=list)
    acknowledged: list[int] = field(default_factory=list)
    letters: list[DeadLetter] = field(default_factory=list)
    slept: list[float] = field(default_factory=list)
    world: World = field(default_factory=World)
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    entered: asyncio.Event = field(default_factory=asyncio.Event)
    slept_often: asyncio.Event = field(default_factory=asyncio.Event)
    first_batch_over: asyncio.Event = field(default_factory=asyncio.Event)
    progress: StoreProgress | None = None

    def __post_init__(self) -> None:
        self.gate.set()
        self.collector = Collector(
            "sign-up",
            self.handle,
            self.reject,
            self.world.metrics,
            CollectorConfig(BatchPolicy(self.size, age=0.0), self.capacity, max_backoff=2.0, progress=self.progress),
            monotonic=lambda: 0.0,
            now=lambda: NOW,
            sleep=self.sleep,
        )

    async def handle(self, messages: Sequence[Message]) -> None:
        self.entered.set()
        await self.gate.wait()
        trouble = self.trouble(messages)
        if trouble is not None:
            raise trouble
        self.handled.append([each.origin.offset for each in messages])

    async def reject(self, letters: Sequence[DeadLetter]) -> None:
        self.letters.extend(letters)

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        if len(self.slept) == 20:
            self.slept_often.set()
        await asyncio.sleep(0)

    async def put(self, *offsets: int) -> None:
        for offset in offsets:
            event = message({}, offset=offset, timestamp_ms=NOW_MS - 500)
            await self.collector.room()
            self.collector.put_nowait(event, partial(self.acknowledge, offset))

    def acknowledge(self, offset: int) -> None:
        self.acknowledged.append(offset)
        if len(self.acknowledged) == self.size:
            self.first_batch_over.set()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[asyncio.Task[None]]:
        task = asyncio.create_task(self.collector.run())
        try:
            yield task
        finally:
            task.cancel()
            await asyncio.wait({task})


async def test_all_are_handled_and_acknowledged_in_order() -> None:
    bench = Bench()
    await bench.put(*range(8))
    async with bench.running() as task:
        await bench.collector.stop(grace=5)
        await task
    assert bench.handled == [[0, 1, 2], [3, 4, 5], [6, 7]]
    assert bench.acknowledged == list(range(8))
    assert bench.world.counted("foretaste_batch_size_count", way="sign-up") == 3
    assert bench.world.counted("foretaste_event_durable_seconds_sum", way="sign-up") == pytest.approx(8 * 0.5)


async def test_an_event_that_comes_alone_does_not_wait_for_others() -> None:
    bench = Bench(size=100)
    async with bench.running():
        await bench.put(0)
        async with asyncio.timeout(5):
            await bench.entered.wait()
    assert bench.handled == [[0]]


async def test_nothing_is_acknowledged_before_the_handler_returned() -> None:
    bench = Bench()
    bench.gate.clear()
    await bench.put(0, 1, 2)
    async with bench.running():
        await bench.entered.wait()
        assert bench.acknowledged == []
        bench.gate.set()
        await bench.collector.stop(grace=5)
    assert bench.acknowledged == [0, 1, 2]


async def test_a_consumer_waits_for_room_while_too_many_wait() -> None:
    bench = Bench(capacity=2)
    await bench.put(0, 1)
    third = asyncio.create_task(bench.put(2))
    await asyncio.sleep(0)
    assert not third.done()
    async with bench.running():
        await third
        await bench.collector.stop(grace=5)
    assert bench.acknowledged == [0, 1, 2]


async def test_a_consumer_that_asks_for_room_need_not_wait_for_each_event() -> None:
    bench = Bench(capacity=2)
    for offset in range(5):
        bench.collector.put_nowait(message({}, offset=offset), partial(bench.acknowledge, offset))
    assert bench.collector.full
    room = asyncio.create_task(bench.collector.room())
    await asyncio.sleep(0)
    assert not room.done()
    async with bench.running():
        await room
        await bench.collector.stop(grace=5)
    assert bench.acknowledged == [0, 1, 2, 3, 4]


async def test_an_outage_is_waited_out_with_growing_bounded_pauses(caplog: pytest.LogCaptureFixture) -> None:
    outages = iter([AWAY] * 50)
    bench = Bench(trouble=lambda _: next(outages, None))
    await bench.put(0, 1, 2)
    with caplog.at_level(logging.INFO):
        async with bench.running():
            await bench.collector.stop(grace=5)
    assert bench.handled == [[0, 1, 2]]
    assert bench.acknowledged == [0, 1, 2]
    assert len(bench.slept) == 50
    assert max(bench.slept) <= 2.0
    assert max(bench.slept[:3]) <= 0.4
    assert bench.world.counted("foretaste_retries_total", way="sign-up") == 50
    assert [record.levelname for record in caplog.records] == ["WARNING", "WARNING"]  # its begin and its end
    assert "redis is not available" in caplog.messages[0]
    assert "over after 50 failures" in caplog.messages[1]


async def test_nothing_is_acknowledged_during_an_outage() -> None:
    bench = Bench(trouble=lambda _: AWAY)
    await bench.put(0, 1, 2)
    async with bench.running():
        await bench.slept_often.wait()
        assert bench.acknowledged == []
        await bench.collector.stop(grace=0.01)
    assert bench.acknowledged == []
    assert bench.letters == []


async def test_what_is_refused_for_good_becomes_a_dead_letter_and_the_rest_goes_on() -> None:
    def refuse_one(messages: Sequence[Message]) -> ForetasteError | None:
        bad = [each for each in messages if each.origin.offset == 1]
        return InvalidInput("attributes.age", "?", "no tower takes it") if bad else None

    bench = Bench(trouble=refuse_one)
    await bench.put(0, 1, 2, 3)
    async with bench.running():
        await bench.collector.stop(grace=5)
    assert bench.handled == [[0], [2], [3]]
    assert bench.acknowledged == [0, 1, 2, 3]
    (letter,) = bench.letters
    assert letter.message.origin.offset == 1
    assert letter.reason is Reason.INVALID
    assert letter.detail == "attributes.age: no tower takes it (got '?')"


async def test_an_outage_while_looking_for_the_bad_one_rejects_nobody() -> None:
    away_once = iter([AWAY])

    def refuse_one(messages: Sequence[Message]) -> ForetasteError | None:
        if len(messages) == 1 and messages[0].origin.offset == 0:
            return next(away_once, None)
        return InvalidInput("value", "?", "bad") if any(each.origin.offset == 1 for each in messages) else None

    bench = Bench(trouble=refuse_one)
    await bench.put(0, 1, 2)
    async with bench.running():
        await bench.collector.stop(grace=5)
    assert bench.handled == [[0], [2]]
    assert [each.message.origin.offset for each in bench.letters] == [1]


async def test_a_defect_ends_the_collector_and_acknowledges_nothing() -> None:
    bench = Bench(trouble=lambda _: ZeroDivisionError())
    await bench.put(0, 1, 2)
    async with bench.running() as task:
        with pytest.raises(ZeroDivisionError):
            await task
    assert bench.acknowledged == []
    await bench.collector.stop(grace=5)


async def test_stop_ends_after_its_grace_and_leaves_the_rest_unacknowledged() -> None:
    bench = Bench()
    await bench.put(0, 1, 2)
    async with bench.running():
        await bench.first_batch_over.wait()
        bench.gate.clear()
        await bench.put(*range(3, 10))
        await bench.collector.stop(grace=0.01)
        bench.gate.set()
        await asyncio.sleep(0)
    assert bench.handled == [[0, 1, 2]]
    assert bench.acknowledged == [0, 1, 2]


async def test_stop_of_an_idle_collector_returns_at_once() -> None:
    bench = Bench()
    async with bench.running() as task:
        await bench.collector.stop(grace=5)
        await task
    assert bench.handled == []


async def test_after_stop_no_event_is_taken() -> None:
    bench = Bench()
    async with bench.running():
        await bench.collector.stop(grace=5)
        await bench.put(0)
    assert not bench.collector.full
    assert (bench.handled, bench.acknowledged) == ([], [])


async def test_lost_partitions_end_the_batch_at_work_and_forget_the_others() -> None:
    bench = Bench(capacity=4)
    bench.gate.clear()
    await bench.put(0, 1, 2)
    async with bench.running():
        await bench.entered.wait()
        await bench.put(3, 4, 5, 6)
        bench.collector.put_nowait(message({}, offset=7), partial(bench.acknowledge, 7))
        discarding = asyncio.create_task(bench.collector.discard(grace=5))
        await asyncio.sleep(0)
        bench.gate.set()
        await discarding
        assert bench.acknowledged == [0, 1, 2]
        await bench.put(3)
        await bench.collector.stop(grace=5)
    assert bench.handled == [[0, 1, 2], [3]]
    assert bench.acknowledged == [0, 1, 2, 3]


async def test_lost_partitions_cancel_a_batch_that_outlasts_the_grace() -> None:
    bench = Bench(trouble=lambda _: AWAY)
    await bench.put(0, 1, 2)
    async with bench.running():
        await bench.entered.wait()
        await bench.collector.discard(grace=0.0)
        assert bench.acknowledged == []
        bench.trouble = lambda _: None
        await bench.put(9)
        await bench.collector.stop(grace=5)
    assert bench.acknowledged == [9]


async def test_cancelling_the_collector_acknowledges_nothing_more() -> None:
    bench = Bench()
    bench.gate.clear()
    await bench.put(0, 1, 2)
    async with bench.running() as task:
        await bench.entered.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        bench.gate.set()
        await asyncio.sleep(0)
    assert (bench.handled, bench.acknowledged) == ([], [])


async def test_a_part_that_is_away_is_not_waited_for_by_who_stops(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collector_module, "AWAY_GRACE", 0.01)
    bench = Bench(trouble=lambda _: AWAY)
    await bench.put(0, 1, 2)
    async with bench.running():
        await bench.slept_often.wait()
        assert bench.collector.waits_for == str(AWAY)
        async with asyncio.timeout(10):
            await bench.collector.stop(grace=3600)
    assert bench.acknowledged == []
    assert bench.collector.waits_for is None


async def test_its_progress_can_be_asked_for() -> None:
    bench = Bench()
    await bench.put(*range(5))
    async with bench.running() as task:
        await bench.collector.stop(grace=5)
        await task
    assert bench.collector.settled == 5


async def test_on_top_of_a_lost_tail_nothing_is_carried_out() -> None:
    store = InMemoryOffsets()
    bench = Bench()
    progress = StoreProgress(store, bench.world.metrics.lost_tails)
    await progress.begin({("user-registered", 0): 0})
    bench.collector = Collector(
        "sign-up",
        bench.handle,
        bench.reject,
        bench.world.metrics,
        CollectorConfig(BatchPolicy(3, age=0.0), progress=progress),
    )
    await bench.put(0, 1, 2, 3, 4, 5)
    async with bench.running() as task:
        await bench.first_batch_over.wait()
        store.held["user-registered", 0] = 1
        store.run = "second"
        with pytest.raises(LostTail):
            await task
    assert bench.handled == [[0, 1, 2]]
    assert bench.acknowledged == [0, 1, 2]


async def test_a_batch_that_the_store_refused_as_emptied_is_not_tried_again_in_vain() -> None:
    """Its server is the one of before: its offsets tell, and nobody looks at them meanwhile."""
    store, tries = InMemoryOffsets(), list[int]()

    def refuse(messages: Sequence[Message]) -> BaseException | None:
        tries.append(len(messages))
        store.held.clear()
        return AWAY

    progress = StoreProgress(store, World().metrics.lost_tails)
    await progress.begin({("user-registered", 0): 4})
    bench = Bench(trouble=refuse, progress=progress)
    await bench.put(4, 5)
    async with bench.running() as task, asyncio.timeout(10):
        with pytest.raises(LostTail, match="the store was emptied"):
            await task
    assert tries == [2]
    assert bench.acknowledged == []


async def test_lines_of_a_batch_say_where_it_was_read() -> None:
    seen: list[str] = []

    def trouble(messages: Sequence[Message]) -> BaseException | None:
        record = logging.LogRecord("streams.some", logging.INFO, "", 0, "said", None, None)
        seen.append(LineFormatter().format(record).partition("some ")[2])
        return InvalidInput("x", 1, "wrong") if len(messages) > 1 else None

    bench = Bench(size=2, trouble=trouble)
    await bench.put(7, 8)
    async with bench.running() as task:
        await bench.collector.stop(grace=5)
        await task
    first, second = "user-registered/0@7", "user-registered/0@8"
    assert seen == [f"[{first} and 1 more] said", f"[{first}] said", f"[{second}] said"]


@pytest.mark.parametrize("refused", [False, True])
async def test_effects_in_a_store_whose_server_started_anew_meanwhile_are_made_again(refused: bool) -> None:
    """Else those that it lost would be acknowledged: no offset of its tells of them."""
    store, calls = InMemoryOffsets(), list[int]()

    def restart(messages: Sequence[Message]) -> BaseException | None:
        calls.append(len(messages))
        store.run = "second" if len(calls) > 1 or not refused else store.run
        return InvalidInput("value", 1, "is refused") if refused and len(messages) > 1 else None

    progress = StoreProgress(store, World().metrics.lost_tails)
    await progress.begin({("user-registered", 0): 0})
    bench = Bench(trouble=restart, progress=progress)
    await bench.put(0, 1, 2)
    async with bench.running(), asyncio.timeout(5):
        await bench.first_batch_over.wait()
    assert bench.handled == ([[0], [0], [1], [2]] if refused else [[0, 1, 2], [0, 1, 2]])
    assert bench.acknowledged == [0, 1, 2]
    assert store.held == {("user-registered", 0): 3}
