"""What the online store holds of a user, and the stage that this puts the user in."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from foretaste.kernel.event_order import NONE_APPLIED, AppliedEvents, AttributesVersion, Place
from foretaste.kernel.values import (
    MAX_PASSED_OVER,
    NO_ACTS,
    PASSED_OVER,
    Attributes,
    FloatArray,
    Partition,
    grown,
)


class Stage(StrEnum):
    """How much is known of a user's behaviour: what the towers read in its place, and which figures are the user's."""

    COLD = "cold"
    """None (eq. 9)."""
    WARMING = "warming"
    """Some, but fewer than the generation's `warm_after`."""
    WARM = "warm"


STAGES = tuple(Stage)
"""In order: cold, warming, warm."""


def stage_of(seen: int, warm_after: int) -> Stage:
    """The stage of a user of whom `seen` behaviours are known, for a generation whose users are warm after so many."""
    if seen == 0:
        return Stage.COLD
    return Stage.WARM if seen >= warm_after else Stage.WARMING


@dataclass(frozen=True, slots=True)
class Behaviour:
    """What a user acted on, answered about and passed over, newest last, `MAX_BEHAVIOUR` at most: three columns.

    `times` are milliseconds since the epoch, never falling. Empty means cold (eq. 9).
    """

    items: Sequence[str] = ()
    actions: Sequence[str] = ()
    times: Sequence[int] = ()

    def __len__(self) -> int:
        return len(self.items)

    @property
    def acts(self) -> "Behaviour":
        """Without answers to questions and what was passed over: what makes a user warm, and what towers read as
        behaviour."""
        if NO_ACTS.isdisjoint(self.actions):
            return self
        return Behaviour.of(row for row in self.rows if row[1] not in NO_ACTS)

    @property
    def passed_over(self) -> Sequence[str]:
        """Items that were shown and not chosen, nor acted on at any time: the newest `MAX_PASSED_OVER`, newest last."""
        if PASSED_OVER not in self.actions:
            return ()
        acted = {item for item, action, _ in self.rows if action not in NO_ACTS}
        found = [item for item, action, _ in self.rows if action == PASSED_OVER and item not in acted]
        return found[-MAX_PASSED_OVER:]

    @property
    def rows(self) -> Iterator[tuple[str, str, int]]:
        """Item, action and time of each."""
        return zip(self.items, self.actions, self.times, strict=True)

    @classmethod
    def of(cls, rows: Iterable[tuple[str, str, int]]) -> "Behaviour":
        """What `rows` gave, or some of it."""
        columns = tuple(zip(*rows, strict=True))
        return cls(*columns) if columns else cls()

    def then(self, item: str, action: str, at_ms: int) -> "Behaviour":
        """With one more, no older than any; the newest `MAX_BEHAVIOUR` of them."""
        return Behaviour(grown(self.items, item), grown(self.actions, action), grown(self.times, at_ms))


@dataclass(frozen=True, slots=True)
class VirtualBehaviour:
    """v̂ of eq. 8, `vectors` (M, D), which the ranking tower of the same generation reads in place of behaviour."""

    generation: int
    vectors: FloatArray


@dataclass(frozen=True, slots=True)
class Erasure:
    """That a user was erased: what happened until then does not count any more."""

    at_ms: int
    """When (`event_time_ms`)."""
    is_over: bool = False
    """The user registered anew since."""

    def admits(self, at_ms: int) -> bool:
        """Whether a behaviour of that time is taken: until the user registers anew none is, whenever it happened."""
        return self.is_over and at_ms > self.at_ms

    def since(self, behaviour: Behaviour) -> Behaviour:
        """What of a behaviour happened later."""
        return Behaviour.of(row for row in behaviour.rows if row[2] > self.at_ms)


