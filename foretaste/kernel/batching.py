"""A batch closes on size or on the age of its first member: `Batcher` decides it, `BatchQueue` waits for it."""

import asyncio
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from foretaste.kernel.errors import InvalidInput
from foretaste.kernel.ports import Clock

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class BatchPolicy:
    """When a batch closes."""

    size: int = 256
    """Members, at most."""
    age: float = 0.010
    """Seconds after its first member arrived."""

    def __post_init__(self) -> None:
        if self.size < 1:
            raise InvalidInput("batch size", self.size, "must be at least 1")
        if self.age < 0:
            raise InvalidInput("batch age", self.age, "must not be negative")


@dataclass(slots=True)
class Batcher(Generic[T]):
    """The open batch. No asyncio and no timer: the clock is a field, which counts seconds and never falls.

    `opened_at` is None while there is no member.
    """

    policy: BatchPolicy
    clock: Clock
    members: list[T] = field(default_factory=list)
    opened_at: float | None = None

    def add(self, member: T, arrived_at: float | None = None) -> list[T] | None:
        """Take a member that arrived then (now, where absent); the closed batch if this one filled it, else None."""
        if self.opened_at is None:
            self.opened_at = self.clock() if arrived_at is None else arrived_at
        self.members.append(member)
        return self.close() if len(self.members) >= self.policy.size else None

    def remaining(self) -> float | None:
        """Seconds until the open batch is old enough to close, 0 if it already is; None while it is empty."""
        if self.opened_at is None:
            return None
        return max(0.0, self.opened_at + self.policy.age - self.clock())

    def close(self) -> list[T]:
        """What has been gathered, closed whatever its size and age; empty if nothing was."""
        closed, self.members, self.opened_at = self.members, [], None
        return closed


class BatchQueue(Generic[T]):
    """A queue from many producers to one consumer that takes batches.

    At most `capacity` wait (0: as many as come), beside those of the open batch. `clock` is the batcher's.
    """

    def __init__(self, policy: BatchPolicy, clock: Clock, capacity: int = 0) -> None:
        self._batcher: Batcher[T] = Batcher(policy, clock)
        self._clock = clock
        self._waiting: asyncio.Queue[tuple[T, float] | None] = asyncio.Queue(capacity)
        self.ended = False
        """The last batch was taken."""

    async def put(self, member: T) -> None:
        """Waits while `capacity` wait already; the age of the member runs from now."""
        await self._waiting.put((member, self._clock()))

    def put_nowait(self, member: T) -> None:
        """Like `put`, for a queue without a capacity."""
        self._waiting.put_nowait((member, self._clock()))

    async def end(self) -> None:
        """Mark the end: no member follows."""
        await self._waiting.put(None)

    async def take(self) -> list[T]:
        """The next batch, once it is full, old enough, or the last; that one may be empty."""
        entry = await self._waiting.get()
        while entry is not None:
            full = self._batcher.add(*entry)
            if full is not None:
                return full
            try:
                entry = await self._next_in_time()
            except TimeoutError:
                return self._batcher.close()
        self.ended = True
        return self._batcher.close()

    async def _next_in_time(self) -> tuple[T, float] | None:
        """The next entry, if one waits or comes before the open batch is too old; raises `TimeoutError`."""
        if not self._waiting.empty():
            return self._waiting.get_nowait()
        async with asyncio.timeout(self._batcher.remaining()):
            return await self._waiting.get()
