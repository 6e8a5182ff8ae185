"""Sends a load, hears what comes of it, and writes all of it into a history: one loop, and clients of its own."""

import asyncio
import itertools
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from random import Random
from typing import Any, Literal
from zlib import crc32

import aiohttp
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError
from aiokafka.structs import RecordMetadata

from features.online.redis_store import RedisStore
from foretaste.kernel.errors import Unavailable
from foretaste.kernel.events import UserEnriched, UserRanked
from foretaste.kernel.generations import Generation
from foretaste.kernel.users import UserFeatures
from foretaste.kernel.values import number
from streams.codec import EVENTS
from streams.topics import TopicNames
from streams.worker.dead_letters import read_dead_letter
from tests.faults.streams.history import Announced, DeadLettered, History, Logged, Place, Produced, Ranked, Stored
from tests.faults.streams.load import FIRST_AGE, LoadPlan, Planned, planned

CODECS = ("gzip", "snappy", "lz4", "zstd")
ANSWER_SECONDS = 150.0
"""For which a record is tried: above the longest time that a broker is away."""
LARGEST_BATCH = 900_000
"""Bytes, just below what a broker takes: room for what is sent while it is away."""
TICK, TRANSACTION_TICK = 0.01, 0.2
"""Seconds between two looks at what is due."""
ABORTED_EVERY = 3
RANK_EVERY, RANK_SECONDS = 0.2, 10.0
CANDIDATES = 20
PAGE = 500
LOOK_EVERY = 0.25
CAUGHT_UP_SECONDS, LOGGED_SECONDS = 30.0, 5.0

Offsets = dict[tuple[str, int], int]


@dataclass
class Reached:
    """What the drive works on, by addresses before which no proxy stands."""

    kafka: str
    idempotent: bool
    names: TopicNames
    partitions: int
    """Of each topic, as it was made."""
    api: str
    generation: Generation
    heard: Offsets = field(default_factory=dict)
    """Where the listener goes on, by topic and partition. This and the next are kept from one fault to the next."""
    sent: Offsets = field(default_factory=dict)
    """One above the last record that was sent."""


@dataclass(frozen=True, slots=True)
class _Sent:
    """The time that an event claims, and its value."""

    claimed_ms: int | None
    value: bytes


