"""Sends a load at its rate, and notes the answer to each record."""

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal
from zlib import crc32

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from aiokafka.structs import RecordMetadata

from tests.faults.streams.history import History, Place, Produced
from tests.faults.streams.load import LoadPlan, Planned, planned
from tests.faults.streams.reached import Offsets, Reached

CODECS = ("gzip", "snappy", "lz4", "zstd")
ANSWER_SECONDS = 150.0
"""For which a record is tried: above the longest time that a broker is away."""
LARGEST_BATCH = 900_000
"""Bytes, just below what a broker takes: room for what is sent while it is away."""
METADATA_SECONDS = 2.0
"""After which partitions that a topic gained are known."""
TICK, TRANSACTION_TICK = 0.01, 0.2
"""Seconds between two looks at what is due."""
ABORTED_EVERY = 3


@dataclass(frozen=True, slots=True)
class _Sent:
    """The time that an event claims, and its value."""

    claimed_ms: int | None
    value: bytes


class Sender:
    """Sends one plan."""

    def __init__(self, reached: Reached, plan: LoadPlan, history: History) -> None:
        self._reached = reached
        self._plan = plan
        self._history = history
        self._open: set[asyncio.Future[RecordMetadata]] = set()
        self._sent: dict[str, _Sent] = {}
        self._places: set[tuple[str, int, int]] = set()
        self.users: dict[str, None] = {}
        """Who signed up or acted, in that order."""
        self.ends: Offsets = {}
        """One above the last record that was acknowledged."""

    async def send(self) -> None:
        """All of the plan; returns once each record was answered, or will not be."""
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
            await self.answered()

    async def answered(self) -> None:
        """Returns once each record that was sent by now was answered, or will not be."""
        if self._open:
            await asyncio.wait(set(self._open))

    @asynccontextmanager
    async def _producers(self) -> AsyncIterator[list[AIOKafkaProducer]]:
        arguments: dict[str, Any] = {
            "bootstrap_servers": self._reached.kafka,
            "acks": "all",
            "request_timeout_ms": round(1000 * ANSWER_SECONDS),
            "max_batch_size": LARGEST_BATCH,
            "metadata_max_age_ms": round(1000 * METADATA_SECONDS),
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
            self.users.setdefault(record.user)
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
        sent: _Sent,
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
