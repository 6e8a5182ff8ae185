"""Sign-ups on their way: decoded, beside what is stored of their users, and with what is to be written for them."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from foretaste.kernel.event_order import AttributesVersion, first_registration
from foretaste.kernel.events import Message, UserRegistered, event_digest
from foretaste.kernel.generations import Generation
from foretaste.kernel.users import EnrichedUser, ReenrichedUser, Stage, UserFeatures, VirtualBehaviour
from foretaste.kernel.values import Attributes
from streams.profiles.profile import checked_record, profile_record
from streams.rules import to_ms


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

    def may_replace_later(self, stored_ms: int) -> bool:
        """Whether the same event, read or sent again, could replace attributes of `stored_ms`, which it does not now.

        Sent again under its id it counts as of the time that its sender claims, or else of the copy's place in Kafka;
        read again, as of the reader's clock where Kafka's is ahead of that.
        """
        event, kafka_ms = self.event, self.message.origin.timestamp_ms
        is_as_claimed = event.registered_at is not None and to_ms(event.registered_at) == self.at_ms
        if event.event_id is None:
            return not is_as_claimed and self.at_ms != kafka_ms
        return not is_as_claimed or self.at_ms == stored_ms


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

    @cached_property
    def earlier(self) -> bool:
        """It came after others, and was before the first registration that is stored."""
        first_ms = self.stored.registered_ms
        if first_ms is None or self.sign_up.at_ms >= first_ms:
            return False
        return self.sign_up.version.digests[-1] not in self.stored.registrations

    @property
    def outdone(self) -> bool:
        """What is stored stays, and does not know of it yet: the store is to remember it, for when it comes again, and
        that the user had registered by then."""
        if self.newer or self.sign_up.version.digests[-1] in self.stored.registrations:
            return False
        return self.earlier or self.sign_up.may_replace_later(self.stored.attributes_ms)

    @property
    def forgotten(self) -> bool:
        """Its user was erased since."""
        return self.stored.is_erased and not self.newer

    @property
    def attributes(self) -> Attributes:
        """The user's from now on: virtual behaviour is made from these, so that it belongs to what is stored."""
        return self.sign_up.event.attributes if self.newer else self.stored.attributes or {}

    @property
    def stage(self) -> Stage:
        return self.generation.stage(len(self.stored.behaviour.acts))

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
    others_ms: tuple[int, ...] = ()
    """When those were that may be the user's first registration."""
    stands: UserFeatures | None = None
    """What the store holds once this is written; None where it was not read again."""

    @property
    def user_id(self) -> str:
        return self.known.stored.user_id

    @property
    def version(self) -> AttributesVersion:
        """Of the sign-up, with those of the batch that it was chosen before."""
        own = self.known.sign_up.version
        return AttributesVersion(own.at_ms, own.place, (*self.before, *own.digests)) if self.before else own

    @property
    def first_times_ms(self) -> tuple[int, ...]:
        """When those of the batch's sign-ups were that may be the user's first registration."""
        known = self.known
        return (*self.others_ms, known.sign_up.at_ms) if known.newer or known.earlier else self.others_ms

    @property
    def moves_first(self) -> bool:
        """It tells of a registration before the first one that was read, and before itself. The store alone knows
        whether that counts: an erasure may lie between."""
        known = self.known
        if not self.others_ms and not known.stored.attributes_ms:
            return False  # a new user's only one
        first_ms = known.stored.registered_ms or known.sign_up.at_ms
        return min(self.first_times_ms, default=first_ms) < first_ms

    @property
    def first_ms(self) -> int:
        """`UserFeatures.first_ms` once this is written, as far as the store takes it."""
        known, stored = self.known, self.known.stored
        if not self.others_ms and not stored.attributes_ms:
            return 0  # a new user's only one
        at_ms = known.sign_up.at_ms if known.newer else stored.attributes_ms
        return first_registration(at_ms, *self.first_times_ms, stored.registered_ms)

    @property
    def registration(self) -> EnrichedUser | None:
        """Attributes and the virtual behaviour made from them, where they replace the stored ones; attributes alone
        where the store is to refuse and to remember them; None for a sign-up that is stored."""
        known = self.known
        if not known.newer and not known.outdone:
            return None
        virtual = self.virtual if known.newer else None
        version, attributes = self.version, known.sign_up.event.attributes
        return EnrichedUser(
            self.user_id, attributes, virtual, version.at_ms, version.place, version.digests, self.first_ms
        )

    @property
    def repair(self) -> ReenrichedUser | None:
        """Virtual behaviour alone, made from the attributes that are stored; None where nothing is missing of these."""
        known = self.known
        return None if known.newer or self.virtual is None else ReenrichedUser.after(known.stored, self.virtual)

    @property
    def profile(self) -> tuple[bytes, bytes] | None:
        """The record of `user-profiles`: the registration that the attributes are from once this is written.

        Of a sign-up that is stored already too, since who stored it may have died before it was said; None for one
        that another stands in the place of, and for stored attributes that no sign-up can have.
        """
        known, stored, stands = self.known, self.known.stored.attributes_version, self.stands
        if stands is not None:
            return profile_record(
                self.user_id, stands.attributes or {}, stands.attributes_version, self.recorded_first_ms
            )
        if known.newer:
            version = self.version.after(stored) if stored.digests else self.version
            return checked_record(self.user_id, known.attributes, version, self.recorded_first_ms)
        if stored.digests and known.sign_up.version.digests[-1] not in stored.digests:
            return None
        return profile_record(self.user_id, known.attributes, stored, self.recorded_first_ms)

    @property
    def recorded_first_ms(self) -> int:
        """`UserFeatures.first_ms` as `profile` has it."""
        if self.stands is not None:
            return self.stands.first_ms
        return self.first_ms if self.known.newer else self.known.stored.first_ms

    @property
    def recorded_times_ms(self) -> tuple[int, int]:
        """`UserFeatures.attributes_ms` and `first_ms` as `profile` has them."""
        stands = self.known.stored if self.stands is None else self.stands
        is_newer = self.stands is None and self.known.newer
        return self.known.sign_up.at_ms if is_newer else stands.attributes_ms, self.recorded_first_ms

    def beside(self, written: EnrichedUser | None) -> ReenrichedUser | None:
        """The virtual behaviour of another generation, for the attributes that stand once `written` does."""
        if self.virtual is None:
            return None
        stored = self.known.stored
        if written is None:
            return ReenrichedUser.after(stored, self.virtual)
        at_ms = max(written.at_ms, stored.virtual_ms + 1)
        return ReenrichedUser(self.user_id, self.virtual, at_ms, written.version)


