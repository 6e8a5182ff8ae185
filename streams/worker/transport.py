"""Faust's Kafka transport, with nine things of its consumer set right.

- All that one look brought of a partition is one message: Faust works for each, and for each that is acknowledged.
  The offset behind the last acknowledged record is committed, whatever lies between the records; Faust counts gaps.
- The fetch wait can be set: Faust fixes it at 1.5 s (see `FetchWait`).
- It reads committed records alone: Faust does so only in transactions of its own.
- A commit that comes after a rebalance is dropped, as Faust means to: it looks for "already rebalanced" in a message
  that aiokafka breaks across two lines at just that place, and so crashes the app.
- A commit that another one is on its way before commits what was acknowledged since: Faust's would do nothing, so that
  a worker that stops, or gives partitions up, would leave it to be read again.
- An agent that is stuck holds up no other: Faust stops fetching a partition once its agent has much to do, and goes on
  with the other partitions of the same topic until their records fill the queue, behind which all wait.
- A fetcher that ended by an error ends the app: Faust would wait for its records for ever.
- A partition is begun where the store stands, if that is before what is committed, and at its start, if nothing is.
- A worker can stop while the broker is away: its last commit is given up after a while, and the cancellation that
  aiokafka's fetcher then raises ends nothing else.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from time import monotonic
from typing import TYPE_CHECKING, Any, ClassVar

from aiokafka.errors import CommitFailedError, IllegalStateError
from aiokafka.structs import OffsetAndMetadata
from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread, Consumer, Transport
from faust.types import TP, Message
from faust.types.transports import ConsumerT
from faust.types.tuples import ConsumerMessage

from streams.fetch_wait import FetchWait
from streams.worker.health.store_progress import StoreProgress
from streams.worker.reading import READ_COMMITTED, STOPPING_SECONDS

if TYPE_CHECKING:
    import aiokafka
    from faust.types import AppT

log = logging.getLogger(__name__)
log.setLevel(logging.WARNING)  # mode tells each step of a service under its module's name

FULL_SECONDS = 0.05
"""For which one look waits for records of other topics while the collector of one is full: Faust would look for one
second before it sees that there is room again."""


class _Thread(AIOKafkaConsumerThread):
    gave_up: bool = False
    """A commit of a worker that stops was given up: the broker is away."""

    def _create_worker_consumer(self, transport: Transport) -> "aiokafka.AIOKafkaConsumer":
        consumer = super()._create_worker_consumer(transport)
        consumer._isolation_level = READ_COMMITTED  # noqa: SLF001  # no setting of Faust's reaches it
        if isinstance(transport, FetchingTransport):
            consumer._fetch_max_wait_ms = transport.fetch_wait.ms  # noqa: SLF001  # likewise
        return consumer

    async def on_thread_stop(self) -> None:
        try:
            await super().on_thread_stop()
        except asyncio.CancelledError:
            # the fetcher waited out a lost connection: cancelling that, aiokafka cancels whoever stops it too
            await self._ensure_consumer()._client.close()  # noqa: SLF001  # what `stop` did not come to

    async def _commit(self, offsets: Mapping[TP, int]) -> bool:
        """Commit the offsets of partitions still held; False where another worker reads those events again."""
        held = {tp: offset for tp, offset in offsets.items() if tp in self.assignment()}
        self.tp_last_committed_at.update(dict.fromkeys(held, monotonic()))
        committing = asyncio.create_task(
            self._ensure_consumer().commit({tp: OffsetAndMetadata(offset, "") for tp, offset in held.items()})
        )
        while not committing.done():
            await asyncio.wait({committing}, timeout=STOPPING_SECONDS)
            if self.app.should_stop and committing.cancel():
                self.gave_up = True
        try:
            committing.result()
        except (CommitFailedError, IllegalStateError, asyncio.CancelledError) as error:
            log.warning(
                "what %d partitions had acknowledged is read again, uncommitted: %s", len(held), type(error).__name__
            )
            return False
        return True


class FetchedMessage(ConsumerMessage):
    """What one look brought of a partition, aiokafka's `records`, with the offset of the last one."""

    def __init__(self, tp: TP, records: Sequence[Any], generation_id: int) -> None:
        last = records[-1]
        super().__init__(
            topic=tp.topic,
            partition=tp.partition,
            offset=last.offset,
            timestamp=last.timestamp / 1000,
            timestamp_type=last.timestamp_type,
            headers=None,
            key=None,
            value=None,
            checksum=None,
            tp=tp,
            generation_id=generation_id,
        )
        self.records = records


