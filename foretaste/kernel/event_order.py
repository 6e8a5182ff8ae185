"""Which of a user's events count: by time, by their places in Kafka, and by what was applied before."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

DIGEST_BYTES = 8
"""Of an event's digest. Two events of a user have equal ones by chance once in 2^64."""
REMEMBERED_BEHAVIOURS = 128
"""Of a user, the last applied, whose digests are kept: one that comes again within them is refused."""
REMEMBERED_REGISTRATIONS = 8  # likewise


class Place(NamedTuple):
    """Where an event stands in Kafka."""

    partition: str
    """The topic and the partition's number, "user-registered-3"."""
    offset: int
    timestamp_ms: int
    """Kafka's, milliseconds since the epoch."""

    def is_later(self, other: "Place | None") -> bool:
        """Of two events of one time, whether this one is the later: by offset within a partition, which is their order
        in the topic; between partitions, which have none, by Kafka's timestamp. Any place is later than none."""
        if other is None:
            return True
        if self.partition == other.partition:
            return self.offset > other.offset
        return (self.timestamp_ms, self.partition) > (other.timestamp_ms, other.partition)


@dataclass(frozen=True, slots=True)
class AppliedEvents:
    """Digests of the events that were applied to a user's behaviour last (`event_digest`), one behind the other."""

    digests: bytes = b""

    def __contains__(self, digest: bytes) -> bool:
        place = self.digests.find(digest)
        while place > 0 and place % DIGEST_BYTES:  # a match across two digests is none
            place = self.digests.find(digest, place + 1)
        return place >= 0

    def __iter__(self) -> Iterator[bytes]:
        """The digests, oldest first."""
        return (self.digests[start : start + DIGEST_BYTES] for start in range(0, len(self.digests), DIGEST_BYTES))

    def with_applied(self, digest: bytes) -> "AppliedEvents":
        """With one more, the newest; of more than `REMEMBERED_BEHAVIOURS` the oldest is forgotten."""
        return AppliedEvents((self.digests + digest)[-REMEMBERED_BEHAVIOURS * DIGEST_BYTES :])


NONE_APPLIED = AppliedEvents()


@dataclass(frozen=True, slots=True)
class AttributesVersion:
    """Which registration a user's attributes are from: what decides whether another one takes its place."""

    at_ms: int = 0
    """When it happened (`event_time_ms`); 0 where nothing was ever registered."""
    place: Place | None = None
    """Where it stands in Kafka; None where that is not known."""
    digests: tuple[bytes, ...] = ()
    """Of this registration, the last, and of others that came, before it or outdone by it: at most
    `REMEMBERED_REGISTRATIONS`."""

    def replaces(self, stored: "AttributesVersion") -> bool:
        """Whether a registration takes the place of the stored one: the later does, by time and then by place. One that
        was applied before does not, wherever its time puts it now."""
        if stored.remembers(self):
            return False
        if self.at_ms != stored.at_ms:
            return self.at_ms > stored.at_ms
        return self.place is not None and self.place.is_later(stored.place)

    def after(self, stored: "AttributesVersion") -> "AttributesVersion":
        """As it is stored in the place of `stored`, whose digests are remembered too."""
        others = (digest for digest in stored.digests if digest not in self.digests)
        return AttributesVersion(self.at_ms, self.place, (*others, *self.digests)[-REMEMBERED_REGISTRATIONS:])

    def outdoing(self, other: "AttributesVersion") -> "AttributesVersion":
        """As it is stored once `other` came, which does not replace it: whoever sends that again, with whatever time,
        finds it remembered. Of one that is remembered nothing new is told, nor of those that it was chosen before."""
        if not other.digests or self.remembers(other):
            return self
        more = (digest for digest in other.digests if digest not in self.digests)
        digests = (*self.digests[:-1], *more, *self.digests[-1:])
        return AttributesVersion(self.at_ms, self.place, digests[-REMEMBERED_REGISTRATIONS:])

    def remembers(self, other: "AttributesVersion") -> bool:
        """Whether `other` came before, by its digest; of one without any that is not known."""
        return bool(other.digests) and other.digests[-1] in self.digests

    def is_same(self, other: "AttributesVersion") -> bool:
        """Whether both are of one registration."""
        return (self.at_ms, self.place) == (other.at_ms, other.place)


def first_registration(at_ms: int, *others_ms: int | None) -> int:
    """`first_ms` of a user whose newest registration is at `at_ms`: the earliest of the others, where it is before
    that; else 0. None and 0 are no registration."""
    earliest = at_ms
    for each in others_ms:
        if each and each < earliest:
            earliest = each
    return 0 if earliest == at_ms else earliest
