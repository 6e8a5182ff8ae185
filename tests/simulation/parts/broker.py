"""A broker in memory: partitions, consumer groups, and what clients ask of it."""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count

from aiokafka import TopicPartition
from aiokafka.errors import CommitFailedError, KafkaConnectionError

from foretaste.kernel.errors import Unavailable
from foretaste.kernel.ports import Headers
from tests.simulation.parts.loop import NOBODY
from tests.simulation.parts.world import Part, World

TOPIC_PARTITIONS = 2


@dataclass(frozen=True, slots=True)
class Record:
    """As aiokafka gives it to a consumer."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]] = ()


@dataclass(eq=False)
class Member:
    """A member of a group, heard of last at `heard_at`; `joining` while it waits for the group to form."""

    topics: Sequence[str]
    session: float
    heard_at: float
    joining: "asyncio.Future[tuple[int, list[TopicPartition]]] | None" = None


@dataclass(eq=False)
class Group:
    """A consumer group. It forms anew whenever a member comes or goes, once all the others have joined again."""

    name: str
    members: dict[str, Member] = field(default_factory=dict)
    number: int = 0
    """Of its generation."""
    forming: bool = False
    committed: dict[TopicPartition, int] = field(default_factory=dict)
    before: dict[TopicPartition, int] = field(default_factory=dict)
    """What was committed some commits ago: what a coordinator that lost its newest commits goes back to."""
    assigned: dict[str, list[TopicPartition]] = field(default_factory=dict)

    def knows(self, member: str, number: int) -> bool:
        return member in self.members and number == self.number


class Broker(Part):
    """All partitions and groups. `appended` hears of each record, `committing` of each commit before it stands."""

    def __init__(self, world: World) -> None:
        super().__init__(world, KafkaConnectionError)
        world.broker = self
        self.ahead = 0.0
        """Seconds by which its clock runs ahead."""
        self.logs: defaultdict[TopicPartition, list[Record]] = defaultdict(list)
        self.groups: dict[str, Group] = {}
        self.appended: Callable[[Record], None] = lambda record: None
        self.committing: Callable[[Group, TopicPartition, int], None] = lambda group, partition, offset: None
        self.clients = count()
        self._waiting: list[tuple[str, asyncio.Future[None]]] = []

    def partitions(self, topic: str) -> list[TopicPartition]:
        return [TopicPartition(topic, number) for number in range(TOPIC_PARTITIONS)]

    def append(self, topic: str, key: bytes | None, value: bytes | None, headers: Headers = ()) -> Record:
        """A record is durable from here on; one without a key lies in any partition."""
        number = self.world.rng.randrange(TOPIC_PARTITIONS) if key is None else sum(key) % TOPIC_PARTITIONS
        log = self.logs[TopicPartition(topic, number)]
        timestamp = round(1000 * (self.world.now() + self.ahead))
        record = Record(topic, number, len(log), timestamp, key, value, tuple(headers))
        log.append(record)
        self.world.note("append", topic, number, record.offset, value)
        self.appended(record)
        self.wake(topic)
        return record

    def of(self, topic: str) -> list[Record]:
        return [record for each in self.partitions(topic) for record in self.logs[each]]

    def group(self, name: str) -> Group:
        return self.groups.setdefault(name, Group(name))

    def lag(self, name: str, topics: Iterable[str]) -> int:
        """Records that a group has not committed."""
        committed = self.group(name).committed
        return sum(len(self.logs[each]) - committed.get(each, 0) for topic in topics for each in self.partitions(topic))

    async def arrival(self, topic: str, seconds: float) -> None:
        """Wait until a record comes to the topic, or so long."""
        arrived = self.world.loop.create_future()
        entry = (topic, arrived)
        self._waiting.append(entry)
        timer = self.world.loop.call_later(seconds, _wake, arrived)
        try:
            await arrived
        finally:
            timer.cancel()
            if entry in self._waiting:
                self._waiting.remove(entry)

    def wake(self, topic: str | None = None) -> None:
        """Whoever waits for records of the topic, or of any, looks again."""
        for entry in list(self._waiting):
            if topic in (None, entry[0]):
                self._waiting.remove(entry)
                self.world.loop.call_later(self.world.latency, _wake, entry[1], context=NOBODY)

    def heal(self) -> None:
        """A broker that was away counts the sessions of its members anew."""
        if self.away:
            for group in self.groups.values():
                for member in group.members.values():
                    member.heard_at = self.world.loop.time()
        super().heal()
        self.wake()

    async def join(
        self, name: str, member: str, topics: Sequence[str], session: float
    ) -> tuple[int, list[TopicPartition]]:
        """Returns once the group has formed: its number and the member's partitions."""
        group = self.group(name)
        joined: asyncio.Future[tuple[int, list[TopicPartition]]] = self.world.loop.create_future()

        def effect() -> None:
            group.members[member] = Member(topics, session, self.world.loop.time(), joined)
            group.forming = True
            self._form(group)

        await self.call(effect)
        return await joined

    def leave(self, name: str, member: str) -> None:
        group = self.group(name)
        if group.members.pop(member, None) is not None:
            self._changed(group)

    def heartbeat(self, name: str, member: str, number: int) -> bool:
        """Whether the member may stay as it is."""
        group = self.group(name)
        if member not in group.members:
            return False
        group.members[member].heard_at = self.world.loop.time()
        return group.knows(member, number) and not group.forming

    def commit(self, name: str, member: str, number: int, offsets: Mapping[TopicPartition, int]) -> None:
        """Raises `CommitFailedError` for who is no member of the group as it is now."""
        group = self.group(name)
        if not group.knows(member, number):
            raise CommitFailedError
        if self.world.rng.random() < 0.3:
            group.before = dict(group.committed)
        for partition, offset in offsets.items():
            self.committing(group, partition, offset)
            group.committed[partition] = offset
        self.world.note("commit", name, *(f"{each.topic}/{each.partition}@{at}" for each, at in offsets.items()))

    def lose_commits(self) -> None:
        """Every group stands where it stood some commits ago."""
        for group in self.groups.values():
            self.world.note("commits lost", group.name)
            group.committed = dict(group.before)

    def expire(self) -> None:
        """Members that were silent for their session are none any more."""
        if self.away or self.hangs:
            return
        now = self.world.loop.time()
        for group in self.groups.values():
            silent = [name for name, each in group.members.items() if each.heard_at + each.session < now]
            for name in silent:
                self.world.note("expired", group.name, name)
                self._forget(group, name)
            if silent:
                self._changed(group)

    def evict(self, index: int) -> None:
        """One member of some group is none any more, though it lives."""
        found = [(group, name) for group in self.groups.values() for name in group.members]
        if found:
            group, name = found[index % len(found)]
            self.world.note("evicted", group.name, name)
            self._forget(group, name)
            self._changed(group)

    def _forget(self, group: Group, name: str) -> None:
        joining = group.members.pop(name).joining
        if joining is not None and not joining.done():
            joining.set_exception(KafkaConnectionError("no member any more"))
            joining.exception()  # its client may have given up

    def _changed(self, group: Group) -> None:
        group.forming = bool(group.members)
        self._form(group)

    def _form(self, group: Group) -> None:
        """All are there: each partition goes to one of them."""
        if not group.members or any(each.joining is None for each in group.members.values()):
            return
        group.number += 1
        group.forming = False
        names = sorted(group.members)
        topics = sorted({topic for each in group.members.values() for topic in each.topics})
        everything = [each for topic in topics for each in self.partitions(topic)]
        group.assigned = {name: everything[place :: len(names)] for place, name in enumerate(names)}
        self.world.note("formed", group.name, group.number, *names)
        for name, each in group.members.items():
            joining, each.joining = each.joining, None
            if joining is not None and not joining.done():
                joining.set_result((group.number, group.assigned[name]))


class SimulatedEvents:
    """The `Events` port of one process."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    async def send(self, topic: str, key: bytes | None, value: bytes | None, headers: Headers = ()) -> None:
        await self._sent(lambda: self._broker.append(topic, key, value, headers))

    async def send_all(self, topic: str, events: Sequence[tuple[bytes | None, bytes | None]]) -> None:
        if events:
            await self._sent(lambda: self._append_each(topic, events))

    async def close(self) -> None:
        """Nothing is held open."""

    def _append_each(self, topic: str, events: Sequence[tuple[bytes | None, bytes | None]]) -> None:
        """A broker that breaks connections may have taken the first ones alone."""
        broker = self._broker
        for key, value in events:
            if broker.flaky and broker.world.rng.random() < broker.flaky / 4:
                raise broker.error("the connection broke between two batches")
            broker.append(topic, key, value)

    async def _sent(self, effect: Callable[[], object]) -> None:
        try:
            await self._broker.call(effect)
        except KafkaConnectionError as error:
            raise Unavailable("kafka", str(error)) from error


def _wake(waiting: "asyncio.Future[None]") -> None:
    if not waiting.done():
        waiting.set_result(None)
