"""A worker, in a running loop or as a process of its own."""

import asyncio
import logging
import signal
import time
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from aiokafka.errors import KafkaError
from tenacity import RetryCallState

from foretaste.kernel.retrying import FailureStreak, until_it_succeeds
from foretaste.kernel.running.readiness import ProcessReadiness
from foretaste.kernel.running.supervision import cancel_and_wait
from streams.worker.collector import Collector
from streams.worker.connection import KafkaConnection
from streams.worker.consumer import ConsumerConfig, WorkerConsumer, make_consumer
from streams.worker.health.stalling import KafkaPartitions, StallConfig, Stalled, StallWatch, seen_through
from streams.worker.health.store_progress import LostTail, StoreProgress
from streams.worker.topic_admin import check_answers

log = logging.getLogger(__name__)

LONGEST_PAUSE = 10.0
"""Seconds until a worker that Kafka failed starts anew, at most."""
STOPPING_SECONDS = 6.0
"""For a consumer to stop, beside its grace."""
_SUBJECT = "worker"


class StreamWorker:
    """Collectors of topics on one Kafka consumer. The topics must exist (`create_topics`).

    `ways` makes the collectors, by topic; offsets are kept under `group`. As an async context in a running loop it has
    its partitions on entry; on exit it has settled what it took and committed what it acknowledged. It may be entered
    again after that. Entering raises `Unavailable` when no broker answers, and `Stalled` when that hangs.
    """

    def __init__(
        self,
        connection: KafkaConnection,
        group: str,
        ways: Callable[[], Mapping[str, Collector]],
        config: ConsumerConfig,
        stalling: StallConfig | None = None,
        readiness: ProcessReadiness | None = None,
        progress: StoreProgress | None = None,
    ) -> None:
        self._connection = connection
        self._group = group
        self._ways = ways
        self._config = config
        self._stalling = stalling or StallConfig()
        self._readiness = readiness or ProcessReadiness()
        self._progress = progress
        self._consumer: WorkerConsumer | None = None
        self._watching: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> "StreamWorker":
        await self._seen_through(check_answers(self._connection), "no broker has answered")
        ways = self._ways()
        progress = self._progress
        if progress is not None:
            progress.open()
        consumer = self._consumer = make_consumer(self._connection, self._group, ways, self._config, progress)
        try:
            await self._seen_through(consumer.start(), "the consumer has not started")
        except BaseException:
            if progress is not None:
                progress.close()  # or the consumer waits for the store before it stops
            await self._given_up(consumer)
            raise
        partitions = KafkaPartitions(self._connection, self._group)
        watch = StallWatch(ways, consumer.assignment, partitions, self._readiness, self._stalling)
        self._watching = [asyncio.create_task(watch.run(), name="stall watch")]
        if progress is not None:
            self._watching.append(asyncio.create_task(progress.run(), name="store progress"))
        log.info("group %s: reads %s", self._group, ", ".join(ways))
        return self

    async def __aexit__(self, *_: object) -> None:
        await cancel_and_wait(*self._watching)
        if self._progress is not None:
            self._progress.close()
        if self._consumer is not None:
            await self._stop(self._consumer)
            log.info("group %s: left", self._group)

    async def _stop(self, consumer: WorkerConsumer) -> None:
        """Faust's app waits for ever, now and then, when it stops by an error. Interrupted, it goes on.

        Raises `Stalled` where even that does not end it.
        """
        seconds = self._config.grace + STOPPING_SECONDS
        try:
            async with asyncio.timeout(seconds):
                await consumer.stop()
        except TimeoutError as error:
            raise Stalled(f"the consumer did not stop within {seconds:g} s") from error

    async def failed(self) -> None:
        """Waits until the worker cannot go on, and raises why; waits for ever while it can.

        What it raises is the consumer's, `LostTail`, and `Stalled`.
        """
        if self._consumer is None or not self._watching:
            raise RuntimeError("the worker was not entered")
        failing = asyncio.create_task(self._consumer.failed(), name="consumer")
        try:
            done, _ = await asyncio.wait({failing, *self._watching}, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            await cancel_and_wait(failing)

    async def _seen_through(self, starting: Coroutine[Any, Any, object], what: str) -> None:
        await seen_through(starting, what, self._readiness, self._stalling)

    async def _given_up(self, consumer: WorkerConsumer) -> None:
        """Ends a consumer that did not start; one that hangs in that too is left to the end of the process."""
        try:
            await self._stop(consumer)
        except Stalled as error:
            log.error("group %s: did not start, and %s", self._group, error)  # noqa: TRY400  # the message says it all


async def run_worker(
    worker: StreamWorker, readiness: ProcessReadiness | None = None, ended: Callable[[str], object] = lambda _: None
) -> None:
    """Run until SIGTERM or SIGINT, then settle what was taken, commit, and return.

    Starts anew, with growing pauses, whenever Kafka fails it for good (a broker that is not there yet, a consumer that
    gave up) and when the store lost what was acknowledged (`LostTail`): until it runs again, the process is not ready.
    Any other failure is a defect, or `Stalled`; it is raised, with nothing acknowledged that is not durable. `ended` is
    called with the name of what ended, each time.
    """
    readiness = readiness or ProcessReadiness()
    loop = asyncio.get_running_loop()
    requested = asyncio.Event()
    for each in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(each, requested.set)
    streak = FailureStreak(_SUBJECT, time.monotonic)

    def note(state: RetryCallState) -> None:
        streak.note(state)
        ended("consumer")
        readiness.unready(_SUBJECT, streak.reason or "it ended")

    stopping = asyncio.create_task(requested.wait())

    async def pause(seconds: float) -> None:
        await asyncio.wait({stopping}, timeout=seconds)

    async def run() -> None:
        if not requested.is_set():  # a consumer may end by an error of its own though it was cancelled
            await _run_once(worker, readiness, streak)

    retrying = until_it_succeeds(longest=LONGEST_PAUSE, note=note, also=(KafkaError, LostTail), sleep=pause)
    running: asyncio.Task[None] = asyncio.create_task(retrying(run))
    try:
        await asyncio.wait({running, stopping}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for each in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(each)
        requested.set()
        running.cancel()
        await asyncio.wait({running, stopping})
    if not running.cancelled() and (error := running.exception()) is not None:
        ended("worker")
        log.error("the worker ends: %s: %s", type(error).__name__, error)
        raise error


async def _run_once(worker: StreamWorker, readiness: ProcessReadiness, streak: FailureStreak) -> None:
    async with worker:
        readiness.ready(_SUBJECT)
        streak.over()
        await worker.failed()
