"""Dead letters on Kafka: the event's own bytes as key and value, and why and where from in the headers.

Kept verbatim, an event can be read, repaired and sent again; kept beside the value, the reason takes no room from it.
"""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Protocol, TypeAlias

from foretaste.kernel.errors import InvalidInput
from foretaste.kernel.events import DeadLetter, Message, Origin, Reason
from foretaste.kernel.ports import Events, Headers
from streams.worker.metrics import Metrics

log = logging.getLogger(__name__)

REASON = "foretaste-reason"
DETAIL = "foretaste-detail"
TOPIC = "foretaste-origin-topic"
PARTITION = "foretaste-origin-partition"
OFFSET = "foretaste-origin-offset"
TIMESTAMP = "foretaste-origin-timestamp-ms"
VALUE_BYTES = "foretaste-value-bytes"
"""Only where the broker would not take the value even here: its length. The event still lies at its origin."""
ATTEMPTS = "foretaste-attempts"
"""Of an event that was replayed, and of the dead letter that it became again: how often."""

ReadHeaders: TypeAlias = Sequence[tuple[str, bytes]] | Mapping[str, bytes] | None
"""As a consumer gives them."""

MAX_DETAIL = 1000
"""Characters."""


class KafkaRecord(Protocol):
    """A consumed Kafka record, as aiokafka gives it."""

    @property
    def key(self) -> bytes | None: ...

    @property
    def value(self) -> bytes | None: ...

    @property
    def headers(self) -> Sequence[tuple[str, bytes]]: ...


class DeadLetters:
    """Where dead letters go: the topic `topic` of `events`."""

    def __init__(self, events: Events, topic: str, metrics: Metrics) -> None:
        self._events = events
        self._topic = topic
        self._metrics = metrics

    async def keep(self, letters: Sequence[DeadLetter]) -> None:
        """Returns once all are durable. Raises `Unavailable`; kept again after that, a letter lies there twice."""
        await asyncio.gather(*(self._keep(letter) for letter in letters))
        for letter in letters:
            self._metrics.dead_letters.labels(letter.reason).inc()
            origin = letter.message.origin
            log.warning("dead letter, %s: %s/%d@%d", letter.reason, origin.topic, origin.partition, origin.offset)

    async def _keep(self, letter: DeadLetter) -> None:
        message, headers = letter.message, headers_of(letter)
        try:
            await self._events.send(self._topic, message.key, message.value, headers)
        except InvalidInput as error:
            size = len(message.value or b"")
            log.error("dead letter of %d bytes is kept without its value: %s; see %s", size, error, message.origin)  # noqa: TRY400  # the message says it all
            await self._events.send(self._topic, None, None, [*headers, (VALUE_BYTES, str(size).encode())])


def headers_of(letter: DeadLetter) -> Headers:
    """The reason, the detail and the origin as Kafka headers."""
    origin = letter.message.origin
    return [
        (REASON, letter.reason.encode()),
        (DETAIL, letter.detail[:MAX_DETAIL].encode(errors="backslashreplace")),
        (TOPIC, origin.topic.encode()),
        (PARTITION, str(origin.partition).encode()),
        (OFFSET, str(origin.offset).encode()),
        (TIMESTAMP, str(origin.timestamp_ms).encode()),
        (ATTEMPTS, str(letter.message.attempts).encode()),
    ]


def replay_headers(letter: DeadLetter) -> Headers:
    """What a replayed event carries, so that its origin is kept and its attempts are counted."""
    again = replace(letter.message, attempts=letter.message.attempts + 1)
    return [each for each in headers_of(replace(letter, message=again)) if each[0] not in (REASON, DETAIL)]


def message_of(key: bytes | None, value: bytes | None, headers: ReadHeaders, origin: Origin) -> Message:
    """A consumed record that was read at `origin`; one that was replayed has its first origin, and its attempts.

    A replay goes to the topic that its letter came from: an origin elsewhere, or nowhere, is not taken over.
    """
    if headers and ATTEMPTS in (named := dict(headers)):
        with suppress(InvalidInput):  # somebody else's headers are nothing to go by
            first, attempts = _origin(named), _number(named, ATTEMPTS)
            if first.topic == origin.topic and min(first.partition, first.offset) >= 0 and attempts >= 1:
                return Message(key, value, first, attempts)
    return Message(key, value, origin)


def read_dead_letter(record: KafkaRecord) -> DeadLetter:
    """A record of the dead-letter topic as the dead letter that `DeadLetters` kept.

    Raises `InvalidInput` naming the header that is missing or unreadable.
    """
    headers = dict(record.headers)
    origin = _origin(headers)
    attempts = _number(headers, ATTEMPTS) if ATTEMPTS in headers else 0  # earlier versions wrote none
    reason = _text(headers, REASON)
    if reason not in list(Reason):
        raise InvalidInput(REASON, reason, f"must be one of {', '.join(Reason)}")
    return DeadLetter(Message(record.key, record.value, origin, attempts), Reason(reason), _text(headers, DETAIL))


def _origin(headers: dict[str, bytes]) -> Origin:
    return Origin(
        topic=_text(headers, TOPIC),
        partition=_number(headers, PARTITION),
        offset=_number(headers, OFFSET),
        timestamp_ms=_number(headers, TIMESTAMP),
    )


def _text(headers: dict[str, bytes], name: str) -> str:
    value = headers.get(name)
    if value is None:
        raise InvalidInput(name, None, "is missing from the headers")
    return value.decode(errors="replace")


def _number(headers: dict[str, bytes], name: str) -> int:
    text = _text(headers, name)
    try:
        return int(text)
    except ValueError:
        raise InvalidInput(name, text, "must be a whole number") from None
