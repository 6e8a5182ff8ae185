"""A worker's start that fails, and the streak of failures of one that runs again."""

import logging
from collections.abc import Mapping
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
from streams.worker.health.store_progress import StoreProgress
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
