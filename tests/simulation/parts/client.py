"""What stands for aiokafka's consumer: the members of the broker's groups, and who looks at them from outside."""

import asyncio
from collections.abc import Callable, KeysView, Mapping, Set
from typing import Any, TypeVar

from aiokafka import TopicPartition
from aiokafka.errors import IllegalStateError, KafkaConnectionError

from foretaste.kernel.errors import Unavailable
from streams.worker.connection import KafkaConnection
from streams.worker.lag import Position
from tests.simulation.parts.broker import Broker, Record
from tests.simulation.parts.loop import PROCESS
from tests.simulation.parts.world import SimulatedProcess

T = TypeVar("T")

BACKOFF = 0.1
"""Seconds between two tries of what aiokafka tries again by itself."""


def broker_of_process() -> Broker:
    """The broker of the simulation that the process at work belongs to."""
    process = PROCESS.get()
    assert isinstance(process, SimulatedProcess)
    broker: Broker = process.world.broker
    return broker


class Fetching:
    """aiokafka's fetcher, which never ends here."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.error_future = loop.create_future()
        self._fetch_max_wait_ms = 0


class SimulatedConsumer:
    """The part of `AIOKafkaConsumer` that a worker uses, with its order of calls in a rebalance.

    Its listener hears that partitions are revoked before the group forms anew, while its heartbeats go on; until then,
    and until the broker tells it that it is no member any more, it believes in what it was assigned.
    """

    def __init__(self, **options: Any) -> None:
        self._broker = broker = broker_of_process()
        process = PROCESS.get()
        self._member = f"{process.name if process else None}-{next(broker.clients)}"
        self._group: str = options["group_id"]
        self._session = options["session_timeout_ms"] / 1000
        self._interval = options["heartbeat_interval_ms"] / 1000
        self._topics: list[str] = []
        self._listener: Any = None
        self._number = 0
        self._assigned: dict[TopicPartition, None] = {}
        self._positions: dict[TopicPartition, int] = {}
        self._paused: set[TopicPartition] = set()
        self._reassigned = asyncio.Event()
        self._rejoin = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._fetcher = Fetching(broker.world.loop)

    def subscribe(self, topics: list[str], *, listener: Any) -> None:
        self._topics, self._listener = topics, listener

    async def start(self) -> None:
        await self._broker.call(lambda: None)
        self._tasks = [asyncio.create_task(self._coordinate()), asyncio.create_task(self._beat())]

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
            await asyncio.wait({task})
        if self._tasks and not self._broker.away:
            await self._broker.world.pause()
            self._broker.leave(self._group, self._member)

    def assignment(self) -> KeysView[TopicPartition]:
        """In an order that does not change with the hashes of a process."""
        return self._assigned.keys()

    def pause(self, *partitions: TopicPartition) -> None:
        self._paused.update(partitions)

    def resume(self, *partitions: TopicPartition) -> None:
        self._paused.difference_update(partitions)
        self._broker.wake()

    def seek(self, partition: TopicPartition, offset: int) -> None:
        self._broker.world.note("seek", partition.topic, partition.partition, offset)
        self._positions[partition] = offset

    async def committed(self, partition: TopicPartition) -> int | None:
        """As aiokafka, it asks until it is answered."""
        while True:
            try:
                return await self._broker.call(lambda: self._broker.group(self._group).committed.get(partition))
            except KafkaConnectionError:
                await asyncio.sleep(BACKOFF)

    async def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Likewise. Raises `CommitFailedError` and `IllegalStateError`."""
        if any(each not in self._assigned for each in offsets):
            raise IllegalStateError("a partition is not assigned")
        number = self._number
        while True:
            try:
                await self._broker.call(lambda: self._broker.commit(self._group, self._member, number, offsets))
            except KafkaConnectionError:
                await asyncio.sleep(BACKOFF)
            else:
                return

    async def getmany(
        self, *partitions: TopicPartition, timeout_ms: int, max_records: int
    ) -> dict[TopicPartition, list[Record]]:
        """Records of partitions that are held and not paused; nothing while the group forms, or after a while."""
        if any(each not in self._assigned for each in partitions):
            raise IllegalStateError("a partition is not assigned")
        await self._broker.world.pause()
        if self._broker.world.over:
            raise asyncio.CancelledError
        await self._reassigned.wait()
        found = self._taken(partitions, max_records)
        if not found:
            await self._broker.arrival(partitions[0].topic, timeout_ms / 1000)
            if self._reassigned.is_set():
                found = self._taken(partitions, max_records)
        return found

    def _taken(self, partitions: tuple[TopicPartition, ...], most: int) -> dict[TopicPartition, list[Record]]:
        broker, found = self._broker, {}
        if broker.away or broker.hangs:
            return {}
        for each in partitions:
            if each not in self._assigned or each in self._paused:
                continue
            start = self._positions.setdefault(each, broker.group(self._group).committed.get(each, 0))
            records = broker.logs[each][start : start + most]
            if records:
                self._positions[each] = start + len(records)
                found[each] = records
                broker.world.note("fetch", each.topic, each.partition, start, len(records))
        return found

    async def _coordinate(self) -> None:
        while True:
            self._reassigned.clear()
            await self._told(self._listener.on_partitions_revoked)
            self._number, assigned = await self._joined()
            self._assigned = dict.fromkeys(assigned)
            self._positions, self._paused = {}, set()
            self._rejoin.clear()
            self._reassigned.set()
            self._broker.wake()
            await self._told(self._listener.on_partitions_assigned)
            await self._rejoin.wait()

    async def _told(self, listener: Any) -> None:
        try:
            await listener(self._assigned.keys())
        except Exception as error:  # noqa: BLE001  # aiokafka logs it and goes on
            self._broker.world.note("listener failed", type(error).__name__)

    async def _joined(self) -> tuple[int, list[TopicPartition]]:
        while True:
            try:
                return await self._broker.join(self._group, self._member, self._topics, self._session)
            except KafkaConnectionError:
                await asyncio.sleep(BACKOFF)

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(self._interval)
            number = self._number
            try:
                stays = await self._broker.call(lambda: self._broker.heartbeat(self._group, self._member, number))  # noqa: B023  # called at once
            except KafkaConnectionError:
                continue
            if not stays and number == self._number and self._reassigned.is_set():
                self._rejoin.set()


class GroupPositions:
    """How far a group has come, seen from outside: the `HeldPartitions` of a stall watch, the `Backlog` of a topic."""

    def __init__(self, connection: KafkaConnection, group: str, topic: str = "") -> None:
        self._broker = broker_of_process()
        self._group = group
        self._topic = topic

    async def positions(self, partitions: Set[TopicPartition]) -> dict[TopicPartition, Position]:
        return await self._asked(
            lambda: {
                each: Position(self._broker.group(self._group).committed.get(each, 0), len(self._broker.logs[each]))
                for each in sorted(partitions)
            }
        )

    async def remaining(self) -> int:
        return await self._asked(lambda: self._broker.lag(self._group, [self._topic]))

    async def close(self) -> None:
        """Nothing is held open."""

    async def _asked(self, effect: Callable[[], T]) -> T:
        try:
            return await self._broker.call(effect)
        except KafkaConnectionError as error:
            raise Unavailable("kafka", str(error)) from error


async def check_answers(connection: KafkaConnection) -> None:
    """As `streams.worker.topic_admin.check_answers`."""
    await GroupPositions(connection, "")._asked(lambda: None)
