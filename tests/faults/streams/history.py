"""What happened around a fault, operation by operation, as lines of JSON: what the checker judges, and nothing else."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Literal, TypeAlias

Kind = Literal["sign-up", "behaviour", "poison"]
"""Poison is what no event can be made of: a dead letter."""


@dataclass(frozen=True, slots=True)
class Begun:
    """What the others are judged by."""

    fault: str
    setting: str
    """What the workers ran under."""
    warm_after: int
    """Behaviours from which on a user is warm."""
    takes_back: bool = False
    """Whether the store may lose its newest writes under this setting, until they are read again."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a record lies in Kafka, and its timestamp there."""

    topic: str
    partition: int
    offset: int
    stamp_ms: int


@dataclass(frozen=True, slots=True)
class Produced:
    """One record that was sent. What is sent again under one event id is a record more of the same event."""

    kind: Kind
    event: str
    """Its name, which no other event has."""
    user: str
    number: int
    """Of a sign-up, its number among those of its user, which its attributes tell."""
    claimed_ms: int | None
    """When it happened, as its sender says; None where it does not."""
    start: float
    end: float
    """Seconds since the epoch, by a clock that does not step."""
    outcome: Literal["acknowledged", "unknown", "aborted"]
    """Unknown: no answer came, so that it may have its effect or not. Aborted: with its transaction."""
    place: Place | None = None
    """None where it is not known."""


@dataclass(frozen=True, slots=True)
class Announced:
    """A `user-enriched` that was heard, and the read of the store straight after it."""

    user: str
    start: float
    end: float
    """Of the first read that the store answered."""
    outcome: Literal["readable", "missing", "away"]
    """Away: the store answered none until the end."""


@dataclass(frozen=True, slots=True)
class DeadLettered:
    """A dead letter, and where the record came from."""

    topic: str
    partition: int
    offset: int
    reason: str
    at: float


@dataclass(frozen=True, slots=True)
class Ranked:
    """A ranking that was asked for; `status` is HTTP's, 0 where no answer came."""

    user: str
    start: float
    end: float
    status: int
    fallback: str | None = None
    ranking_id: str | None = None


@dataclass(frozen=True, slots=True)
class Logged:
    """A ranking that came to its topic, which training reads."""

    ranking_id: str


@dataclass(frozen=True, slots=True)
class Hurt:
    """The fault begins, ends, and is over: all that was sent by its end is handled."""

    what: Literal["begins", "ends", "recovered"]
    at: float


@dataclass(frozen=True, slots=True)
class Stored:
    """What the store holds of a user in the end."""

    user: str
    number: int | None
    """Of the sign-up that its attributes are from; None without attributes."""
    readable: bool
    """Whether a ranking needs nothing more: the user is warm, or has current virtual behaviour."""
    behaviours: list[tuple[str, int]] = field(default_factory=list)
    """Event and time (epoch milliseconds) of each, in the row's order."""
    at: float = 0.0


Operation: TypeAlias = Begun | Produced | Announced | DeadLettered | Ranked | Logged | Hurt | Stored
_KINDS = {each.__name__: each for each in (Begun, Produced, Announced, DeadLettered, Ranked, Logged, Hurt, Stored)}


class History:
    """Operations in the order in which they ended, each written at once."""

    def __init__(self, file: IO[str]) -> None:
        self._file = file
        self.operations: list[Operation] = []

    def add(self, operation: Operation) -> None:
        self.operations.append(operation)
        self._file.write(json.dumps({"op": type(operation).__name__, **asdict(operation)}) + "\n")

    def extend(self, operations: Iterable[Operation]) -> None:
        for operation in operations:
            self.add(operation)


def read_history(path: Path) -> Iterator[Operation]:
    """The operations of a file that a `History` wrote."""
    for line in path.read_text(encoding="utf-8").splitlines():
        fields = json.loads(line)
        kind = _KINDS[fields.pop("op")]
        if kind is Produced and fields["place"] is not None:
            fields["place"] = Place(**fields["place"])
        if kind is Stored:
            fields["behaviours"] = [(event, at_ms) for event, at_ms in fields["behaviours"]]
        operation: Operation = kind(**fields)
        yield operation
