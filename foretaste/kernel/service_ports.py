"""What the HTTP service asks of other rooms, as Protocols. See `foretaste.kernel.ports` for what holds of each."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from foretaste.kernel.events import UserBehaved, UserRegistered


class EventIntake(Protocol):
    """Where events from outside are taken (Kafka), by the rules that a worker holds them to.

    Each method returns once all events are durable. It raises `InvalidInput` for the first one that a worker would
    make a dead letter of, and produces none then; the field begins with the event's place, as in
    `1.attributes.age`.
    """

    async def register(self, events: Sequence[UserRegistered]) -> None: ...
    async def behave(self, events: Sequence[UserBehaved]) -> None: ...


@dataclass(frozen=True, slots=True)
class KeptRequest:
    """A request that came before under the same idempotency key."""

    fingerprint: str
    """Of its body."""
    answer: str | None
    """None while it is still in process."""


class IdempotencyKeys(Protocol):
    """Answers by the idempotency keys of their requests, kept for a while (Redis)."""

    async def begin(self, key: str, fingerprint: str) -> KeptRequest | None:
        """None where the key is new, and taken by this request from now on; else the request that has it."""
        ...

    async def finish(self, key: str, kept: KeptRequest) -> None:
        """Keep the answer, for whoever comes again with the key."""
        ...

    async def forget(self, key: str) -> None:
        """Free the key of a request that was not carried out."""
        ...

    async def close(self) -> None: ...


class GenerationAdmin(Protocol):
    """What those who operate the service see of generations, and do with them."""

    async def summaries(self) -> Sequence[Mapping[str, Any]]:
        """Every generation that is recorded or written, in order of their numbers, fit for JSON."""
        ...

    async def rollback(self, reason: str, expected: int | None = None) -> tuple[int, int]:
        """Point all readers back to the previous generation: the number left, and the one that is active now.

        Raises `InvalidInput` where there is no previous one, and where another than `expected` is active.
        """
        ...
