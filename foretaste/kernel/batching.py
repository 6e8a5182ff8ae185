"""A batch closes on size, on the age of its first member, or at once: `Batcher` decides, `BatchQueue` waits for it."""

import asyncio
from collections import deque
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
    """Seconds after its first member arrived, at most."""
    at_once: bool = False
    """As soon as no further member waits, however young it is; `age` then counts only while members keep coming."""

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

    `put` waits while `capacity` wait (0: never), beside those of the open batch. `clock` is the batcher's.
    """

    def __init__(self, policy: BatchPolicy, clock: Clock, capacity: int = 0) -> None:
        self._batcher: Batcher[T] = Batcher(policy, clock)
        self._at_once = policy.at_once
        self._clock = clock
        self._capacity = capacity
        self._waiting: deque[tuple[T, float]] = deque()
        self._changed = asyncio.Event()
        """A member arrived, or the end."""
        self._room = asyncio.Event()
        """Members were taken."""
        self._no_more = False
        self.ended = False
        """The last batch was taken."""

    @property
    def full(self) -> bool:
        """As many wait as `put` lets in."""
        return 0 < self._capacity <= len(self._waiting)

    def put_nowait(self, member: T) -> None:
        """Takes a member, whatever the capacity; its age runs from now."""
        self._waiting.append((member, self._clock()))
        self._changed.set()

    async def room(self) -> None:
        """Wait while the queue is full."""
        while self.full:
            self._room.clear()
            await self._room.wait()

    async def end(self) -> None:
        """Mark the end: no member follows."""
        self._no_more = True
        self._changed.set()

    async def take(self) -> list[T]:
        """The next batch, once its policy closes it, or the last; that one may be empty."""
        while not self._waiting and not self._no_more:
            self._changed.clear()
            await self._changed.wait()
        while True:
            full = self._gathered()
            if full is not None:
                return full
            if self._no_more:
                self.ended = True
                return self._batcher.close()
            if not await self._one_more():
                return self._batcher.close()

    def _gathered(self) -> list[T] | None:
        """Put what waits into the open batch; the batch if that filled it."""
        waiting, add = self._waiting, self._batcher.add
        self._room.set()
        while waiting:
            full = add(*waiting.popleft())
            if full is not None:
                return full
        return None

    async def _one_more(self) -> bool:
        """Whether a further member, or the end, comes before the open batch closes."""
        remaining = self._batcher.remaining()
        if remaining == 0:
            return False
        self._changed.clear()
        if self._at_once:
            await asyncio.sleep(0)  # what the loop has in hand for this queue comes in
            return self._changed.is_set()
        try:
            async with asyncio.timeout(remaining):
                await self._changed.wait()
        except TimeoutError:
            return False
        return True
