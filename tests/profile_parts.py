"""What the tests of rebuilds and imports share: a topic in memory, and the records that lie in it."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

from foretaste.kernel.event_order import AttributesVersion, Place
from foretaste.kernel.events import Message, Origin
from foretaste.testing import Sent
from streams.profiles.profile import profile_record
from streams.profiles.rebuild_parts import Positions
from tests.stream_parts import NOW_MS


@dataclass
class InMemoryHistory:
    """A topic of some partitions, each a list of records; the first `lost` of each are gone."""

    topic: str
    partitions: dict[int, list[Message]] = field(default_factory=dict)
    lost: int = 0
    reads: list[tuple[dict[int, int], dict[int, int]]] = field(default_factory=list)

    def add(self, key: bytes | None, value: bytes | None, partition: int = 0, timestamp_ms: int = NOW_MS) -> None:
        records = self.partitions.setdefault(partition, [])
        records.append(Message(key, value, Origin(self.topic, partition, len(records), timestamp_ms)))

    def add_all(self, sent: Sequence[Sent], partition: int = 0) -> None:
        for each in sent:
            self.add(each.key, each.value, partition)

    async def bounds(self) -> dict[int, tuple[int, int]]:
        return {each: (self.lost, len(records)) for each, records in self.partitions.items()}

    async def read(
        self, starts: Positions, ends: Positions, most: int
    ) -> AsyncIterator[tuple[Sequence[Message], Positions]]:
        """One partition behind the other, `most` records at a time."""
        self.reads.append((dict(starts), dict(ends)))
        at = dict(starts)
        for partition, end in ends.items():
            while at[partition] < end:
                after = min(at[partition] + most, end)
                messages = self.partitions[partition][max(at[partition], self.lost) : after]
                at[partition] = after
                yield messages, dict(at)

    async def close(self) -> None:
        """Nothing is held open."""


def profile(
    user_id: str, age: int, at_ms: int = NOW_MS, offset: int | None = 0, digests: Sequence[bytes] = ()
) -> tuple[bytes, bytes]:
    """A record of `user-profiles`."""
    place = None if offset is None else Place("user-registered-0", offset, at_ms)
    record = profile_record(user_id, {"age": age}, AttributesVersion(at_ms, place, tuple(digests)))
    assert record is not None
    return record
