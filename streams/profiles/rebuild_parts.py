"""What a rebuild works on: ports, how it goes on, and what it came to."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeAlias

from foretaste.kernel.events import Message
from foretaste.kernel.running.checkpoints import StateCheckpoint
from streams.behaviours import UnknownItems
from streams.parts import SignUpParts
from streams.profiles.user_writer import WrittenCounts

if TYPE_CHECKING:
    import pyarrow as pa

Positions: TypeAlias = Mapping[int, int]
"""Offsets by partition."""
LoggedBehaviours: TypeAlias = "Callable[[int, int], Awaitable[pa.Table]]"
"""The training log's behaviours from a time on and before another (epoch milliseconds), as `Logged.behaviours`."""


class TopicHistory(Protocol):
    """What a topic holds, read beside everybody else (Kafka)."""

    async def bounds(self) -> Mapping[int, tuple[int, int]]:
        """By partition, the offset of the first record and the one behind the last that can be read now; empty for a
        topic that nobody created."""
        ...

    def read(self, starts: Positions, ends: Positions, most: int) -> AsyncIterator[tuple[Sequence[Message], Positions]]:
        """The records between, about `most` at a time, each time with where the partitions are read on from then."""
        ...

    async def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class RebuildParts:
    """What a rebuild works on; whoever opened it closes it."""

    users: SignUpParts
    profiles: TopicHistory
    erasures: TopicHistory
    behaviours: TopicHistory
    logged: LoggedBehaviours
    checkpoint: StateCheckpoint
    items: TopicHistory | None = None
    """None where no items are registered."""


@dataclass(frozen=True, slots=True)
class RebuildConfig:
    """How a rebuild goes on."""

    max_event_bytes: int = 65536
    unknown_items: UnknownItems = "keep"
    """As the workers have both."""
    log_days: int = 90
    """Of the training log that are looked at."""
    share: int = 512
    """Users of one call of the tower, and of one write."""
    profiles: int = 4096
    """Records of `user-profiles`, `user-erased` and `item-registered` between two notes of how far it came."""
    behaviours: int = 16384
    """Of `user-behaved`, likewise."""


@dataclass
class RebuiltUsers(WrittenCounts):
    """What a rebuild did, before it was cut short too."""

    erased: int = 0
    """Null values."""
    unreadable: int = 0
    """Records of `user-profiles` that are none."""
    behaviours: int = 0
    """Records of `user-behaved`."""
    bad_behaviours: int = 0
    """Those of them that are no behaviour, as their dead letters say."""
    logged: int = 0
    """Behaviours read from the training log."""
    items: int = 0
    """Records of `item-registered`."""
