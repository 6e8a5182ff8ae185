"""Values as Feast stores them. A list of a behaviour that grows by an element makes no object of what stands there.

A list that is read is checked whole by Feast's own message. Its texts and numbers become Python's when somebody asks
for them, which a worker that appends to it never does. What is appended is laid down as the message would lay it down:
an element's bytes behind the others', and the lengths in front of them.
"""

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Any, ClassVar, Generic, TypeVar, overload

from google.protobuf.timestamp_pb2 import Timestamp  # type: ignore[import-untyped]  # it ships no types

from features.feast_api import Value
from foretaste.kernel.values import GrowingColumn

T = TypeVar("T")

_BYTES = 2
"""The wire type of what has a length in front of it."""
_NANOS = 1_000_000_000
_SECONDS_TAG, _NANOS_TAG = Timestamp(seconds=1).SerializeToString()[:-1], Timestamp(nanos=1).SerializeToString()[:-1]
_FIRST = 1 << 3 | _BYTES
"""What stands before a text of a list, and before all numbers of one."""
_MORE = 0x80
"""Set in each byte of a number but its last one."""
_SIX_BYTES, _SEVEN_BYTES = 1 << 35, 1 << 42
_HEAD_SIZES = range(2, 6)
"""Bytes of a tag and of a length, up to one that no list of behaviours has."""


class StoredColumn(GrowingColumn[T], Generic[T]):
    """A list of `kind`, not empty, as the bytes of its elements; their last one is at hand."""

    __slots__ = ("_body", "_count", "_last", "_read")
    kind: ClassVar[str]

    def __init__(self, body: bytes, count: int, last: T, read: Iterable[T] | None = None) -> None:
        """`read` holds the elements where Feast's message has read them."""
        self._body = body
        self._count = count
        self._last = last
        self._read = read

    @property
    @abstractmethod
    def raw(self) -> bytes:
        """The list as it is stored: Feast's `Value`."""

    def grown(self, value: T, keep: int) -> Sequence[T]:
        left_out = self._count + 1 - keep
        if left_out > 1:
            return (*self._values, value)[-keep:]
        body = self._body[self._first_end :] if left_out == 1 else self._body
        return type(self)(body + self._element(value), min(self._count + 1, keep), value)

    @property
    @abstractmethod
    def _first_end(self) -> int:
        """Where the first element ends."""

    @staticmethod
    @abstractmethod
    def _element(value: T) -> bytes:
        """One element as it lies in the list."""

    @property
    def _values(self) -> tuple[T, ...]:
        if not isinstance(self._read, tuple):
            found: Iterable[T] = self._read if self._read is not None else _elements(self.kind, self.raw)
            self._read = tuple(found)
        return self._read

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[T]:
        return iter(self._values)

    @overload
    def __getitem__(self, place: int) -> T: ...

    @overload
    def __getitem__(self, place: slice) -> Sequence[T]: ...

    def __getitem__(self, place: int | slice) -> T | Sequence[T]:
        return self._last if place == -1 else self._values[place]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and self._values == tuple(other)

    __hash__ = None  # type: ignore[assignment]  # as a list

    def __repr__(self) -> str:
        return repr(self._values)


class StoredTexts(StoredColumn[str]):
    """Texts: each is its length and its bytes."""

    __slots__ = ()
    kind = "string_list_val"

    @property
    def raw(self) -> bytes:
        return _head(_TEXTS, len(self._body)) + self._body

    @property
    def _first_end(self) -> int:
        length, start = _number_at(self._body, 1)
        return start + length

    @staticmethod
    def _element(value: str) -> bytes:
        return _text(value)


class StoredTimes(StoredColumn[int]):
    """Numbers, packed one behind the other, with the length of all in front."""

    __slots__ = ()
    kind = "int64_list_val"

    @property
    def raw(self) -> bytes:
        packed = _head(_FIRST, len(self._body)) + self._body
        return _head(_TIMES, len(packed)) + packed

    @property
    def _first_end(self) -> int:
        return _number_at(self._body, 0)[1]

    @staticmethod
    def _element(value: int) -> bytes:
        return varint(value % 2**64)


def read_texts(raw: bytes) -> Sequence[str]:
    """A stored list of texts. Raises what reading a stored value raises when it is no such list."""
    read = _elements(StoredTexts.kind, raw)
    body = _behind(_TEXTS, raw)
    if not read or body is None or body[0] != _FIRST:
        return tuple(read)
    return StoredTexts(body, len(read), read[-1], read)


