"""What the HTTP service asks of other rooms, as Protocols. See `foretaste.kernel.ports` for what holds of each."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from foretaste.kernel.events import UserBehaved, UserErased, UserRegistered
from foretaste.kernel.running.registered_items import ItemRegistered
from foretaste.kernel.values import FloatArray, Value


@runtime_checkable
class AsksQuestions(Protocol):
    """Towers that know what a generation asks new users about (Triton)."""

    async def questions(self, generation: int) -> Sequence[str]:
        """Ids of items, those whose answers tell most first; none where it asks nothing. Raises `Unavailable`."""
        ...

    async def unknown(self, items: Sequence[str], generation: int) -> list[str]:
        """As `Towers.unknown`."""
        ...


class EventIntake(Protocol):
    """Where events from outside are taken (Kafka), by the rules that a worker holds them to.

    Each method returns once all events are durable. It raises `InvalidInput` for the first one that a worker would
    make a dead letter of, and produces none then; the field begins with the event's place, as in
    `1.attributes.age`.
    """

    async def register(self, events: Sequence[UserRegistered]) -> None: ...
    async def register_items(self, events: Sequence[ItemRegistered]) -> None: ...
    async def remove_item(self, item_id: str) -> None: ...
    async def behave(self, events: Sequence[UserBehaved]) -> None: ...
    async def erase(self, event: UserErased) -> None: ...


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


@dataclass(frozen=True, slots=True)
class TopicCount:
    """A topic by its offsets, which also count the markers of transactions."""

    events: int
    """Ever produced, those that the broker has let go of included."""
    unhandled: int
    """That the consumer group has not handled yet."""


class EventCounts(Protocol):
    """How many events topics hold, and how far their consumer groups have come (Kafka)."""

    async def counts(self) -> Mapping[str, TopicCount]:
        """By the names that whoever opened it gave the topics."""
        ...

    async def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class FieldChoices:
    """One field of a generation: its kind, and values that it knows, the most frequent first; edges of bins rise."""

    kind: str
    values: Sequence[Value]


@dataclass(frozen=True, slots=True)
class GenerationChoices:
    """What a generation knows, to choose from; each mapping is in the order of the generation's fields."""

    attributes: Mapping[str, FieldChoices]
    context: Mapping[str, FieldChoices]
    actions: Sequence[str]
    items: Sequence[str]
    """The most popular, best first."""


@dataclass(frozen=True, slots=True)
class MapPlace:
    """Where a virtual behaviour lies on a map, by the known ones that are nearest to it."""

    x: float
    y: float
    distance: float
    """To the nearest, as a share of the mean distance between known ones and their centre; 0: it is one of them."""


class BehaviourMap(Protocol):
    """Real and virtual behaviour of some of the users that a generation was trained on, on one plane."""

    @property
    def real(self) -> Sequence[tuple[float, float]]:
        """A point a user, in [0, 1]²."""
        ...

    @property
    def virtual(self) -> Sequence[tuple[float, float]]:
        """A point for each distinct virtual behaviour of theirs, likewise."""
        ...

    def place(self, vectors: FloatArray) -> MapPlace:
        """Where a virtual behaviour (M, D) lies. Raises `InvalidInput` for one of another shape."""
        ...


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

    async def choices(self, number: int) -> GenerationChoices:
        """Raises `Unavailable` where the generation's files are not on this machine, or cannot be read."""
        ...

    async def behaviour_map(self, number: int) -> BehaviourMap | None:
        """None for a generation that was exported without one. Raises as `choices` does."""
        ...
