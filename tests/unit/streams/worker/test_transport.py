"""What Faust's consumer is set right in, without a broker."""

from pathlib import Path

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
