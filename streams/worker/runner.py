"""A worker, in a running loop or as a process of its own."""

import asyncio
import signal
import time
from collections.abc import Callable, Mapping
from contextlib import suppress

from aiokafka.errors import KafkaError

from foretaste.kernel.retrying import FailureStreak, until_it_succeeds
from streams.worker.collector import Collector
from streams.worker.connection import KafkaConnection
from streams.worker.consumer import ConsumerConfig, WorkerConsumer, make_consumer
from streams.worker.topic_admin import check_answers

LONGEST_PAUSE = 10.0
"""Seconds until a worker that Kafka failed starts anew, at most."""


class StreamWorker:
    """Collectors of topics on one Kafka consumer. The topics must exist (`create_topics`).

    `ways` makes the collectors, by topic; offsets are kept under `group`. As an async context in a running loop it has
    its partitions on entry; on exit it has settled what it took and committed what it acknowledged. It may be entered
    again after that. Entering raises `Unavailable` when no broker answers.
    """

    def __init__(
        self,
        connection: KafkaConnection,
        group: str,
        ways: Callable[[], Mapping[str, Collector]],
        config: ConsumerConfig,
    ) -> None:
        self._connection = connection
        self._group = group
        self._ways = ways
        self._config = config
        self._consumer: WorkerConsumer | None = None

    async def __aenter__(self) -> "StreamWorker":
        await check_answers(self._connection)
        self._consumer = make_consumer(self._connection, self._group, self._ways(), self._config)
        try:
            await self._consumer.start()
        except BaseException:
            await self._consumer.stop()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._consumer is not None:
            await self._consumer.stop()

    async def failed(self) -> None:
        """Waits until the worker cannot go on, and raises why; waits for ever while it can."""
        if self._consumer is None:
            raise RuntimeError("the worker was not entered")
        await self._consumer.failed()


async def run_worker(worker: StreamWorker) -> None:
    """Run until SIGTERM or SIGINT, then settle what was taken, commit, and return.

    Starts anew, with growing pauses, whenever Kafka fails it for good (a broker that is not there yet, a consumer that
    gave up). Any other failure is a defect and is raised, with nothing acknowledged that is not durable.
    """
    loop = asyncio.get_running_loop()
    requested = asyncio.Event()
    for each in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(each, requested.set)
    streak = FailureStreak("worker", time.monotonic)
    retrying = until_it_succeeds(longest=LONGEST_PAUSE, note=streak.note, also=(KafkaError,))
    running: asyncio.Task[None] = asyncio.create_task(retrying(_run_once, worker))
    stopping = asyncio.create_task(requested.wait())
    try:
        await asyncio.wait({running, stopping}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for each in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(each)
        stopping.cancel()
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running


async def _run_once(worker: StreamWorker) -> None:
    async with worker:
        await worker.failed()