class FetchedConsumer(Consumer):
    """Faust's consumer, whose messages are `FetchedMessage`s; who handled their records says so in `settled`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.settled: dict[TP, int] = {}
        """By partition, the offset behind what was acknowledged."""

    def _new_consumer_thread(self) -> _Thread:
        return _Thread(self, loop=self.loop, beacon=self.beacon)

    async def commit(self, topics: Any = None, start_new_transaction: bool = True) -> bool:
        """Commit what was acknowledged by now; another commit that is on its way is waited for."""
        while await self.maybe_wait_for_commit_to_finish():
            if isinstance(self._thread, _Thread) and self._thread.gave_up:
                return False
        committed: bool = await super().commit(topics, start_new_transaction)
        return committed

    def on_buffer_full(self, tp: TP) -> None:
        """Fetch no partition of the topic: one agent reads them all."""
        for each in self._of_topic(tp):
            super().on_buffer_full(each)

    def on_buffer_drop(self, tp: TP) -> None:
        """Fetch all of them again; those that left meanwhile would make each look a short one, for ever."""
        for each in self._of_topic(tp):
            super().on_buffer_drop(each)
        self._buffered_partitions -= {each for each in self._buffered_partitions if each.topic == tp.topic}

    async def seek_to_committed(self) -> Mapping[TP, int]:
        """Where the group stands in each partition, or the store, if that is before.

        Of a partition in which it stands nowhere, the client seeks nothing: what it has handed over until now, before
        the app took records, would be left out.
        """
        committed = await super().seek_to_committed()
        progress = self.transport.progress if isinstance(self.transport, FetchingTransport) else None
        known = {each: max(committed.get(each) or 0, 0) for each in self.assignment()}
        starts = known if progress is None else await progress.begin(known)
        sought = {each: start for each, start in starts.items() if start < known[each] or start == 0}
        for partition, start in sought.items():
            await self._seek(partition, start)
        return {**committed, **sought}

    def _of_topic(self, tp: TP) -> list[TP]:
        return [each for each in self.assignment() if each.topic == tp.topic]

    async def getmany(self, timeout: float) -> AsyncIterator[tuple[TP, Message]]:  # noqa: ASYNC109  # Faust names it
        """Messages in turn; then the next fetch waits for as long as what came asks for."""
        heard, client = False, self._thread._ensure_consumer()  # noqa: SLF001
        if client._fetcher.error_future.done():  # noqa: SLF001  # nothing would come any more, and no call tells
            client._fetcher.error_future.result()  # noqa: SLF001
        async for partition, message in super().getmany(timeout):
            heard = True
            yield partition, message
        if isinstance(self.transport, FetchingTransport):
            self.transport.fetch_wait.apply(client, heard=heard)

    async def _getmany(self, active_partitions: set[TP] | None, timeout: float) -> dict[TP, list[Any]]:  # noqa: ASYNC109
        wait = min(timeout, FULL_SECONDS) if self._buffered_partitions else timeout
        fetched = await super()._getmany(active_partitions, wait)
        return {tp: [records] for tp, records in fetched.items() if records}

    def _to_message(self, tp: TP, record: Sequence[Any]) -> FetchedMessage:
        return FetchedMessage(tp, record, self.app.consumer_generation_id)

    async def _add_gap(self, tp: TP, offset_from: int, offset_to: int) -> None:
        """Gaps do not matter to `settled`."""

    def _filter_tps_with_pending_acks(self, topics: Any = None) -> Iterator[TP]:
        return iter([tp for tp in self.settled if topics is None or tp in topics or tp.topic in topics])

    def _new_offset(self, tp: TP) -> int | None:
        return self.settled.get(tp)


class FetchingTransport(Transport):
    """The transport of `app`, whose consumer lets the broker hold a fetch for `fetch_wait` at most."""

    Consumer: ClassVar[type[ConsumerT]] = FetchedConsumer

    def __init__(self, app: "AppT", fetch_wait: FetchWait, progress: StoreProgress | None = None) -> None:
        super().__init__(app.conf.broker_consumer, app)
        self.fetch_wait = fetch_wait
        self.progress = progress
