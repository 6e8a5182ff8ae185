"""A batch of records, read so that one which cannot be read costs no other."""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from aiokafka.errors import KafkaError
from aiokafka.record.default_records import _DefaultRecordBatchPy, _DefaultRecordPy
from aiokafka.record.util import decode_varint
from cramjam import DecompressionError

UNREADABLE = (
    KafkaError,
    ValueError,
    IndexError,
    OverflowError,
    OSError,
    EOFError,
    RuntimeError,
    struct.error,
    zlib.error,
    DecompressionError,
)
"""What aiokafka raises for a batch or a record that it cannot read; the codecs' errors have no base of their own."""


@dataclass(frozen=True, slots=True)
class UnreadableRecords:
    """Records from `first` to `last`, which are offsets, and why they cannot be read."""

    first: int
    last: int
    problem: str


def read_records(data: bytes) -> Iterator[_DefaultRecordPy | UnreadableRecords]:
    """The records of one batch of format 2, in their order; a header's name that is no UTF-8 has escapes instead.

    `data` is the whole batch. Slower than aiokafka's own reader, which gives a batch up at its first such name.
    """
    batch = _DefaultRecordBatchPy(data)
    last = batch.next_offset - 1
    try:
        batch._maybe_uncompress()  # noqa: SLF001
    except UNREADABLE as error:
        yield UnreadableRecords(batch.base_offset, last, _plain(error))
        return
    buffer, at = batch._buffer, batch._pos  # noqa: SLF001
    expected = batch.base_offset
    for _ in range(batch._num_records):  # noqa: SLF001
        try:
            length, at = decode_varint(buffer, at)
            end = at + length
            if length < 0 or end > len(buffer):
                raise ValueError(f"a record of {length} bytes does not fit in its batch")
            offset, timestamp, at = _place(batch, buffer, at)
        except UNREADABLE as error:
            yield UnreadableRecords(expected, last, _plain(error))
            return
        try:
            yield _record(batch, buffer[at:end], offset, timestamp)
        except UNREADABLE as error:
            yield UnreadableRecords(offset, offset, _plain(error))
        expected, at = offset + 1, end


def _place(batch: _DefaultRecordBatchPy, buffer: bytearray, at: int) -> tuple[int, int, int]:
    """Offset and timestamp of a record, and where its key begins."""
    _, at = decode_varint(buffer, at)  # its attributes, which mean nothing yet
    later, at = decode_varint(buffer, at)
    further, at = decode_varint(buffer, at)
    appended = batch.timestamp_type == batch.LOG_APPEND_TIME
    return batch.base_offset + further, batch.max_timestamp if appended else batch.first_timestamp + later, at


def _record(batch: _DefaultRecordBatchPy, body: bytearray, offset: int, timestamp: int) -> _DefaultRecordPy:
    key, at = _bytes(body, 0)
    value, at = _bytes(body, at)
    count, at = decode_varint(body, at)
    headers: list[tuple[str, bytes | None]] = []
    for _ in range(count):
        name, at = _bytes(body, at)
        content, at = _bytes(body, at)
        headers.append(((name or b"").decode(errors="backslashreplace"), content))
    if count < 0 or at != len(body):
        raise ValueError(f"{len(body) - at} bytes are left over behind {count} headers")
    return _DefaultRecordPy(offset, timestamp, batch.timestamp_type, key, value, headers)


def _bytes(body: bytearray, at: int) -> tuple[bytes | None, int]:
    """What stands behind its length, None for a negative one; and where it ends."""
    length, at = decode_varint(body, at)
    if length < 0:
        return None, at
    if at + length > len(body):
        raise ValueError(f"{length} bytes are announced, and {len(body) - at} are there")
    return bytes(body[at : at + length]), at + length


def _plain(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