@dataclass(slots=True)
class StoredShare:
    """What became of a share of a batch."""

    enriched: list[EnrichedSignUp] = field(default_factory=list)
    """Durable now."""
    forgotten: set[str] = field(default_factory=set)
    """Users who were erased after they signed up so."""
    not_finite: list[KnownSignUp] = field(default_factory=list)
    unknown: Counter[str] = field(default_factory=Counter)
    """By attribute, values that the vocabulary does not know, of those that went to the tower."""
    unlooked: list[Attributes] = field(default_factory=list)
    """Attributes whose values nobody looked up yet."""
    unseen: int = 0
    """Sign-ups of users of whom nothing was stored when they were read."""


def in_order(
    known: Sequence[KnownSignUp], made: Sequence[EnrichedSignUp], not_finite: Sequence[KnownSignUp]
) -> Sequence[EnrichedSignUp]:
    """The sign-ups in the order of the batch, with the virtual behaviour that was made; none that is not finite."""
    if len(made) == len(known):
        return made
    of, bad = {id(each.known): each for each in made}, {id(each) for each in not_finite}
    return [of.get(id(each)) or EnrichedSignUp(each, None) for each in known if id(each) not in bad]


def newest(enriched: Sequence[EnrichedSignUp]) -> list[EnrichedSignUp]:
    """One a user, from sign-ups in the order of the batch: the latest of those that replace what is stored, else of
    those that the store is to remember; it remembers the others. One that comes again under its id counts the first
    time."""
    chosen: dict[str, EnrichedSignUp] = {}
    for each in enriched:
        held = chosen.get(each.user_id)
        if held is None:
            chosen[each.user_id] = each
            continue
        version, known = each.known.sign_up.version, held.version
        if version.digests[-1] in known.digests:
            continue
        ours, theirs = ((one.newer, one.outdone) for one in (each.known, held.known))
        if version.replaces(known) if ours == theirs else ours > theirs:
            chosen[each.user_id] = replace(each, before=known.digests, others_ms=held.first_times_ms)
        else:
            others_ms = (*held.others_ms, *each.first_times_ms)
            chosen[each.user_id] = replace(held, before=(*held.before, *version.digests), others_ms=others_ms)
    return list(chosen.values())
