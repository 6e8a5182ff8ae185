"""The port of what reads Kafka for a worker: Faust, or aiokafka alone. One contract, one suite of tests.

1. It reads committed records alone, from where its group stands, and hands them to the collector of their topic in the
   order of their partition; a collector that is full holds up its own topic and no other.
2. It commits an offset only once all events before it were acknowledged: at least once.
3. Before partitions are given up, the batches at work get `grace` seconds, and what was acknowledged is committed.
4. Stopping settles what was taken, within `grace` seconds, commits it, and leaves the group.
5. Partitions that it gets are begun where the store stands, if that is before where the group does.
6. A collector that ends by a defect ends it; so does any task of it, the client's own among them, that ends.
"""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar

from aiokafka import TopicPartition

from foretaste.kernel.configuration import resolve
from foretaste.kernel.errors import ForetasteError
from foretaste.kernel.events import Origin
from streams.worker.collector import Collector
from streams.worker.connection import KafkaConnection
from streams.worker.dead_letters import message_of
from streams.worker.health.store_progress import StoreProgress

ConsumerName = Literal["faust", "aiokafka"]
Partition = TypeVar("Partition", bound=tuple[str, int])
"""A topic and a number, as a library names them."""

CONSUMERS: Mapping[str, str] = {
    "faust": "streams.worker.app:FaustConsumer",
    "aiokafka": "streams.worker.aiokafka_consumer:AiokafkaConsumer",
}
"""Import paths: a worker loads the one that it runs on."""


@dataclass(frozen=True, slots=True)
class ConsumerConfig:
    """How a worker takes part in its consumer group. Times are in seconds."""

    kind: ConsumerName = "faust"
    commit_interval: float = 1.0
    """Between commits of what was acknowledged: what a killed worker's successor reads again, at most."""
    session_timeout: float = 10.0
    """After which the group gives a silent worker's partitions to others; Kafka grants 6 at least.

    Tansu lets a group form for half of it, which is then how long a start takes.
    """
    heartbeat_interval: float = 3.0
    fetch_wait: float = 0.5
    """For how long the broker may hold a fetch; near a latency only on a broker that does not wake it (Tansu)."""
    idle_fetch_wait: float | None = None
    """The same once no record came for `fetch_wait.IDLE_AFTER`; `fetch_wait` where absent."""
    grace: float = 10.0
    """For the batch at work, when partitions leave or the worker stops; below the group's 60 s for a rebalance."""
    folder: Path = field(default_factory=Path)
    """Where Faust makes its data folder, which stays empty without tables."""


class EndedConsumer(ForetasteError):
    """A task of a consumer ended without an error, though nobody asked it to: the worker starts anew."""

    retriable = True


class WorkerConsumer(Protocol):
    """A member of a consumer group that feeds collectors. Made in a running loop, and started once."""

    async def start(self) -> None:
        """Run the collectors and join the group; on return the partitions may still be on their way."""
        ...

    async def stop(self) -> None:
        """Settle, commit and leave; also after a `start` that failed."""
        ...

    async def failed(self) -> None:
        """Wait until it cannot go on, and raise why."""
        ...

    def assignment(self) -> Set[TopicPartition]:
        """The partitions that it holds now."""
        ...


def make_consumer(
    connection: KafkaConnection,
    group: str,
    collectors: Mapping[str, Collector],
    config: ConsumerConfig,
    progress: StoreProgress | None = None,
) -> WorkerConsumer:
    """The consumer of `config.kind`, of `collectors` by topic; offsets are kept under `group`."""
    made: Any = resolve("consumer", config.kind, CONSUMERS)
    consumer: WorkerConsumer = made(connection, group, collectors, config, progress)
    return consumer


def hand_over(
    partition: Partition, records: Sequence[Any], collector: Collector, settled: dict[Partition, int]
) -> None:
    """Give the collector what was fetched of a partition, aiokafka's records, though it may be full by then.

    A collector acknowledges in order, so the offset behind the last acknowledged record is where the group stands in
    `settled`, whatever lies between the records: aborted ones, markers of transactions, compacted ones.
    """
    topic, number = partition
    for record in records:
        offset = record.offset
        origin = Origin(topic, number, offset, record.timestamp)
        message = message_of(record.key, record.value, record.headers, origin)
        collector.put_nowait(message, partial(settled.__setitem__, partition, offset + 1), origin)
