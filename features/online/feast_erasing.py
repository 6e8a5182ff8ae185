"""The erasure of users through Feast's API: empty values in place of what is stored, behind a fence."""

from collections.abc import Sequence
from typing import NamedTuple

from features.online.applied_view import COLUMNS as APPLIED_COLUMNS
from features.online.applied_view import AppliedRow
from features.online.event_marks import behaved
from features.online.layout import ATTRIBUTES_VIEW, Raw, is_damaged, readable_nanos
from features.online.view_rows import ViewRow, behaviour_view_row, has_generation, has_text
from foretaste.kernel.running.erasing import ErasedUser
from foretaste.kernel.users import AttributesVersion, BehavedUser, Behaviour, Erasure, UserFeatures


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

    @classmethod
    def of(cls, user: ErasedUser, values: Sequence[Raw]) -> "StoredErasure":
        """From the values of `ENRICHED_COLUMNS`, of the behaviour and of `APPLIED_COLUMNS`."""
        text, at, even, even_at, odd, odd_at, *rest = values
        at_us, even_us, odd_us = (readable_nanos(each) // 1000 for each in (at, even_at, odd_at))
        read = behaved(user.user_id, rest[: -len(APPLIED_COLUMNS)], None)
        marks = AppliedRow.of(rest[-len(APPLIED_COLUMNS) :], read.behaviour_version)
        damaged = is_damaged(ATTRIBUTES_VIEW, (text, at))
        has_attributes = damaged or has_text(text)
        anew = has_attributes and not damaged and not user.version.replaces(AttributesVersion(at_us // 1000))
        known = marks.erased_ms is not None and marks.erased_ms >= user.version.at_ms
        filled = has_generation(even), has_generation(odd)
        return cls(user, known, anew, has_attributes, at_us, (even_us, odd_us), filled, read, marks)

    @property
    def at_ms(self) -> int:
        return self.user.version.at_ms

    @property
    def behaved(self) -> BehavedUser:
        """Without what happened before."""
        kept = Erasure(self.at_ms).since(self.read.behaviour) if self.anew else Behaviour()
        return BehavedUser.after(self.read, kept)

    @property
    def behaviour_row(self) -> ViewRow | None:
        """None where it is stored so. Written behind each fence in any case: a writer that had read the user before is
        refused then."""
        behaved = self.behaved
        is_stored = self.known and not self.marks.is_ahead and not self.read.damaged
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
