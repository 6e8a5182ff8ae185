"""What each user's row must be, told from what was sent alone: the model that the system is held to."""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from foretaste.kernel.event_order import REMEMBERED_REGISTRATIONS, AttributesVersion, Place
from foretaste.kernel.users import UserFeatures
from foretaste.kernel.values import Attributes
from tests.simulation.parts.broker import Record

Order = tuple[int, int, str, int]
"""Of registrations: event time, Kafka's timestamp, partition, offset."""
Bounds = tuple[Order, Order]
NEVER: Order = (-1, 0, "", 0)
Outcome = tuple[str, str, int]
"""An applied behaviour: item, action, milliseconds since the epoch."""


def order_of(version: AttributesVersion) -> Order:
    """Of the registration, or of the erasure, that stands."""
    partition, offset, timestamp_ms = version.place or ("", 0, 0)
    return version.at_ms, timestamp_ms, partition, offset


@dataclass(frozen=True, slots=True)
class SentEvent:
    """An event as it lies in a partition. `identity` is its name, or its place where it has none."""

    record: Record
    user_id: str
    identity: str
    claimed_ms: int | None
    good: bool
    """False for one that nobody can decode."""

    @property
    def at_ms(self) -> int:
        """When it happened: as its sender claims, but not after the broker had it."""
        received = self.record.timestamp
        return received if self.claimed_ms is None else min(self.claimed_ms, received)

    @property
    def origin(self) -> tuple[str, int, int]:
        return self.record.topic, self.record.partition, self.record.offset

    @property
    def order(self) -> Order:
        record = self.record
        return self.at_ms, record.timestamp, f"{record.topic}-{record.partition}", record.offset


@dataclass(frozen=True, slots=True)
class SentErasure(SentEvent):
    """An erasure, in the order of the user's registrations."""


@dataclass(frozen=True, slots=True)
class SentSignUp(SentEvent):
    """A registration. Of one that is `poison`, no tower makes anything: it may be a dead letter."""

    attributes: Attributes = field(default_factory=dict)
    poison: bool = False


@dataclass(frozen=True, slots=True)
class SentAct(SentEvent):
    """A behaviour. Each has an item of its own, but for one that was sent again."""

    item: str = ""
    action: str = "acted"
    named: bool = False


