"""What cannot be read is skipped with its offset, once, and what lies around it is read."""

import struct
import zlib
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.consumer import fetcher
from aiokafka.consumer.fetcher import READ_COMMITTED
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.legacy_records import LegacyRecordBatchBuilder
from aiokafka.record.util import calc_crc32c
from prometheus_client import CollectorRegistry

from streams.worker.records import tolerant
from streams.worker.records.tolerant import KeptRecords, SkippedCounter, SkippedRecords, TolerantRecords, read_on

HERE = TopicPartition("user-registered", 3)
Change = Callable[[bytearray], object]


@pytest.fixture(autouse=True)
def skipped(monkeypatch: pytest.MonkeyPatch) -> SkippedRecords:
    found = SkippedRecords()
    monkeypatch.setattr(tolerant, "SKIPPED", found)
    return found


def sealed(raw: bytearray) -> bytes:
    struct.pack_into(">I", raw, 17, calc_crc32c(bytes(raw[21:])))
    return bytes(raw)


def batch(base: int, keys: Sequence[bytes], change: Change = lambda _: None, codec: int = 0) -> bytes:
    """A batch of format 2 at the offset `base`, changed and sealed again with its checksum."""
    builder = DefaultRecordBatchBuilder(2, codec, 0, -1, -1, 0, 100_000)
    for place, key in enumerate(keys):
        builder.append(place, 1000 + place, key, b"value of " + key, [("NAME", b"x"), ("none", None)])
    raw = bytearray(builder.build())
    struct.pack_into(">q", raw, 0, base)
    change(raw)
    return sealed(raw)


def latin_header_of(key: bytes) -> Change:
    def change(raw: bytearray) -> None:
        raw[raw.index(b"NAME", raw.index(key))] = 0xE9

    return change


def codec_of(number: int) -> Change:
    def change(raw: bytearray) -> None:
        raw[22] = number

    return change


def broken_length_of(key: bytes) -> Change:
    """The key's own length is beyond its record."""

    def change(raw: bytearray) -> None:
        raw[raw.index(key) - 1] = 0x7E

    return change


def read(data: bytes, at: int = 0) -> tuple[list[Any], int]:
    """The records from the offset `at` on, and where the next fetch begins."""
    found = TolerantRecords(HERE, KeptRecords(data), [], at, None, None, True, READ_COMMITTED)
    return list(found), found.next_fetch_offset


def keys_of(records: Sequence[Any]) -> list[tuple[int, bytes]]:
    return [(each.offset, each.key) for each in records]


def test_a_header_of_any_bytes_costs_nothing(skipped: SkippedRecords) -> None:
    data = batch(10, [b"a", b"b", b"c"], latin_header_of(b"b")) + batch(13, [b"d"])
    records, ends = read(data, at=10)
    assert keys_of(records) == [(10, b"a"), (11, b"b"), (12, b"c"), (13, b"d")]
    assert [each.value for each in records[:2]] == [b"value of a", b"value of b"]
    assert [each.timestamp for each in records[:3]] == [1000, 1001, 1002]
    assert records[1].headers == (("\\xe9AME", b"x"), ("none", None))
    assert records[2].headers == (("NAME", b"x"), ("none", None))
    assert ends == 14
    assert not skipped.counts


@pytest.mark.parametrize("codec", [0, 1, 2, 3, 4], ids=["plain", "gzip", "snappy", "lz4", "zstd"])
def test_a_batch_of_any_codec_is_read_from_within(codec: int) -> None:
    records, ends = read(batch(0, [b"%d" % each for each in range(500)], codec=codec), at=498)
    assert keys_of(records) == [(498, b"498"), (499, b"499")]
    assert ends == 500


def test_a_codec_that_nobody_knows_costs_its_batch_alone(
    skipped: SkippedRecords, caplog: pytest.LogCaptureFixture
) -> None:
    data = batch(0, [b"a"]) + batch(1, [b"b", b"c"], codec_of(6)) + batch(3, [b"d"])
    for _ in range(2):  # read again, it is said and counted once
        records, ends = read(data)
        assert keys_of(records) == [(0, b"a"), (3, b"d")]
        assert ends == 4
    assert skipped.counts == {"user-registered": 2}
    (line,) = caplog.messages
    assert line.startswith("skipped, since it cannot be read: user-registered/3, offsets 1 to 2: UnsupportedCodec")


