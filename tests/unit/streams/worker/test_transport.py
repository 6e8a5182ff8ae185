"""What Faust's consumer is set right in, without a broker."""

import asyncio
from pathlib import Path
from typing import Any

from faust.types import TP

from streams.worker.app import build_app
from streams.worker.connection import KafkaConnection
from streams.worker.consumer import ConsumerConfig
from streams.worker.transport import FetchedConsumer

ZERO, ONE, OTHER = TP("a", 0), TP("a", 1), TP("b", 0)


async def ignore(*_: object) -> None:
    """Nothing comes."""


async def test_partitions_that_left_while_their_topic_was_full_are_buffered_no_more(tmp_path: Path) -> None:
    app = build_app(KafkaConnection("127.0.0.1:1"), "group", {}, ConsumerConfig(folder=tmp_path))
    held = {ZERO, ONE, OTHER}

    class Holding(FetchedConsumer):
        def assignment(self) -> set[TP]:
            return held

    consumer = Holding(app.transport, ignore, ignore, ignore)
    for partition in (ZERO, OTHER):
        consumer.on_buffer_full(partition)
    assert consumer._buffered_partitions == {ZERO, ONE, OTHER}
    held.discard(ONE)
    consumer.on_buffer_drop(ZERO)
    assert consumer._buffered_partitions == {OTHER}
    assert ZERO in consumer._get_active_partitions()
    consumer._thread.thread_loop.close()  # of the thread that was not started


async def test_a_partition_in_which_the_group_stands_nowhere_is_read_from_its_start(tmp_path: Path) -> None:
    """The client seeks to offsets that were committed alone, and may have handed over others before."""
    app = build_app(KafkaConnection("127.0.0.1:1"), "group", {}, ConsumerConfig(folder=tmp_path))

    class Assigned(FetchedConsumer):
        def assignment(self) -> set[TP]:
            return {ZERO, ONE}

    class Client:
        def __init__(self) -> None:
            self.sought: dict[TP, int] = {}

        async def seek_to_committed(self) -> dict[TP, int | None]:
            return {ZERO: 5, ONE: None}

        def seek(self, partition: TP, offset: int) -> None:
            self.sought[partition] = offset

    consumer = Assigned(app.transport, ignore, ignore, ignore)
    consumer._thread.thread_loop.close()  # of the thread that was not started
    client: Any = Client()
    consumer._thread = client
    assert await consumer.seek_to_committed() == {ZERO: 5, ONE: 0}
    assert client.sought == {ONE: 0}


async def test_what_was_acknowledged_while_a_commit_was_on_its_way_is_committed_too(tmp_path: Path) -> None:
    app = build_app(KafkaConnection("127.0.0.1:1"), "group", {}, ConsumerConfig(folder=tmp_path))
    begun, go_on = asyncio.Event(), asyncio.Event()

    class Thread:
        def __init__(self) -> None:
            self.committed: list[dict[TP, int]] = []

        def assignment(self) -> set[TP]:
            return {ZERO, ONE}

        async def commit(self, offsets: dict[TP, int]) -> bool:
            self.committed.append(dict(offsets))
            begun.set()
            await go_on.wait()
            return True

    consumer = FetchedConsumer(app.transport, ignore, ignore, ignore)
    consumer._thread.thread_loop.close()  # of the thread that was not started
    thread: Any = Thread()
    consumer._thread = thread
    consumer.settled = {ZERO: 5}
    at_its_time = asyncio.create_task(consumer.commit())
    await begun.wait()
    consumer.settled = {ZERO: 7, ONE: 2}
    at_the_end = [asyncio.create_task(consumer.commit()) for _ in range(2)]
    await asyncio.sleep(0)
    go_on.set()
    await asyncio.gather(at_its_time, *at_the_end)
    assert thread.committed == [{ZERO: 5}, {ZERO: 7, ONE: 2}]


async def test_once_a_commit_was_given_up_a_worker_that_stops_tries_no_other(tmp_path: Path) -> None:
    app = build_app(KafkaConnection("127.0.0.1:1"), "group", {}, ConsumerConfig(folder=tmp_path))
    begun, go_on = asyncio.Event(), asyncio.Event()
    tried: list[dict[TP, int]] = []
    consumer = FetchedConsumer(app.transport, ignore, ignore, ignore)
    thread: Any = consumer._thread
    thread.thread_loop.close()  # of the thread that was not started

    async def commit(offsets: dict[TP, int]) -> bool:
        tried.append(dict(offsets))
        begun.set()
        await go_on.wait()
        thread.gave_up = True
        return False

    thread.assignment = lambda: {ZERO}
    thread.commit = commit
    consumer.settled = {ZERO: 5}
    at_its_time = asyncio.create_task(consumer.commit())
    await begun.wait()
    consumer.settled = {ZERO: 7}
    at_the_end = asyncio.create_task(consumer.commit())
    await asyncio.sleep(0)
    go_on.set()
    assert not await at_the_end
    await at_its_time
    assert tried == [{ZERO: 5}]
