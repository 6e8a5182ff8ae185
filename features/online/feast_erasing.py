"""The erasure of users through Feast's API: empty values in place of what is stored, behind a fence."""

from collections.abc import Sequence
from typing import NamedTuple

from features.online.applied_view import COLUMNS as APPLIED_COLUMNS
from features.online.applied_view import AppliedRow
from features.online.event_marks import behaved
from features.online.layout import ATTRIBUTES_VIEW, Raw, is_damaged, readable_nanos
from features.online.view_rows import (
    ENRICHED_COLUMNS,
    ViewRow,
    behaviour_view_row,
    first_row,
    has_generation,
    has_text,
    stored_first_of,
)
from foretaste.kernel.event_order import AttributesVersion
from foretaste.kernel.running.erasing import ErasedUser
from foretaste.kernel.users import BehavedUser, Behaviour, Erasure, UserFeatures


class StoredErasure(NamedTuple):
    """A user that is to be erased, beside what Feast has stored."""

    user: ErasedUser
    known: bool
    """The fence is stored."""
    anew: bool
    """A later registration stands."""
    has_attributes: bool
    """Some are stored, or what cannot be read."""
    at_us: int
    """Event time of the stored attributes, microseconds since the epoch."""
    slots_us: tuple[int, int]
    """Of what both slots hold."""
    filled: tuple[bool, bool]
    """Whether each slot holds virtual behaviour."""
    read: UserFeatures
    """The behaviour."""
    marks: AppliedRow
    first_ms: int
    """The first registration that is stored, and below its event time, microseconds since the epoch."""
    first_us: int

    @classmethod
    def of(cls, user: ErasedUser, values: Sequence[Raw]) -> "StoredErasure":
        """From the values of `ENRICHED_COLUMNS`, of the behaviour and of `APPLIED_COLUMNS`."""
        text, at, even, even_at, odd, odd_at, *first, first_at = values[: len(ENRICHED_COLUMNS)]
        rest = values[len(ENRICHED_COLUMNS) :]
        at_us, even_us, odd_us = (readable_nanos(each) // 1000 for each in (at, even_at, odd_at))
        read = behaved(user.user_id, rest[: -len(APPLIED_COLUMNS)], None)
        marks = AppliedRow.of(rest[-len(APPLIED_COLUMNS) :], read.behaviour_version)
        damaged = is_damaged(ATTRIBUTES_VIEW, (text, at))
        has_attributes = damaged or has_text(text)
        anew = has_attributes and not damaged and not user.version.replaces(AttributesVersion(at_us // 1000))
        known = marks.erased_ms is not None and marks.erased_ms >= user.version.at_ms
        filled = has_generation(even), has_generation(odd)
        first_ms, first_us = stored_first_of(first), readable_nanos(first_at) // 1000
        slots_us = even_us, odd_us
        return cls(user, known, anew, has_attributes, at_us, slots_us, filled, read, marks, first_ms, first_us)

    @property
    def at_ms(self) -> int:
        return self.user.version.at_ms

    @property
    def behaved(self) -> BehavedUser:
        """Without what happened before. Of who registered anew, what was applied is remembered still."""
        if not self.anew:
            return BehavedUser.after(self.read, Behaviour())
        return BehavedUser.after(self.read, Erasure(self.at_ms).since(self.read.behaviour), self.marks.applied)

    @property
    def is_carried_out(self) -> bool:
        """Whether all that is written of who registered anew was written before."""
        return self.known and not self.marks.is_ahead

    @property
    def first_row(self) -> ViewRow | None:
        """The first registration is forgotten with all else: of who registered anew, the newest is the first one known,
        unless one since is stored. None where it stands so, or was forgotten then."""
        if self.anew and (self.is_carried_out or self.first_ms > self.at_ms):
            return None
        first_ms = self.at_us // 1000 if self.anew else 0
        if first_ms == self.first_ms:
            return None
        return first_row(self.user.user_id, first_ms, self.first_us, self.at_ms * 1000)

    @property
    def behaviour_row(self) -> ViewRow | None:
        """None where it is stored so. Written behind each fence in any case: a writer that had read the user before is
        refused then."""
        behaved = self.behaved
        is_stored = self.is_carried_out and not self.read.damaged
        if is_stored and len(behaved.behaviour) == len(self.read.behaviour):
            return None
        return behaviour_view_row(behaved)

    @property
    def attributes_row(self) -> ViewRow | None:
        """None where they stay: a later registration stands, or there are none."""
        if self.anew or not self.has_attributes:
            return None
        return ViewRow(self.user.user_id, max(self.at_ms * 1000, self.at_us + 1), ("",))

    def slot_row(self, place: int) -> ViewRow | None:
        """None where the slot stays. What it holds tells, and not the attributes: these may have been emptied by a try
        that ended before it came to the slot."""
        if self.anew or not (self.filled[place] or (self.slots_us[place] and not self.known)):
            return None
        return ViewRow(self.user.user_id, max(self.at_ms * 1000, self.slots_us[place] + 1), ([], 0, 0))