@pytest.mark.parametrize("codec", [1, 2, 3, 4], ids=["gzip", "snappy", "lz4", "zstd"])
def test_what_does_not_decompress_costs_its_batch_alone(skipped: SkippedRecords, codec: int) -> None:
    data = batch(0, [b"a", b"b"], codec_of(codec)) + batch(2, [b"c"])
    records, ends = read(data)
    assert keys_of(records) == [(2, b"c")]
    assert ends == 3
    assert skipped.counts == {"user-registered": 2}


def test_a_damaged_record_costs_itself_alone(skipped: SkippedRecords, caplog: pytest.LogCaptureFixture) -> None:
    records, ends = read(batch(5, [b"a", b"b", b"c"], broken_length_of(b"b")), at=5)
    assert keys_of(records) == [(5, b"a"), (7, b"c")]
    assert ends == 8
    assert skipped.counts == {"user-registered": 1}
    assert "offsets 6 to 6" in caplog.text


def test_a_batch_cut_short_within_costs_its_rest(skipped: SkippedRecords) -> None:
    def change(raw: bytearray) -> None:
        raw[raw.index(b"b") - 5] = 0x7F  # the length of the record itself

    records, ends = read(batch(0, [b"a", b"b", b"c"], change))
    assert keys_of(records) == [(0, b"a")]
    assert ends == 3
    assert skipped.counts == {"user-registered": 2}


def test_a_wrong_checksum_is_fetched_again_first(skipped: SkippedRecords) -> None:
    damaged = bytearray(batch(1, [b"b", b"c"]))
    damaged[-1] ^= 1
    data = batch(0, [b"a"]) + bytes(damaged) + batch(3, [b"d"])
    records, ends = read(data)
    assert (keys_of(records), ends) == ([(0, b"a")], 1)
    assert read(data, at=1) == ([], 1)
    records, ends = read(data, at=1)
    assert (keys_of(records), ends) == ([(3, b"d")], 4)
    assert skipped.counts == {"user-registered": 2}


def test_a_gap_of_compaction_is_read_over(skipped: SkippedRecords) -> None:
    def change(raw: bytearray) -> None:
        struct.pack_into(">i", raw, 23, 9)  # the last offset stays what it was

    records, ends = read(batch(4, [b"a", b"b"], change), at=2)
    assert keys_of(records) == [(4, b"a"), (5, b"b")]
    assert ends == 14
    assert not skipped.counts


def test_a_batch_of_an_earlier_format_is_skipped_whole(skipped: SkippedRecords) -> None:
    builder = LegacyRecordBatchBuilder(1, 1, 10_000)
    for place in range(3):
        builder.append(place, 1000, b"k%d" % place, b"v" * 50)
    built = bytes(builder.build())
    raw = built[: 12 + struct.unpack_from(">i", built, 8)[0]]
    records, ends = read(raw)
    assert len(records) == 3
    damaged = bytearray(raw)
    damaged[-20:-10] = bytes(10)
    struct.pack_into(">I", damaged, 12, zlib.crc32(bytes(damaged[16:])))
    records, again = read(bytes(damaged) + batch(ends, [b"after"]))
    assert keys_of(records) == [(ends, b"after")]
    assert again == ends + 1
    assert skipped.counts == {"user-registered": ends}


def test_skipped_offsets_are_a_metric(skipped: SkippedRecords) -> None:
    registry = CollectorRegistry()
    registry.register(SkippedCounter())
    read(batch(0, [b"a", b"b"], codec_of(7)))
    assert registry.get_sample_value("foretaste_records_skipped_total", {"topic": "user-registered"}) == 2


def test_every_consumer_of_the_process_reads_so() -> None:
    read_on()
    assert fetcher.PartitionRecords is TolerantRecords
    assert fetcher.MemoryRecords is KeptRecords
