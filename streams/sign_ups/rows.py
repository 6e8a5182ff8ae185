"""Sign-ups on their way: decoded, beside what is stored of their users, and with what is to be written for them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from foretaste.kernel.events import Message, UserRegistered, event_digest
from foretaste.kernel.generations import Generation
from foretaste.kernel.users import (
    AttributesVersion,
    EnrichedUser,
    ReenrichedUser,
    Stage,
    UserFeatures,
    VirtualBehaviour,
    first_registration,
)
from foretaste.kernel.values import Attributes
from streams.profiles.profile import checked_record, profile_record


@dataclass(frozen=True)
class SignUp:
    """A decoded sign-up and the message that it came in."""

    message: Message
    event: UserRegistered
    at_ms: int
    """When the user registered (`event_time_ms`)."""

    @cached_property
    def version(self) -> AttributesVersion:
        """By which it replaces what is stored, or does not."""
        digest = event_digest(self.event.event_id, self.message)
        return AttributesVersion(self.at_ms, self.message.origin.place, (digest,))


@dataclass(frozen=True)
class KnownSignUp:
    """A sign-up beside what is stored of its user, with the slot of `generation`."""

    sign_up: SignUp
    stored: UserFeatures
    generation: Generation

    @cached_property
    def newer(self) -> bool:
        """Its attributes replace the stored ones, or an erasure. A replay does not, nor an older one: the store
        would drop them."""
        return self.sign_up.version.replaces(self.stored.attributes_version)

    @property
    def attributes(self) -> Attributes:
        """The user's from now on: virtual behaviour is made from these, so that it belongs to what is stored."""
        return self.sign_up.event.attributes if self.newer else self.stored.attributes or {}

    @property
    def stage(self) -> Stage:
        return self.generation.stage(len(self.stored.behaviour))

    @property
    def needs_virtual(self) -> bool:
        """No virtual behaviour is stored that this generation can read and that belongs to the attributes."""
        return self.stage is not Stage.WARM if self.newer else self.generation.lacks(self.stored)


@dataclass(frozen=True, slots=True)
class EnrichedSignUp:
    """What is to be written for a sign-up; `virtual` is None where none is."""

    known: KnownSignUp
    virtual: VirtualBehaviour | None
    before: tuple[bytes, ...] = ()
    """Digests of the user's other sign-ups in the batch, which this one was chosen before."""
    other_ms: int = 0
    """When the earliest of those was that replace what is stored; 0 for none."""

    @property
    def user_id(self) -> str:
        return self.known.stored.user_id

    @property
    def earliest_ms(self) -> int:
        """When the earliest of the sign-ups was that replace what is stored; 0 for none."""
        at_ms = self.known.sign_up.at_ms
        return min(self.other_ms or at_ms, at_ms) if self.known.newer else 0

    @property
    def first_ms(self) -> int:
        """`UserFeatures.first_ms` once this is written."""
        stored = self.known.stored
        return first_registration(self.known.sign_up.at_ms, self.earliest_ms, stored.registered_ms)

    @property
    def row(self) -> EnrichedUser | ReenrichedUser | None:
        """Attributes and virtual behaviour, where the attributes replace the stored ones; else virtual behaviour alone,
        made from those that are stored; None where nothing is missing."""
        known = self.known
        if known.newer:
            version = known.sign_up.version
            digests = (*self.before, *version.digests)
            attributes = known.sign_up.event.attributes
            at_ms, place = version.at_ms, version.place
            return EnrichedUser(self.user_id, attributes, self.virtual, at_ms, place, digests, self.first_ms)
        return None if self.virtual is None else ReenrichedUser.after(known.stored, self.virtual)

    @property
    def profile(self) -> tuple[bytes, bytes] | None:
        """The record of `user-profiles`: the registration that the attributes are from once this is written.

        Of a sign-up that is stored already too, since who stored it may have died before it was said; None for one
        that another stands in the place of, and for stored attributes that no sign-up can have.
        """
        known, stored = self.known, self.known.stored.attributes_version
        own = known.sign_up.version
        if known.newer:
            if self.before or stored.digests:
                own = AttributesVersion(own.at_ms, own.place, (*self.before, *own.digests)).after(stored)
            return checked_record(self.user_id, known.attributes, own, self.first_ms)
        if stored.digests and own.digests[-1] not in stored.digests:
            return None
        return profile_record(self.user_id, known.attributes, stored, known.stored.first_ms)

    def beside(self, written: EnrichedUser | ReenrichedUser | None) -> ReenrichedUser | None:
        """The virtual behaviour of another generation, for the attributes that stand once `written` does."""
        if self.virtual is None:
            return None
        stored = self.known.stored
        if not isinstance(written, EnrichedUser):
            return ReenrichedUser.after(stored, self.virtual)
        at_ms = max(written.at_ms, stored.virtual_ms + 1)
        return ReenrichedUser(self.user_id, self.virtual, at_ms, written.version)


def newest(enriched: Sequence[EnrichedSignUp]) -> list[EnrichedSignUp]:
    """One a user: the latest of those that replace what is stored, which remembers the others. One that comes again
    under its id counts the first time."""
    chosen: dict[str, EnrichedSignUp] = {}
    for each in enriched:
        held = chosen.get(each.user_id)
        if held is None:
            chosen[each.user_id] = each
            continue
        version, other = each.known.sign_up.version, held.known.sign_up.version
        known = AttributesVersion(other.at_ms, other.place, (*held.before, *other.digests))
        if version.replaces(known) if each.known.newer == held.known.newer else each.known.newer:
            chosen[each.user_id] = replace(each, before=known.digests, other_ms=held.earliest_ms)
        else:
            earliest_ms = min((at_ms for at_ms in (held.other_ms, each.earliest_ms) if at_ms), default=0)
            chosen[each.user_id] = replace(held, before=(*held.before, *version.digests), other_ms=earliest_ms)
    return list(chosen.values())