def read_times(raw: bytes) -> Sequence[int]:
    """A stored list of numbers, likewise."""
    read = _elements(StoredTimes.kind, raw)
    packed = _behind(_TIMES, raw)
    body = _behind(_FIRST, packed) if packed else None
    if not read or body is None:
        return tuple(read)
    return StoredTimes(body, len(read), read[-1], read)


def text_raw(encoded: bytes) -> bytes:
    """One text, in UTF-8, as Feast stores it."""
    return _head(_TEXT, len(encoded)) + encoded


def texts_elements(texts: Sequence[str]) -> bytes:
    """The texts as they stand within a list."""
    return b"".join(map(_text, texts))


def times_elements(times: Sequence[int]) -> bytes:
    """The numbers as they stand within a list; none is negative."""
    return b"".join(map(varint, times))


def texts_raw(texts: Sequence[str]) -> bytes:
    """The texts as Feast stores them."""
    if isinstance(texts, StoredTexts):
        return texts.raw
    body = b"".join(map(_text, texts))
    return _head(_TEXTS, len(body)) + body


def times_raw(times: Sequence[int]) -> bytes:
    """The numbers as Feast stores them."""
    if isinstance(times, StoredTimes):
        return times.raw
    body = b"".join([varint(each % 2**64) for each in times])
    packed = _head(_FIRST, len(body)) + body if body else b""  # an empty list is one too
    return _head(_TIMES, len(packed)) + packed


def time_of(nanos: int) -> bytes:
    """A time as Feast stores it: the parts of a message one after the other are the message."""
    seconds, rest = divmod(nanos, _NANOS)
    return _seconds(seconds) + _rest(rest)


def nanos_of(time: bytes | None) -> int:
    """Back again; 0 for none. Raises `DecodeError` for what is no time."""
    if not time:
        return 0
    parsed = Timestamp.FromString(time)
    return int(parsed.seconds * _NANOS + parsed.nanos)


def value_of(raw: bytes, kind: str) -> Any:
    """A value of this kind of Feast's; its empty form where it is not set. Raises `ValueError` for another kind."""
    value = Value.FromString(raw)
    if value.WhichOneof("val") not in (kind, None):
        raise ValueError(f"expected {kind}")
    return getattr(value, kind)


def _elements(kind: str, raw: bytes) -> Any:
    """The message's own list."""
    return value_of(raw, kind).val


def _tag(kind: str) -> int:
    return int(Value.DESCRIPTOR.fields_by_name[kind].number << 3 | _BYTES)


_TEXTS, _TIMES = _tag(StoredTexts.kind), _tag(StoredTimes.kind)
_TEXT = _tag("string_val")


def _behind(tag: int, raw: bytes) -> bytes | None:
    """What one field with a length holds, if the bytes are that field as Feast's message lays it down."""
    for size in _HEAD_SIZES:
        if len(raw) > size and raw.startswith(_head(tag, len(raw) - size)):
            return raw[size:]
    return None


@lru_cache(4096)
def _head(tag: int, length: int) -> bytes:
    return varint(tag) + varint(length)


@lru_cache(65536)
def _text(text: str) -> bytes:
    encoded = text.encode()
    return _head(_FIRST, len(encoded)) + encoded


@lru_cache(4096)
def _seconds(seconds: int) -> bytes:
    return _SECONDS_TAG + varint(seconds % 2**64) if seconds else b""


@lru_cache(4096)
def _rest(nanos: int) -> bytes:
    return _NANOS_TAG + varint(nanos) if nanos else b""


def varint(number: int) -> bytes:
    """A number of 64 bits without a sign as messages hold it: seven bits a byte, the lowest first."""
    if _SIX_BYTES <= number < _SEVEN_BYTES:  # milliseconds of a time between 1971 and 2109, without the loop
        return bytes(
            (
                number & 0x7F | _MORE,
                number >> 7 & 0x7F | _MORE,
                number >> 14 & 0x7F | _MORE,
                number >> 21 & 0x7F | _MORE,
                number >> 28 & 0x7F | _MORE,
                number >> 35,
            )
        )
    parts = bytearray()
    while number >= _MORE:
        parts.append(number & 0x7F | _MORE)
        number >>= 7
    parts.append(number)
    return bytes(parts)


def _number_at(raw: bytes, start: int) -> tuple[int, int]:
    """A number and where it ends."""
    number = shift = 0
    while raw[start] >= _MORE:
        number |= (raw[start] & 0x7F) << shift
        shift += 7
        start += 1
    return number | raw[start] << shift, start + 1


TAGS = {"TEXTS": varint(_TEXTS), "NUMBERS": varint(_TIMES), "FIRST": varint(_FIRST)}
"""What stands before the length of a list of texts, of one of numbers, and of all numbers of one."""
