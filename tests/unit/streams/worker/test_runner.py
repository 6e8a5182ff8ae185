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


def worker_of(starts: list[Exception | None], monkeypatch: pytest.MonkeyPatch) -> tuple[StreamWorker, Consumer]:
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

    return StreamWorker(KafkaConnection("127.0.0.1:1"), "group", ways, ConsumerConfig(), progress=progress), consumer


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
