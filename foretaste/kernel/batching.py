"""A batch closes on size or on the age of its first member. No asyncio, no timer: the clock is a field."""

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
    """The open batch. `clock` counts seconds and never falls; `opened_at` is None while there is no member."""

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
