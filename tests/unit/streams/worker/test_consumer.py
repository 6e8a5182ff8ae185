"""What was fetched of a partition, from a consumer to its collector and back."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from faust.types import TP

from foretaste.kernel.batching import BatchPolicy
from foretaste.kernel.events import DeadLetter, Message, Origin, Reason
from foretaste.testing import InMemoryOffsets
from streams.worker.collector import Collector, CollectorConfig
from streams.worker.consumer import hand_over
from streams.worker.dead_letters import replay_headers
from streams.worker.health.store_progress import StoreProgress
from streams.worker.transport import FetchedMessage
from tests.stream_parts import World

PARTITION = TP("user-registered", 3)


@dataclass
class Record:
    """As aiokafka gives it."""

    offset: int
    key: bytes | None = b"ada"
    value: bytes | None = b"{}"
    timestamp: int = 1_764_000_000_123
    timestamp_type: int = 0
    headers: tuple[tuple[str, bytes], ...] = ()


RECORDS = [Record(5), Record(7), Record(9, key=None)]
"""Between them lie records that nobody can read."""


async def test_what_is_acknowledged_settles_the_offset_behind_it() -> None:
    handled: list[Message] = []
    settled: dict[TP, int] = {}
    behind: list[int | None] = []

    async def handle(messages: Sequence[Message]) -> None:
        handled.extend(messages)
        behind.append(settled.get(PARTITION))

    async def reject(letters: Sequence[DeadLetter]) -> None:
        raise AssertionError(letters)

    config = CollectorConfig(BatchPolicy(size=2, at_once=True), capacity=2)
    collector = Collector("sign-up", handle, reject, World().metrics, config)
    hand_over(PARTITION, RECORDS, collector, settled)
    assert collector.full
    assert not settled
    running = asyncio.create_task(collector.run())
    await collector.stop(1.0)
    await running
    assert behind == [None, 8]
    assert settled == {PARTITION: 10}
    assert [each.origin for each in handled] == [
        Origin(PARTITION.topic, PARTITION.partition, offset, 1_764_000_000_123) for offset in (5, 7, 9)
    ]
    assert [each.key for each in handled] == [b"ada", b"ada", None]


async def test_a_replayed_letter_moves_the_stores_word_by_where_it_lies_now() -> None:
    first = DeadLetter(Message(b"ada", b"{}", Origin(PARTITION.topic, 1, 900, 1)), Reason.INVALID, "")
    handled: list[Message] = []

    async def handle(messages: Sequence[Message]) -> None:
        handled.extend(messages)

    async def reject(letters: Sequence[DeadLetter]) -> None:
        raise AssertionError(letters)

    store, metrics = InMemoryOffsets(), World().metrics
    progress = StoreProgress(store, metrics.lost_tails)
    await progress.begin({PARTITION: 5, (PARTITION.topic, 1): 3})
    config = CollectorConfig(BatchPolicy(size=1, at_once=True), progress=progress)
    collector = Collector("sign-up", handle, reject, metrics, config)
    hand_over(PARTITION, [Record(5, headers=tuple(replay_headers(first)))], collector, {})
    running = asyncio.create_task(collector.run())
    await collector.stop(1.0)
    await running
    assert [each.origin for each in handled] == [first.message.origin]
    assert store.held == {PARTITION: 6, (PARTITION.topic, 1): 3}


def test_all_that_was_fetched_of_a_partition_is_one_message_with_its_last_offset() -> None:
    fetched = FetchedMessage(PARTITION, RECORDS, generation_id=4)
    assert (fetched.tp, fetched.offset, fetched.generation_id) == (PARTITION, 9, 4)
    assert fetched.records == RECORDS
    assert fetched.timestamp == 1_764_000_000.123
