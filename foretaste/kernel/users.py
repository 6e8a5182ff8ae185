"""What the online store holds of a user, and the stage that this puts the user in."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeVar

from foretaste.kernel.values import MAX_BEHAVIOUR, Attributes, FloatArray

T = TypeVar("T")


class GrowingColumn(Sequence[T]):
    """A column of a behaviour that can grow at less cost than making its elements anew."""

    @abstractmethod
    def grown(self, value: T, keep: int) -> Sequence[T]:
        """The last `keep` of its elements and one more behind them; this column stays as it is."""


class Stage(StrEnum):
    """How much is known of a user's behaviour: what the towers read in its place, and which figures are the user's."""

    COLD = "cold"
    """None (eq. 9)."""
    WARMING = "warming"
    """Some, but fewer than the generation's `warm_after`."""
    WARM = "warm"


def stage_of(seen: int, warm_after: int) -> Stage:
    """The stage of a user of whom `seen` behaviours are known, for a generation whose users are warm after so many."""
    if seen == 0:
        return Stage.COLD
    return Stage.WARM if seen >= warm_after else Stage.WARMING


@dataclass(frozen=True, slots=True)
class Behaviour:
    """The items a user acted on, newest last, at most `MAX_BEHAVIOUR`: three columns of one length.

    `times` are milliseconds since the epoch, never falling. Empty means cold (eq. 9).
    """

    items: Sequence[str] = ()
    actions: Sequence[str] = ()
    times: Sequence[int] = ()

    def __len__(self) -> int:
        return len(self.items)

    def then(self, item: str, action: str, at_ms: int) -> "Behaviour":
        """With one more, no older than any; the newest `MAX_BEHAVIOUR` of them."""
        return Behaviour(_grown(self.items, item), _grown(self.actions, action), _grown(self.times, at_ms))


@dataclass(frozen=True, slots=True)
class VirtualBehaviour:
    """v̂ of eq. 8, `vectors` (M, D), which the ranking tower of the same generation reads in place of behaviour."""

    generation: int
    vectors: FloatArray


@dataclass(frozen=True, slots=True)
class UserFeatures:
    """All that the online store holds of a user, in one read. What was never written is None or empty."""

    user_id: str
    attributes: Attributes | None = None
    behaviour: Behaviour = field(default_factory=Behaviour)
    behaviour_version: int = 0
    """Rises with each write of the behaviour; 0 if never written."""
    virtual: VirtualBehaviour | None = None
    """What the slot of the generation asked for holds, maybe of another one: `Generation.virtual_of` tells."""
    attributes_ms: int = 0
    """`at_ms` of the attributes; 0 if never written."""
    virtual_ms: int = 0
    """`at_ms` of this virtual behaviour; 0 if never written."""
    behaviour_us: int = 0
    """Event time of the behaviour's row, microseconds since the epoch; 0 if never written."""
    damaged: tuple[str, ...] = ()
    """Feature views whose stored row cannot be read: what they hold counts as never written."""

    @property
    def as_of_ms(self) -> int:
        """The newer of both. A repair or a re-enrichment is written as of one millisecond later, and so yields to any
        registration after the one it read."""
        return max(self.attributes_ms, self.virtual_ms)


@dataclass(frozen=True, slots=True)
class EnrichedUser:
    """One row of the sign-up way's write: attributes and virtual behaviour, as of `at_ms` (epoch milliseconds)."""

    user_id: str
    attributes: Attributes
    virtual: VirtualBehaviour | None
    """None for a warm user, who needs none."""
    at_ms: int


@dataclass(frozen=True, slots=True)
class ReenrichedUser:
    """One row of a read repair or a re-enrichment: virtual behaviour alone, as of `at_ms` (epoch milliseconds)."""

    user_id: str
    virtual: VirtualBehaviour
    at_ms: int


@dataclass(frozen=True, slots=True)
class BehavedUser:
    """One row of the behaviour way's write: the user's whole behaviour, in place of the one that was read.

    `read_version` and `read_us` are `behaviour_version` and `behaviour_us` of the read; 0 and 0 for a user without any.
    A store that holds others by now refuses the row.
    """

    user_id: str
    behaviour: Behaviour
    read_version: int = 0
    read_us: int = 0

    @classmethod
    def after(cls, read: UserFeatures, behaviour: Behaviour) -> "BehavedUser":
        """The row that puts `behaviour` in the place of what was read."""
        return cls(read.user_id, behaviour, read.behaviour_version, read.behaviour_us)

    @property
    def version(self) -> int:
        """One above the version that was read, whatever a clock says."""
        return self.read_version + 1

    @property
    def at_us(self) -> int:
        """Event time of the row, microseconds since the epoch: of the newest behaviour, and above that of the read."""
        newest = self.behaviour.times[-1] * 1000 if self.behaviour.times else 0
        return max(self.read_us + 1, newest)


def _grown(column: Sequence[T], value: T) -> Sequence[T]:
    if isinstance(column, GrowingColumn):
        return column.grown(value, MAX_BEHAVIOUR)
    return (*column, value)[-MAX_BEHAVIOUR:]
