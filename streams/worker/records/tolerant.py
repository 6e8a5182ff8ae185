"""aiokafka's consumers, made to read on behind what they cannot read.

By itself, aiokafka raises at a header name that is no UTF-8, at a codec that it does not know and at a damaged batch,
each time that it comes there: the partition stands for ever, and the records before in the same batch are lost.
`read_on` replaces two of its classes for all consumers of this process.
"""

import logging
import struct
from collections import Counter
from collections.abc import Iterable, Iterator
from threading import Lock
from typing import Any, Final

from aiokafka import TopicPartition
from aiokafka.consumer import fetcher
from aiokafka.errors import CorruptRecordException
from aiokafka.record.memory_records import MemoryRecords
from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

from streams.worker.records.batch import UNREADABLE, UnreadableRecords, read_records

log = logging.getLogger(__name__)

FETCHES = 3
"""Of a batch whose checksum is wrong, before it is skipped: it may have been damaged on its way."""
REMEMBERED = 10_000
"""Places of skipped records, so that each is said and counted once however many consumers come there."""
_LENGTH_AT, _BEFORE_LENGTH_ENDS, _FORMAT_AT, _FORMAT = 8, 12, 16, 2


class SkippedRecords:
    """What the consumers of this process skipped since it could not be read, for any thread."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._places: dict[tuple[TopicPartition, int], None] = {}
        self._fetched: Counter[tuple[TopicPartition, int]] = Counter()
        self.counts: Counter[str] = Counter()
        """Offsets skipped, by topic."""

    def note(self, partition: TopicPartition, found: UnreadableRecords) -> None:
        """Say and count it, unless another consumer came there before."""
        place = partition, found.first
        with self._lock:
            if place in self._places:
                return
            self._places[place] = None
            while len(self._places) > REMEMBERED:
                del self._places[next(iter(self._places))]
            self.counts[partition.topic] += found.last - found.first + 1
        log.error(
            "skipped, since it cannot be read: %s/%d, offsets %d to %d: %s",
            partition.topic,
            partition.partition,
            found.first,
            found.last,
            found.problem,
        )

    def is_damaged_for_good(self, partition: TopicPartition, offset: int) -> bool:
        """Whether a batch with a wrong checksum was fetched often enough."""
        with self._lock:
            self._fetched[partition, offset] += 1
            if self._fetched[partition, offset] < FETCHES:
                return False
            del self._fetched[partition, offset]
            return True


SKIPPED: Final = SkippedRecords()
"""Of this process."""


class SkippedCounter(Collector):
    """The counts of `SKIPPED`, for a registry."""

    def describe(self) -> Iterable[Metric]:
        return [self._family()]

    def collect(self) -> Iterator[Metric]:
        family = self._family()
        for topic, count in SKIPPED.counts.items():
            family.add_metric([topic], count)
        yield family

    @staticmethod
    def _family() -> CounterMetricFamily:
        text = "Offsets that were skipped since no client can read what lies there"
        return CounterMetricFamily("foretaste_records_skipped", text, labels=["topic"])


class KeptRecords:
    """The batches of one answer to a fetch, and the bytes of the last one that was taken."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._records = MemoryRecords(data)
        self._began = self._ends = 0

    def size_in_bytes(self) -> int:
        size: int = self._records.size_in_bytes()
        return size

    def has_next(self) -> bool:
        more: bool = self._records.has_next()
        return more

    def next_batch(self) -> Any:
        self._began = self._ends
        (length,) = struct.unpack_from(">i", self._data, self._began + _LENGTH_AT)
        self._ends = self._began + _BEFORE_LENGTH_ENDS + length
        try:
            return self._records.next_batch()
        except CorruptRecordException:  # of a batch behind one of an earlier format, though it is whole
            self._records = MemoryRecords(self._data[self._began :])
            return self._records.next_batch()

    @property
    def last_batch(self) -> bytes:
        return bytes(self._data[self._began : self._ends])


class TolerantRecords(fetcher.PartitionRecords):  # type: ignore[misc]  # aiokafka ships no types
    """The records of one answer to a fetch from one partition; what cannot be read is skipped, said and counted.

    A batch whose checksum is wrong is fetched again first, `FETCHES` times in all.
    """

    next_fetch_offset: int

    def _unpack_records(self) -> Iterator[Any]:
        records: KeptRecords = self._records
        while records.has_next():
            try:
                batch = records.next_batch()
            except UNREADABLE as error:
                self._skip(UnreadableRecords(self.next_fetch_offset, self.next_fetch_offset, repr(error)))
                return
            if self._check_crcs and not batch.validate_crc():
                if not SKIPPED.is_damaged_for_good(self._tp, self.next_fetch_offset):
                    return
                self._skip(UnreadableRecords(self.next_fetch_offset, batch.next_offset - 1, "the checksum is wrong"))
            elif not self._is_taken_back(batch) and not batch.is_control_batch:
                yield from self._readable(batch, records)
            self.next_fetch_offset = batch.next_offset

    def _is_taken_back(self, batch: Any) -> bool:
        """It belongs to a transaction that was aborted; as aiokafka itself tells it."""
        if self._isolation_level != fetcher.READ_COMMITTED or batch.producer_id is None:
            return False
        self._consume_aborted_up_to(batch.base_offset)
        if batch.is_control_batch and self._contains_abort_marker(batch):
            self._aborted_producers.discard(batch.producer_id)
        return bool(batch.is_transactional and batch.producer_id in self._aborted_producers)

    def _readable(self, batch: Any, records: KeptRecords) -> Iterator[Any]:
        try:
            for record in batch:
                if record.offset >= self.next_fetch_offset:  # what lies before was fetched as a part of its batch
                    found = self._consumer_record(self._tp, record)
                    self.next_fetch_offset = record.offset + 1
                    yield found
        except UNREADABLE as error:
            problem = error
        else:
            return
        whole = records.last_batch
        if whole[_FORMAT_AT] < _FORMAT:
            self._skip(UnreadableRecords(self.next_fetch_offset, batch.next_offset - 1, repr(problem)))
        else:
            yield from self._one_by_one(whole)

    def _one_by_one(self, whole: bytes) -> Iterator[Any]:
        """Those from the next offset on, since some may have been read."""
        for each in read_records(whole):
            if isinstance(each, UnreadableRecords):
                if each.last >= self.next_fetch_offset:
                    self._skip(each)
            elif each.offset >= self.next_fetch_offset:
                found = self._consumer_record(self._tp, each)
                self.next_fetch_offset = each.offset + 1
                yield found

    def _skip(self, found: UnreadableRecords) -> None:
        SKIPPED.note(self._tp, found)
        self.next_fetch_offset = found.last + 1


def read_on() -> None:
    """From now on, all consumers of this process read so. Harmless to repeat."""
    fetcher.MemoryRecords = KeptRecords
    fetcher.PartitionRecords = TolerantRecords