@dataclass(frozen=True, slots=True)
class UserFeatures:
    """All that the online store holds of a user, in one read. What was never written is None or empty."""

    user_id: str
    attributes: Attributes | None = None
    behaviour: Behaviour = Behaviour()
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
    attributes_place: Place | None = None
    """Of the registration that the attributes are from; None where the store does not tell."""
    first_ms: int = 0
    """When the user registered first, epoch milliseconds, where that was before `attributes_ms`; else 0."""
    registrations: tuple[bytes, ...] = ()
    """Digests of the registrations that came last; see `AttributesVersion`."""
    applied: AppliedEvents = NONE_APPLIED
    """Behaviours that were applied last. `OnlineStore.read_behaviour` alone reads them."""
    erasure: Erasure | None = None
    """The last one that is known. `OnlineStore.read_behaviour` alone tells of it."""

    @property
    def is_erased(self) -> bool:
        """Attributes were erased and nobody registered since: `attributes_ms` is the time of that."""
        return self.attributes is None and self.attributes_ms > 0

    def is_gone(self, since_ms: int) -> bool:
        """Nothing is stored, or what a registration after `since_ms` brought."""
        if self.attributes is not None:
            return self.attributes_ms > since_ms
        return not len(self.behaviour) and not self.damaged

    @property
    def registered_ms(self) -> int | None:
        """When the user registered first, since the last erasure, epoch milliseconds; None where nobody is."""
        return None if self.attributes is None else self.first_ms or self.attributes_ms or None

    @property
    def attributes_version(self) -> AttributesVersion:
        return AttributesVersion(self.attributes_ms, self.attributes_place, self.registrations)

    @property
    def as_of_ms(self) -> int:
        """The newer of both. A repair or a re-enrichment is written as of one millisecond later."""
        return max(self.attributes_ms, self.virtual_ms)


@dataclass(frozen=True, slots=True)
class EnrichedUser:
    """One row of the sign-up way's write: attributes and the virtual behaviour made from them, as of `at_ms`."""

    user_id: str
    attributes: Attributes
    virtual: VirtualBehaviour | None
    """None for a warm user, who needs none."""
    at_ms: int
    """Epoch milliseconds."""
    place: Place | None = None
    digests: tuple[bytes, ...] = ()
    """Of the registration, the last, and of those that it was chosen before; see `AttributesVersion`."""
    first_ms: int = 0
    """As `UserFeatures.first_ms`, as far as is known beside the store, which keeps the earliest since an erasure."""

    @property
    def version(self) -> AttributesVersion:
        return AttributesVersion(self.at_ms, self.place, self.digests)


@dataclass(frozen=True, slots=True)
class ReenrichedUser:
    """One row of a read repair or a re-enrichment: virtual behaviour alone, as of `at_ms` (epoch milliseconds)."""

    user_id: str
    virtual: VirtualBehaviour
    at_ms: int
    made_from: AttributesVersion | None = None
    """The attributes that it was made from. A store that holds others by now leaves the row out; None: whichever."""
    read_ms: int = 0
    """`virtual_ms` of what was read, before `at_ms`: a store that still holds it compares no times. 0: not known."""

    @classmethod
    def after(cls, read: UserFeatures, virtual: VirtualBehaviour) -> "ReenrichedUser":
        """The row that puts `virtual`, made from the attributes that were read, in the place of what was read."""
        return cls(read.user_id, virtual, read.as_of_ms + 1, read.attributes_version, read.virtual_ms)


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
    applied: AppliedEvents = NONE_APPLIED
    """Written in the same step: what is applied and what is remembered of it never differ."""
    read_from: tuple[Partition, ...] = ()
    """Partitions of what is appended; see `OffsetStore`."""

    @classmethod
    def after(cls, read: UserFeatures, behaviour: Behaviour, applied: AppliedEvents | None = None) -> "BehavedUser":
        """The row that puts `behaviour` in the place of what was read; None: nothing more was applied."""
        kept = read.applied if applied is None else applied
        return cls(read.user_id, behaviour, read.behaviour_version, read.behaviour_us, kept)

    @property
    def version(self) -> int:
        """One above the version that was read, whatever a clock says."""
        return self.read_version + 1

    @property
    def at_us(self) -> int:
        """Event time of the row, microseconds since the epoch: of the newest behaviour, and above that of the read."""
        newest = self.behaviour.times[-1] * 1000 if self.behaviour.times else 0
        return max(self.read_us + 1, newest)


@dataclass(frozen=True, slots=True)
class LaterBehaviour:
    """One row of an append: what a user did after all that is stored, as far as its writer knows.

    `behaviour` rises in time from each to the next, has one member at least and `MAX_BEHAVIOUR` at most; `digests` are
    those of its events (`event_digest`), one behind the other, all different; `read_from` are their partitions.
    """

    user_id: str
    behaviour: Behaviour
    digests: bytes
    read_from: tuple[Partition, ...] = ()
