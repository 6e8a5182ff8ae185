"""A worker's start that fails, and the streak of failures of one that runs again."""

import asyncio
import logging
import os
import signal
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
from aiokafka import TopicPartition

from foretaste.kernel.errors import Unavailable
from foretaste.kernel.running.readiness import ProcessReadiness
from foretaste.testing import InMemoryOffsets
from streams.worker import runner
from streams.worker.collector import Collector
from streams.worker.connection import KafkaConnection
from streams.worker.consumer import ConsumerConfig
from streams.worker.health.stalling import StallConfig, Stalled, seen_through
from streams.worker.health.store_progress import LostTail, StoreProgress
from streams.worker.runner import StreamWorker, run_worker
from tests.stream_parts import World


class Defect(Exception):
    pass


class Consumer:
    """What it does when it is started, told by the test; then it ends by a defect."""

    def __init__(self, progress: StoreProgress, starts: list[Exception | None]) -> None:
        self.progress, self.starts = progress, starts
        self.closed_at_stop: list[bool] = []

    async def start(self) -> None:
        error = self.starts.pop(0)
        if error is not None:
            raise error

    async def stop(self) -> None:
        self.closed_at_stop.append(self.progress._closed.is_set())

    async def failed(self) -> None:
        raise Defect

    def assignment(self) -> set[TopicPartition]:
        return set()


def worker_of(
    starts: list[Exception | None],
    monkeypatch: pytest.MonkeyPatch,
    stalling: StallConfig | None = None,
    readiness: ProcessReadiness | None = None,
) -> tuple[StreamWorker, Consumer]:
    progress = StoreProgress(InMemoryOffsets(), World().metrics.lost_tails)
    consumer = Consumer(progress, starts)

    async def answers(_: KafkaConnection) -> None:
        """It is there."""

    def made(*_: Any) -> Consumer:
        return consumer

    monkeypatch.setattr(runner, "check_answers", answers)
    monkeypatch.setattr(runner, "make_consumer", made)

    def ways() -> Mapping[str, Collector]:
        return {}

    config = ConsumerConfig(grace=0.01)
    connection = KafkaConnection("127.0.0.1:1")
    return StreamWorker(connection, "group", ways, config, stalling, readiness, progress), consumer


async def test_a_start_that_fails_waits_for_no_store_when_it_stops(monkeypatch: pytest.MonkeyPatch) -> None:
    worker, consumer = worker_of([Defect()], monkeypatch)
    with pytest.raises(Defect):
        async with worker:
            pass
    assert consumer.closed_at_stop == [True]


async def test_failures_are_over_once_the_worker_runs_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    readiness = ProcessReadiness()
    worker, _ = worker_of([Unavailable("kafka", "away"), None], monkeypatch)
    with pytest.raises(Defect):
        await run_worker(worker, readiness)
    assert readiness.reasons == {}
    assert any(each.startswith("worker: over after 1 failures") for each in caplog.messages)


class HangingConsumer(Consumer):
    """It neither starts nor, where `stops` is false, stops."""

    stops = True

    async def start(self) -> None:
        await asyncio.Event().wait()

    async def stop(self) -> None:
        if not self.stops:
            await asyncio.Event().wait()
        await super().stop()


def hanging(monkeypatch: pytest.MonkeyPatch, readiness: ProcessReadiness, *, stops: bool = True) -> StreamWorker:
    progress = StoreProgress(InMemoryOffsets(), World().metrics.lost_tails)
    worker, _ = worker_of([], monkeypatch, StallConfig(quiet=0.01, ends_after=0.02), readiness)
    consumer = HangingConsumer(progress, [])
    consumer.stops = stops
    monkeypatch.setattr(runner, "STOPPING_SECONDS", 0.01)
    monkeypatch.setattr(runner, "make_consumer", lambda *_: consumer)
    return worker


@pytest.mark.parametrize("stops", [True, False])
async def test_a_start_that_hangs_is_told_and_given_up(monkeypatch: pytest.MonkeyPatch, stops: bool) -> None:
    readiness = ProcessReadiness()
    with pytest.raises(Stalled, match=r"the consumer has not started for 0\.02 s"):
        await run_worker(hanging(monkeypatch, readiness, stops=stops), readiness)
    assert readiness.reasons == {"start": "the consumer has not started for 0.01 s"}


async def test_a_broker_that_takes_a_connection_and_answers_nothing_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    async def hangs(_: KafkaConnection) -> None:
        await asyncio.Event().wait()

    readiness = ProcessReadiness()
    worker = hanging(monkeypatch, readiness)
    monkeypatch.setattr(runner, "check_answers", hangs)
    with pytest.raises(Stalled, match="no broker has answered"):
        await run_worker(worker, readiness)


async def test_a_start_that_takes_long_is_told_until_it_is_over(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    readiness, told = ProcessReadiness(), asyncio.Event()
    told_by = readiness.unready

    def unready(subject: str, reason: str) -> None:
        told_by(subject, reason)
        told.set()

    monkeypatch.setattr(readiness, "unready", unready)
    await seen_through(told.wait(), "it has not started", readiness, StallConfig(quiet=0.01, ends_after=60.0))
    assert readiness.reasons == {}
    assert "not ready: start: it has not started for 0.01 s" in caplog.text


class StuckConsumer(Consumer):
    """It ends by what the test says, and then does not stop before it is cancelled, which it keeps to itself."""

    def __init__(self, progress: StoreProgress, error: Exception) -> None:
        super().__init__(progress, [])
        self.error = error
        self.started = 0
        self.stopping = asyncio.Event()

    async def start(self) -> None:
        self.started += 1

    async def failed(self) -> None:
        raise self.error

    async def stop(self) -> None:
        self.stopping.set()
        with suppress(asyncio.CancelledError):
            await asyncio.Event().wait()


def stuck_worker(monkeypatch: pytest.MonkeyPatch) -> tuple[StreamWorker, StuckConsumer]:
    worker, plain = worker_of([], monkeypatch)
    consumer = StuckConsumer(plain.progress, LostTail("chosen by the test"))
    monkeypatch.setattr(runner, "make_consumer", lambda *_: consumer)
    return worker, consumer


async def test_sigterm_ends_a_worker_whose_consumer_hangs_as_it_stops(monkeypatch: pytest.MonkeyPatch) -> None:
    """The cancellation is lost in the consumer, and what is raised then would otherwise be tried again for ever."""
    worker, consumer = stuck_worker(monkeypatch)
    running = asyncio.create_task(run_worker(worker))
    await consumer.stopping.wait()
    os.kill(os.getpid(), signal.SIGTERM)
    async with asyncio.timeout(10):
        await running
    assert consumer.started == 1


async def test_a_consumer_that_hangs_as_it_stops_is_interrupted_and_started_anew(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(runner, "STOPPING_SECONDS", 0.01)
    worker, consumer = stuck_worker(monkeypatch)
    worker._config = replace(worker._config, grace=0.0)
    running = asyncio.create_task(run_worker(worker))
    async with asyncio.timeout(10):
        while consumer.started < 2:
            consumer.stopping.clear()
            await consumer.stopping.wait()
    running.cancel()
    await asyncio.wait({running})
