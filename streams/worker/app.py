"""The Faust app: an agent a topic that hands records to its collector, and nothing else.

What Faust does on its own is turned off: it acknowledges an event whose agent raised, `take` acknowledges in a
`finally`, its tables recover badly, and it makes topics of one partition. So streams are `noack`, there is one agent a
topic with a concurrency of one (more would reorder), no table, no leader topic, no declared topic and no web server.

An event of Faust's is all that one look brought of a partition (`FetchedMessage`): its own work for an event, several
tasks and an object of each of its parts, costs more than a sign-up from decoding to the store.
"""

import asyncio
import logging
from collections.abc import Mapping, Sequence, Set
from time import monotonic
from typing import Any, cast

import faust
from aiokafka import TopicPartition
from faust.app.base import BootStrategy
from faust.sensors.monitor import Monitor
from faust.types import TP, EventT, Message, StreamT, TopicT
from faust.types.auth import CredentialsT

from streams.fetch_wait import FetchWait
from streams.worker.collector import Collector
from streams.worker.connection import KafkaConnection
from streams.worker.consumer import ConsumerConfig, EndedConsumer, hand_over
from streams.worker.health.store_progress import StoreProgress
from streams.worker.reading import METADATA_SECONDS
from streams.worker.transport import FetchedConsumer, FetchingTransport

logging.getLogger(__name__).setLevel(logging.WARNING)  # mode tells each step of a service under its module's name

POLLED_RECORDS = 500
"""Of one look at what was fetched, which may come on top of a collector's capacity."""


class _NoProducer(BootStrategy):
    enable_kafka_producer = False  # events are produced through the Events port, with its own guarantees
    enable_web = False


class _InboundTimes(Monitor):
    """Of what Faust's monitor counts for each event, the one thing that its own checks read; ours are `Metrics`."""

    def on_message_in(self, tp: TP, offset: int, message: Message) -> None: ...

    def on_message_out(self, tp: TP, offset: int, message: Message) -> None: ...

    def on_stream_event_in(self, tp: TP, offset: int, stream: StreamT[Any], event: EventT[Any]) -> None:
        self.stream_inbound_time[tp] = monotonic()

    def on_stream_event_out(
        self, tp: TP, offset: int, stream: StreamT[Any], event: EventT[Any], state: dict[str, Any] | None = None
    ) -> None: ...


class StreamApp(faust.App):
    """A Faust app that gives partitions up only when no collector works on them any more."""

    BootStrategy = _NoProducer
    collectors: Sequence[Collector] = ()
    progress: StoreProgress | None = None
    grace: float = 0.0
    settling: bool = False
    """The collectors run: true from the start of the app on."""

    def feed(self, collectors: Mapping[str, Collector], grace: float, progress: StoreProgress | None) -> None:
        """One agent for each topic of `collectors`, feeding its collector."""
        self.collectors = list(collectors.values())
        self.progress = progress
        self.grace = grace
        for topic, collector in collectors.items():
            self.agent(self._raw_topic(topic), name=f"{topic}-agent", concurrency=1)(self._agent(collector))
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
        self._fetched.settled.clear()
        if self.progress is not None:
            self.progress.give_up()

    @property
    def _fetched(self) -> FetchedConsumer:
        return cast("FetchedConsumer", self.consumer)  # of the transport that `build_app` sets

    def _agent(self, collector: Collector) -> Any:
        async def feed(stream: faust.Stream[None]) -> None:
            async for event in stream.noack().events():
                consumer, fetched = self._fetched, event.message
                hand_over(fetched.tp, fetched.records, collector, consumer.settled)
                if collector.full:
                    consumer.on_buffer_full(fetched.tp)
                    await collector.room()
                    consumer.on_buffer_drop(fetched.tp)

        return feed

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
        broker_max_poll_records=POLLED_RECORDS,
        broker_commit_interval=config.commit_interval,
        broker_session_timeout=config.session_timeout,
        broker_heartbeat_interval=config.heartbeat_interval,
        consumer_metadata_max_age_ms=round(1000 * METADATA_SECONDS),
    )
    wait = FetchWait(config.fetch_wait, config.idle_fetch_wait or config.fetch_wait)
    app.transport = FetchingTransport(app, wait, progress)
    app.feed(collectors, config.grace, progress)
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
        if self._app.crash_reason is not None:  # a crashed app ends its start without an error
            raise self._app.crash_reason

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
