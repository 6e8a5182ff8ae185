"""The Faust app: two agents that hand raw records to collectors, and nothing else.

What Faust does on its own is turned off: it acknowledges an event whose agent raised, `take` acknowledges in a
`finally`, its tables recover badly, and it makes topics of one partition. So values stay raw bytes, streams are
`noack`, there is one agent a topic with a concurrency of one (more would reorder), no table, no leader topic, no
declared topic and no web server.
"""

import asyncio
from collections.abc import Mapping, Sequence, Set
from time import monotonic
from typing import Any

import faust
from aiokafka import TopicPartition
from faust.app.base import BootStrategy
from faust.sensors.monitor import Monitor
from faust.types import TP, EventT, StreamT, TopicT
from faust.types import Message as FaustMessage
from faust.types.auth import CredentialsT

from foretaste.kernel.events import Message, Origin
from streams.fetch_wait import FetchWait
from streams.worker.collector import Collector
from streams.worker.connection import KafkaConnection
from streams.worker.consumer import ConsumerConfig, EndedConsumer
from streams.worker.dead_letters import message_of
from streams.worker.health.store_progress import StoreProgress
from streams.worker.reading import METADATA_SECONDS
from streams.worker.transport import FetchingTransport

BUFFERED_EVENTS = 1024
"""Between Kafka and an agent, beside what a collector holds. At four fifths of it Faust stops fetching the topic."""
POLLED_EVENTS = 200
"""Of one look at what was fetched: what is left of it by then must fit beside four fifths, or all topics wait."""


class _NoProducer(BootStrategy):
    enable_kafka_producer = False  # events are produced through the Events port, with its own guarantees
    enable_web = False


class _InboundTimes(Monitor):
    """Of what Faust's monitor counts for each event, the one thing that its own checks read; ours are `Metrics`."""

    def on_message_in(self, tp: TP, offset: int, message: FaustMessage) -> None: ...

    def on_message_out(self, tp: TP, offset: int, message: FaustMessage) -> None: ...

    def on_stream_event_in(self, tp: TP, offset: int, stream: StreamT[Any], event: EventT[Any]) -> None:
        self.stream_inbound_time[tp] = monotonic()

    def on_stream_event_out(
        self, tp: TP, offset: int, stream: StreamT[Any], event: EventT[Any], state: dict[str, Any] | None = None
    ) -> None: ...


class StreamApp(faust.App):
    """A Faust app that gives partitions up only when no collector works on them any more."""

    BootStrategy = _NoProducer
    collectors: Sequence[Collector] = ()
    grace: float = 0.0
    settling: bool = False
    """The collectors run: true from the start of the app on."""

    def feed(self, collectors: Mapping[str, Collector], grace: float) -> None:
        """One agent for each topic of `collectors`, feeding its collector."""
        self.collectors = list(collectors.values())
        self.grace = grace
        for topic, collector in collectors.items():
            self.agent(self._raw_topic(topic), name=f"{topic}-agent", concurrency=1)(_agent(collector))
        self.on_partitions_revoked.connect(self._give_up)

    async def on_start(self) -> None:
        await super().on_start()
        for collector in self.collectors:
            self.add_future(collector.run())
        self.settling = True

    async def on_stop(self) -> None:
        """Settle what was taken; then Faust commits what was acknowledged and leaves the group."""
        if self.settling:
            await asyncio.gather(*(collector.stop(self.grace) for collector in self.collectors))
        await super().on_stop()

    async def _give_up(self, *_: object, **__: object) -> None:
        await asyncio.gather(*(collector.discard(self.grace) for collector in self.collectors))
        await self.consumer.commit()

    def _raw_topic(self, name: str) -> TopicT:
        return self.topic(
            name, key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw", allow_empty=True
        )


def build_app(
    connection: KafkaConnection,
    group: str,
    collectors: Mapping[str, Collector],
    config: ConsumerConfig,
    progress: StoreProgress | None = None,
) -> StreamApp:
    """The app of one worker, for the running loop: `collectors` by topic, offsets kept under `group`."""
    app = StreamApp(
        group,
        **faust_arguments(connection),
        loop=asyncio.get_running_loop(),
        Monitor=_InboundTimes,
        datadir=config.folder / f"{group}-faust",
        origin=None,
        autodiscover=False,
        web_enabled=False,
        topic_disable_leader=True,
        topic_allow_declare=False,
        key_serializer="raw",
        value_serializer="raw",
        processing_guarantee="at_least_once",
        consumer_auto_offset_reset="earliest",
        table_standby_replicas=0,  # or Faust brings its own partition assignor, for tables
        stream_wait_empty=False,  # the collectors are waited for instead, within a grace
        stream_buffer_maxsize=BUFFERED_EVENTS,
        broker_max_poll_records=POLLED_EVENTS,
        broker_commit_interval=config.commit_interval,
        broker_session_timeout=config.session_timeout,
        broker_heartbeat_interval=config.heartbeat_interval,
        consumer_metadata_max_age_ms=round(1000 * METADATA_SECONDS),
    )
    wait = FetchWait(config.fetch_wait, config.idle_fetch_wait or config.fetch_wait)
    app.transport = FetchingTransport(app, wait, progress)
    app.feed(collectors, config.grace)
    return app


class FaustConsumer:
    """As `WorkerConsumer` has it, on a Faust app."""

    def __init__(
        self,
        connection: KafkaConnection,
        group: str,
        collectors: Mapping[str, Collector],
        config: ConsumerConfig,
        progress: StoreProgress | None = None,
    ) -> None:
        self._app = build_app(connection, group, collectors, config, progress)

    async def start(self) -> None:
        await self._app.start()

    async def stop(self) -> None:
        await self._app.stop()

    async def failed(self) -> None:
        await self._app.wait_until_stopped()
        if self._app.crash_reason is not None:
            raise self._app.crash_reason
        raise EndedConsumer("Faust's app stopped though nobody asked it to")

    def assignment(self) -> Set[TopicPartition]:
        return {TopicPartition(*each) for each in self._app.consumer.assignment()}


def faust_arguments(connection: KafkaConnection) -> dict[str, Any]:
    """How to reach Kafka, as settings of a Faust app."""
    broker = [f"kafka://{server.strip()}" for server in connection.bootstrap.split(",")]
    return {"broker": broker, "broker_credentials": _credentials(connection)}


def _credentials(connection: KafkaConnection) -> CredentialsT | None:
    if connection.security_protocol.startswith("SASL"):
        return faust.SASLCredentials(
            username=connection.username,
            password=connection.password,
            mechanism=connection.sasl_mechanism,
            ssl_context=connection.tls,
        )
    return faust.SSLCredentials(connection.tls) if connection.security_protocol == "SSL" else None


def _agent(collector: Collector) -> Any:
    async def feed(stream: faust.Stream[bytes]) -> None:
        async for event in stream.noack().events():
            await collector.put(_message(event), event.ack)

    return feed


def _message(event: EventT[bytes]) -> Message:
    record = event.message
    origin = Origin(record.topic, record.partition, record.offset, round(record.timestamp * 1000))
    return message_of(record.key, record.value, record.headers, origin)
