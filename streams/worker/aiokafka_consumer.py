"""The worker's consumer on aiokafka alone: records go from a fetch to the collectors without a task or a queue each."""

import asyncio
import logging
from collections.abc import Mapping, Sequence, Set

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from aiokafka.errors import CommitFailedError, IllegalStateError, KafkaError

from foretaste.kernel.running.supervision import cancel_and_wait
from streams.fetch_wait import FetchWait
from streams.worker.collector import Collector
from streams.worker.connection import KafkaConnection
from streams.worker.consumer import ConsumerConfig, EndedConsumer, hand_over
from streams.worker.health.store_progress import StoreProgress
from streams.worker.reading import METADATA_SECONDS, READ_COMMITTED, STOPPING_SECONDS, stop

log = logging.getLogger(__name__)

AT_ONCE = 500
"""Records taken from the client at a time, which may come on top of a collector's capacity."""
LOOK_SECONDS = 1.0
"""For which one look waits for records."""
UNASSIGNED_SECONDS = 0.1
"""Between two looks of a worker that holds no partition of a topic."""
REBALANCE_SECONDS = 60.0
"""For the group to form anew, the grace of its members in it."""


class AiokafkaConsumer(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka ships no types
    """As `WorkerConsumer` has it."""

    def __init__(
        self,
        connection: KafkaConnection,
        group: str,
        collectors: Mapping[str, Collector],
        config: ConsumerConfig,
        progress: StoreProgress | None = None,
    ) -> None:
        self._progress = progress
        self._collectors = collectors
        self._config = config
        self._wait = FetchWait(config.fetch_wait, config.idle_fetch_wait or config.fetch_wait)
        self._settled: dict[TopicPartition, int] = {}
        """By partition, the offset behind what was acknowledged and not committed yet."""
        self._tasks: list[asyncio.Task[None]] = []
        self._readers: list[asyncio.Task[None]] = []
        self._unbegun: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Fails where partitions could not be begun: nothing is read of them."""
        self._client = AIOKafkaConsumer(
            **connection.client_arguments(),
            group_id=group,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            isolation_level=READ_COMMITTED,
            # of Faust's name and protocol, so that workers of both kinds can share a group while one replaces the other
            partition_assignment_strategy=[RoundRobinPartitionAssignor],
            fetch_max_wait_ms=self._wait.ms,
            session_timeout_ms=round(1000 * config.session_timeout),
            heartbeat_interval_ms=round(1000 * config.heartbeat_interval),
            rebalance_timeout_ms=round(1000 * REBALANCE_SECONDS),
            metadata_max_age_ms=round(1000 * METADATA_SECONDS),
        )

    async def start(self) -> None:
        for topic, collector in self._collectors.items():
            self._tasks.append(asyncio.create_task(collector.run(), name=f"collect {topic}"))
        self._client.subscribe(list(self._collectors), listener=self)
        await self._client.start()
        self._readers = [
            asyncio.create_task(self._read(topic, collector), name=f"read {topic}")
            for topic, collector in self._collectors.items()
        ]
        self._tasks += [*self._readers, asyncio.create_task(self._commit_at_times(), name="commit")]

    async def stop(self) -> None:
        """Read no more; settle what was taken; commit it; leave the group."""
        try:
            await cancel_and_wait(*self._readers)
            if self._readers:
                await asyncio.gather(*(each.stop(self._config.grace) for each in self._collectors.values()))
                await self._commit_within(STOPPING_SECONDS)
        finally:
            await cancel_and_wait(*self._tasks)
            await stop(self._client)

    async def failed(self) -> None:
        fetching: asyncio.Task[None] = self._client._fetcher.error_future  # noqa: SLF001  # its end is told by no call
        waited: list[asyncio.Future[None]] = [self._unbegun, *self._tasks, fetching]
        done, _ = await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            if not task.cancelled():
                task.result()
        names = [task.get_name() for task in done if isinstance(task, asyncio.Task)]
        raise EndedConsumer(f"ended though nobody asked it to: {', '.join(names)}")

    def assignment(self) -> Set[TopicPartition]:
        held: Set[TopicPartition] = self._client.assignment()
        return held

    async def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None:
        """End the batches at work and commit them, while the group waits; the client returns no record meanwhile."""
        await asyncio.gather(*(each.discard(self._config.grace) for each in self._collectors.values()))
        await self._commit_within(self._config.grace)
        self._settled.clear()
        if self._progress is not None:
            self._progress.give_up()

    async def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
        """The client reads on from what the group has committed, or from before, where the store stands."""
        if self._progress is None:
            return
        self._client.pause(*assigned)  # or records are handed over before the seek: the client has its assignment
        try:
            await self._begin(self._progress, list(assigned))
        except Exception as error:  # the client logs it, and goes on
            if not self._unbegun.done():
                self._unbegun.set_exception(error)
            raise
        self._client.resume(*assigned)

    async def _begin(self, progress: StoreProgress, assigned: Sequence[TopicPartition]) -> None:
        offsets = await asyncio.gather(*(self._client.committed(each) for each in assigned))
        committed = {each: offset or 0 for each, offset in zip(assigned, offsets, strict=True)}
        for partition, start in (await progress.begin(committed)).items():
            if start < committed[partition]:
                self._client.seek(partition, start)

    async def _read(self, topic: str, collector: Collector) -> None:
        """Hand over what comes of a topic while its collector has room, for ever."""
        while True:
            await collector.room()
            partitions = [each for each in self._client.assignment() if each.topic == topic]
            if not partitions:  # none named, the client would look at all topics
                await asyncio.sleep(UNASSIGNED_SECONDS)
                continue
            try:
                found = await self._client.getmany(
                    *partitions, timeout_ms=round(1000 * LOOK_SECONDS), max_records=AT_ONCE
                )
            except IllegalStateError:  # a partition left between the look at the assignment and the call
                continue
            self._wait.apply(self._client, heard=bool(found))
            for partition, records in found.items():
                hand_over(partition, records, collector, self._settled)

    async def _commit_at_times(self) -> None:
        while True:
            await asyncio.sleep(self._config.commit_interval)
            await self._commit()

    async def _commit_within(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._commit()
        except TimeoutError:
            log.warning("what was acknowledged is read again: the broker took no commit for %.1f s", seconds)

    async def _commit(self) -> None:
        """Commit what was acknowledged of partitions still held; who holds the others now reads that again."""
        held = self._client.assignment()
        offsets = {partition: offset for partition, offset in self._settled.items() if partition in held}
        if not offsets:
            return
        try:
            await self._client.commit(offsets)
        except (CommitFailedError, IllegalStateError) as error:
            log.warning("what %d partitions had acknowledged is read again: %s", len(offsets), type(error).__name__)
            return
        except KafkaError as error:
            if not error.retriable:
                raise
            log.warning("the next commit takes this one along: %r", error)
            return
        for partition, offset in offsets.items():
            if self._settled.get(partition) == offset:
                del self._settled[partition]