@dataclass(eq=False)
class Reference:
    """All that was sent, by user, in the order of the partitions."""

    sign_ups: defaultdict[str, list[SentSignUp]] = field(default_factory=lambda: defaultdict(list))
    acts: defaultdict[str, list[SentAct]] = field(default_factory=lambda: defaultdict(list))
    erasures: defaultdict[str, list[SentErasure]] = field(default_factory=lambda: defaultdict(list))
    """Good ones."""
    by_origin: dict[tuple[str, int, int], SentEvent] = field(default_factory=dict)

    def sent(self, event: SentEvent) -> None:
        self.by_origin[event.origin] = event
        if isinstance(event, SentSignUp):
            self.sign_ups[event.user_id].append(event)
        elif isinstance(event, SentAct):
            self.acts[event.user_id].append(event)
        elif isinstance(event, SentErasure) and event.good:
            self.erasures[event.user_id].append(event)

    def erased(self, user_id: str, *, lost: bool) -> Bounds:
        """Between which orders the last erasure of a user lies. One that comes again changes nothing; of more events
        than are remembered it may, and where the store lost that it came before."""
        sent = self.erasures[user_id]
        if not sent:
            return NEVER, NEVER
        first: dict[str, Order] = {}
        for each in sent:
            first.setdefault(each.identity, each.order)
        low = max(first.values())
        return low, low if self.remembers(user_id) and not lost else max(each.order for each in sent)

    def first_copy(self, erasure: SentErasure) -> Order:
        """The order of the erasure that this one is a copy of."""
        return next(each.order for each in self.erasures[erasure.user_id] if each.identity == erasure.identity)

    def remembers(self, user_id: str) -> bool:
        """Whether all of a user's registrations and erasures are; the mark of an erasure is remembered as one."""
        erasures = {each.identity for each in self.erasures[user_id]}
        registrations = {each.identity for each in self.sign_ups[user_id] if each.good}
        return len(registrations) + len(erasures) + bool(erasures) <= REMEMBERED_REGISTRATIONS

    def behaviour(self, user_id: str) -> list[Outcome]:
        """The user's behaviours in order of time, each once; of one time as they lie in the partition."""
        applied: list[Outcome] = []
        known: set[object] = set()
        for act in self.acts[user_id]:
            own: object = act.identity if act.named else (act.item, act.action, act.claimed_ms)
            if not act.good or own in known:
                continue
            known.add(own)
            row = (act.item, act.action, act.at_ms)
            applied.insert(bisect_right(applied, row[2], key=lambda each: each[2]), row)
        return applied

    def moved(self, user_id: str) -> set[str]:
        """Items of the user's behaviours of which copies have other times: those of senders whose clock is ahead."""
        times: defaultdict[str, set[int]] = defaultdict(set)
        for act in self.acts[user_id]:
            times[act.item].add(act.at_ms)
        return {item for item, of_it in times.items() if len(of_it) > 1}

    def copies(self, user_id: str, *, lost: bool) -> Mapping[str, Sequence[SentSignUp]]:
        """By identity, what may count of each registration: the first of each partition, the first time it is read.

        Of more than are remembered, any may count again; so it may where the store lost the first one, with all that it
        remembered.
        """
        found: defaultdict[str, list[SentSignUp]] = defaultdict(list)
        good = [each for each in self.sign_ups[user_id] if each.good]
        remembered = not lost and self.remembers(user_id)
        for each in good:
            if not remembered or all(each.record.partition != one.record.partition for one in found[each.identity]):
                found[each.identity].append(each)
        return found

    def wrong_attributes(self, user: UserFeatures, *, exact: bool, lost: bool) -> str | None:
        """What is wrong with the attributes that stand; None where they are those of the latest registration since the
        user was erased."""
        copies = self.copies(user.user_id, lost=lost)
        low, high = self.erased(user.user_id, lost=lost)
        required = {
            name: each for name, each in copies.items() if not each[0].poison and min(one.order for one in each) > high
        }
        copies = {name: [one for one in each if one.order > low] for name, each in copies.items()}
        if user.attributes is None:
            return f"none stand, though {sorted(required)} were registered" if required else None
        standing = [one for each in copies.values() for one in each if dict(one.attributes) == dict(user.attributes)]
        if exact:
            standing = [
                one for one in standing if (one.at_ms, self._place(one)) == (user.attributes_ms, user.attributes_place)
            ]
        if not standing:
            return (
                f"{dict(user.attributes)} as of {user.attributes_ms} at {user.attributes_place} were never registered"
            )
        if not exact:
            return None
        latest = max(one.order for one in standing)
        later = [name for name, each in required.items() if min(one.order for one in each) > latest]
        return f"those of {standing[0].identity} stand, though {later} came later" if later else None

    def wrong_first(self, user: UserFeatures) -> str | None:
        """What is wrong with when the user registered first; None where it is the time of the earliest registration.

        Of one that was sent several times, any copy that may have been read first counts. Of who was erased, any since:
        one erasure that comes late takes the earliest one, which may have stood for another since.
        """
        copies = self.copies(user.user_id, lost=False)
        times = {name: [one.at_ms for one in each] for name, each in copies.items()}
        required = [max(times[name]) for name, each in copies.items() if not each[0].poison]
        found = user.registered_ms
        if found is None or not required:
            return None
        if self.erasures[user.user_id]:
            low, _ = self.erased(user.user_id, lost=False)
            since = [one.at_ms for one in self.sign_ups[user.user_id] if one.good and one.order > low]
            return None if found in since else f"{found}, erased at {low}, registered since at {since}"
        if found in (at_ms for each in times.values() for at_ms in each) and found <= min(required):
            return None
        return f"{found}, of registrations at {times}"

    @staticmethod
    def _place(event: SentSignUp) -> Place:
        record = event.record
        return Place(f"{record.topic}-{record.partition}", record.offset, record.timestamp)