class Drive:
    """One load and its history."""

    def __init__(self, reached: Reached, store: RedisStore, plan: LoadPlan, history: History) -> None:
        self._reached = reached
        self._store = store
        self._plan = plan
        self._history = history
        self._open: set[asyncio.Future[Any]] = set()
        self._sent: dict[str, _Sent] = {}
        self._places: set[tuple[str, int, int]] = set()
        self._users: dict[str, None] = {}
        self._unread: list[tuple[str, float]] = []
        self._consumer: AIOKafkaConsumer
        self._asking: asyncio.Task[None]
        self.ends: Offsets = {}
        """One above the last record that was acknowledged, by topic and partition."""

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Inside, what comes of the load is heard, and rankings are asked for. Raises what ended either."""
        consumer = AIOKafkaConsumer(bootstrap_servers=self._reached.kafka, enable_auto_commit=False)
        async with consumer, aiohttp.ClientSession() as session:
            self._consumer = consumer
            self._go_on()
            self._asking = asyncio.create_task(self._ask(session))
            tasks = [asyncio.create_task(self._listen()), self._asking]
            try:
                yield
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.wait(tasks)
                self._reached.sent.update(self.ends)
                for each in consumer.assignment():
                    self._reached.heard[each.topic, each.partition] = await consumer.position(each)
            for task in tasks:
                if not task.cancelled():
                    task.result()

    async def send(self) -> None:
        """All of the plan, at its rate; returns once each record was answered, or will not be."""
        tick = TRANSACTION_TICK if self._plan.transactions else TICK
        records = enumerate(planned(self._plan, self._reached.partitions))
        async with self._producers() as producers:
            began = time.time()
            for turn, group in itertools.groupby(records, lambda each: int(each[0] / self._plan.rate / tick)):
                await asyncio.sleep(began + turn * tick - time.time())
                off_ms = self._plan.clock(time.time() - began)
                together = [each for _, each in group]
                if self._plan.transactions:
                    await self._send_in_transaction(producers[0], together, aborted=turn % ABORTED_EVERY == 0)
                    continue
                for each in together:
                    await self._hand_over(producers[crc32(each.user.encode()) % len(producers)], each, off_ms)
            if self._open:
                await asyncio.wait(self._open)

    async def until_handled(self, ends: Offsets, seconds: float) -> bool:
        """Whether the store has, by its own word, the effects of all records below `ends` within so many seconds."""
        return await _within(seconds, partial(self._handled, ends))

    async def settle(self, seconds: float) -> bool:
        """Whether all of the load was handled and heard of within so many seconds; then what the store holds is read.

        Rankings end here; what was noted of them comes to its topic within some seconds, or not.
        """
        handled = await self.until_handled(self.ends, seconds)
        self._asking.cancel()
        await _within(LOGGED_SECONDS, self._logged)
        caught_up = await _within(CAUGHT_UP_SECONDS, self._caught_up)
        self._history.extend(Announced(user, at, time.time(), "away") for user, at in self._unread)
        users = list(self._users)
        for place in range(0, len(users), PAGE):
            found = await self._store.read(users[place : place + PAGE], self._reached.generation.number)
            self._history.extend(self._stored(each) for each in found)
        return handled and caught_up

    @asynccontextmanager
    async def _producers(self) -> AsyncIterator[list[AIOKafkaProducer]]:
        arguments: dict[str, Any] = {
            "bootstrap_servers": self._reached.kafka,
            "acks": "all",
            "request_timeout_ms": round(1000 * ANSWER_SECONDS),
            "max_batch_size": LARGEST_BATCH,
        }
        if self._plan.transactions:
            arguments["transactional_id"] = self._plan.name
        else:
            arguments["enable_idempotence"] = self._reached.idempotent
        async with AsyncExitStack() as stack:
            yield [
                await stack.enter_async_context(AIOKafkaProducer(**arguments, compression_type=codec))
                for codec in (CODECS if self._plan.codecs else (None,))
            ]

    async def _send_in_transaction(
        self, producer: AIOKafkaProducer, records: Sequence[Planned], *, aborted: bool
    ) -> None:
        await producer.begin_transaction()
        for each in records:
            await self._hand_over(producer, each, 0, aborted=aborted)
        await (producer.abort_transaction() if aborted else producer.commit_transaction())

    async def _hand_over(
        self, producer: AIOKafkaProducer, record: Planned, off_ms: int, *, aborted: bool = False
    ) -> None:
        """Give a record to the producer; its answer is noted when it comes."""
        start = time.time()
        stamp_ms = int(1000 * start) + off_ms
        sent = self._sent.get(record.event)  # what is sent again is sent as it was
        if sent is None:
            as_of = self._sent.get(record.as_of)
            claimed_ms = record.claimed_ms(stamp_ms) if as_of is None else as_of.claimed_ms
            sent = self._sent[record.event] = _Sent(claimed_ms, record.value(claimed_ms))
        if record.kind != "poison":
            self._users.setdefault(record.user)
        topic = self._reached.names.registered if record.is_sign_up else self._reached.names.behaved
        key = record.user.encode() if record.keyed else None
        note = partial(self._note, record, sent, start, stamp_ms, aborted=aborted)
        try:
            answer: asyncio.Future[RecordMetadata] = await producer.send(
                topic, sent.value, key, partition=record.partition, timestamp_ms=stamp_ms
            )
        except KafkaError:
            note(None)
            return
        self._open.add(answer)
        answer.add_done_callback(note)

    def _note(
        self,
        record: Planned,
        sent: "_Sent",
        start: float,
        stamp_ms: int,
        answer: "asyncio.Future[RecordMetadata] | None",
        *,
        aborted: bool,
    ) -> None:
        """What became of a record, whose producer answers, or never will (None)."""
        outcome: Literal["acknowledged", "unknown", "aborted"] = "aborted" if aborted else "acknowledged"
        place = None
        if answer is not None:
            self._open.discard(answer)
        if answer is None or answer.cancelled() or answer.exception() is not None:
            outcome = "unknown"
        else:
            place = self._place(answer.result(), stamp_ms)
        if place is not None and not aborted:
            partition = place.topic, place.partition
            self.ends[partition] = max(self.ends.get(partition, 0), place.offset + 1)
        who = record.kind, record.event, record.user, record.number
        self._history.add(Produced(*who, sent.claimed_ms, start, time.time(), outcome, place))

    def _place(self, found: RecordMetadata, stamp_ms: int) -> Place | None:
        """Where a record lies; None where its broker knew that it had it, and not where: the client then counts from
        -1 on, and names places that others have."""
        place = Place(found.topic, found.partition, found.offset, stamp_ms)
        known = place.topic, place.partition, place.offset
        if known in self._places or place.offset < self._reached.sent.get(known[:2], 0):
            return None
        self._places.add(known)
        return place

    def _go_on(self) -> None:
        """The listener reads from where it had come."""
        names, numbers = self._reached.names, range(self._reached.partitions)
        topics = (names.enriched, names.dead_letters, names.ranked)
        places = [TopicPartition(topic, each) for topic in topics for each in numbers]
        self._consumer.assign(places)
        for each in places:
            self._consumer.seek(each, self._reached.heard.get((each.topic, each.partition), 0))

    async def _listen(self) -> None:
        while True:
            for place, records in (await self._consumer.getmany(timeout_ms=50)).items():
                for record in records:
                    self._hear(place.topic, record, time.time())
            await self._read_announced()

    def _hear(self, topic: str, record: ConsumerRecord, now: float) -> None:
        if topic == self._reached.names.enriched:
            user = EVENTS.decode(record.value, UserEnriched).user_id
            if user.startswith(f"{self._plan.name}-"):  # others are read again from what came before
                self._unread.append((user, now))
        elif topic == self._reached.names.ranked:
            self._history.add(Logged(EVENTS.decode(record.value, UserRanked).ranking_id))
        else:
            letter = read_dead_letter(record)
            origin = letter.message.origin
            self._history.add(DeadLettered(origin.topic, origin.partition, origin.offset, str(letter.reason), now))

    async def _read_announced(self) -> None:
        """Straight after, in one read; while the store is away they are read at the next turn."""
        asked = self._unread[:PAGE]
        if not asked:
            return
        try:
            found = await self._store.read([user for user, _ in asked], self._reached.generation.number)
        except Unavailable:
            return
        now = time.time()
        del self._unread[: len(asked)]
        self._history.extend(
            Announced(user, at, now, "readable" if self._readable(features) else "missing")
            for (user, at), features in zip(asked, found, strict=True)
        )

    async def _ask(self, session: aiohttp.ClientSession) -> None:
        """Rankings of users who were sent, one after the other."""
        rng = Random(0)
        while True:
            await asyncio.sleep(RANK_EVERY)
            if not self._users:
                continue
            user = rng.choice(list(self._users))
            items = rng.sample(list(self._plan.items), min(CANDIDATES, len(self._plan.items)))
            start = time.time()
            try:
                async with session.post(
                    f"{self._reached.api}/v1/rank",
                    json={"user_id": user, "items": items},
                    timeout=aiohttp.ClientTimeout(RANK_SECONDS),
                ) as answer:
                    status, body = answer.status, json.loads(await answer.text())
            except (aiohttp.ClientError, TimeoutError):
                status, body = 0, {}
            self._history.add(Ranked(user, start, time.time(), status, body.get("fallback"), body.get("ranking_id")))

    async def _handled(self, ends: Offsets) -> bool:
        if not ends:
            return True
        nowhere = dict.fromkeys(ends, (-1, -1))  # where no partition stands, so that each says where it does
        try:
            stands = await self._store.advance_offsets(nowhere)
        except Unavailable:
            return False
        return all((stands[each] or 0) >= end for each, end in ends.items())

    async def _caught_up(self) -> bool:
        """Whether the listener is at the end of its topics, and has read of whom it heard."""
        for each in self._consumer.assignment():
            end = self._consumer.highwater(each)
            if end is None or await self._consumer.position(each) < end:
                return False
        return not self._unread

    async def _logged(self) -> bool:
        """Whether all rankings that were answered came to their topic."""
        answered = {each.ranking_id for each in self._history.operations if isinstance(each, Ranked)} - {None}
        return answered <= {each.ranking_id for each in self._history.operations if isinstance(each, Logged)}

    def _readable(self, features: UserFeatures) -> bool:
        return features.attributes is not None and not self._reached.generation.lacks(features)

    def _stored(self, features: UserFeatures) -> Stored:
        attributes, behaviour = features.attributes, features.behaviour
        return Stored(
            features.user_id,
            None if attributes is None else int(number(attributes["age"])) - FIRST_AGE,
            self._readable(features),
            list(zip(behaviour.actions, behaviour.times, strict=True)),
            time.time(),
        )


async def _within(seconds: float, done: Callable[[], Awaitable[bool]]) -> bool:
    """Whether it is done within so many seconds."""
    deadline = time.monotonic() + seconds
    while not await done():
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(LOOK_EVERY)
    return True
