"""The Events port in memory, for tests and for trying a way without a broker."""

from collections.abc import Sequence
from dataclasses import dataclass

from foretaste.kernel.errors import InvalidInput, Unavailable
from foretaste.kernel.ports import Headers


@dataclass(frozen=True, slots=True)
class Sent:
    """An event that is durable in memory; it reads like a consumed record."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]] = ()


class InMemoryEvents:
    """Keeps what is sent, in order. While `outage` is set, sending raises it and keeps nothing."""

    def __init__(self, *, max_bytes: int = 8 * 1024 * 1024) -> None:
        self.sent: list[Sent] = []
        self.outage: Unavailable | None = None
        self._max_bytes = max_bytes

    def of(self, topic: str) -> list[Sent]:
        """What was sent to `topic`, in order."""
        return [each for each in self.sent if each.topic == topic]

    async def send(self, topic: str, key: bytes | None, value: bytes | None, headers: Headers = ()) -> None:
        self._check(topic, value)
        self.sent.append(Sent(topic, key, value, tuple(headers)))

    async def send_all(self, topic: str, events: Sequence[tuple[bytes | None, bytes | None]]) -> None:
        for _, value in events:
            self._check(topic, value)
        self.sent.extend(Sent(topic, key, value) for key, value in events)

    async def close(self) -> None:
        """Nothing is held open."""

    def _check(self, topic: str, value: bytes | None) -> None:
        if self.outage is not None:
            raise self.outage
        if len(value or b"") > self._max_bytes:
            raise InvalidInput(f"event for {topic}", len(value or b""), "has too many bytes for Kafka")
