"""Hears what comes of a load: announcements, whose users are read at once, dead letters and noted rankings."""

import time

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

from features.online.redis_store import RedisStore
from foretaste.kernel.errors import Unavailable
from foretaste.kernel.events import UserEnriched, UserRanked
from streams.codec import EVENTS
from streams.worker.dead_letters import read_dead_letter
from tests.faults.streams.history import Announced, DeadLettered, History, Logged
from tests.faults.streams.reached import Reached

PAGE = 500


class Listener:
    """Of the users whose names begin with `prefix`; `consumer` is started, and closed by whoever made it."""

    def __init__(
        self, reached: Reached, store: RedisStore, consumer: AIOKafkaConsumer, prefix: str, history: History
    ) -> None:
        self._reached = reached
        self._store = store
        self._consumer = consumer
        self._prefix = prefix
        self._history = history
        self._unread: list[tuple[str, float]] = []

    async def run(self) -> None:
        """From where the last listener had come, until cancelled."""
        names, numbers = self._reached.names, range(self._reached.partitions)
        topics = (names.enriched, names.dead_letters, names.ranked)
        places = [TopicPartition(topic, each) for topic in topics for each in numbers]
        self._consumer.assign(places)
        for each in places:
            self._consumer.seek(each, self._reached.heard.get((each.topic, each.partition), 0))
        while True:
            for place, records in (await self._consumer.getmany(timeout_ms=50)).items():
                for record in records:
                    self._hear(place.topic, record, time.time())
                    self._reached.heard[place.topic, place.partition] = record.offset + 1
            await self._read_announced()

    async def caught_up(self) -> bool:
        """Whether it is at the end of its topics, and has read of whom it heard."""
        for each in self._consumer.assignment():
            end = self._consumer.highwater(each)
            if end is None or await self._consumer.position(each) < end:
                return False
        return not self._unread

    def give_up(self) -> None:
        """Whom it could not read by now, it will not read."""
        self._history.extend(Announced(user, at, time.time(), "away") for user, at in self._unread)

    def _hear(self, topic: str, record: ConsumerRecord, now: float) -> None:
        if topic == self._reached.names.enriched:
            user = EVENTS.decode(record.value, UserEnriched).user_id
            if user.startswith(self._prefix):  # others are read again from what came before
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
            found = await self._reached.read(self._store, [user for user, _ in asked])
        except Unavailable:
            return
        now = time.time()
        del self._unread[: len(asked)]
        self._history.extend(
            Announced(user, at, now, "readable" if stored.readable else "missing")
            for (user, at), stored in zip(asked, found, strict=True)
        )
