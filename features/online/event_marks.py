"""Which events a user's rows are made from: fields of a user's hash beside Feast's, written in the same step.

Feast passes over fields that it does not know, so that a team's own client reads and writes its views as before. A row
that such a client wrote keeps the mark that stood there; its event time tells that it is another.

- The registration that the attributes are from: `partition offset timestamp`, then the digests of those applied last,
  in hexadecimal; `-` for the partition where the place is not known.
- The first registration, an event time as Feast stores it. It is written with the first attributes: whoever else
  writes the view, with a time of its own, makes nobody new.
- The behaviours applied last: their digests one behind the other.
- When the user was erased last, epoch milliseconds.
- The tail of the behaviour, as this store wrote it last: how many there are, the time of the newest, the row's event
  time (microseconds) and version, the bytes of the three lists, and the event time as it is stored. Where the row
  agrees, it stands as it was written, and what is later can be put behind it unread.
"""

from collections.abc import Sequence

from features.online.layout import ATTRIBUTES_VIEW, BEHAVIOUR_VIEW, Raw, StoredRow, features_of, readable_nanos
from foretaste.kernel.event_order import (
    DIGEST_BYTES,
    REMEMBERED_REGISTRATIONS,
    AppliedEvents,
    Place,
    first_registration,
)
from foretaste.kernel.users import BehavedUser, Erasure, UserFeatures

REGISTRATION = f"_registration:{ATTRIBUTES_VIEW}".encode()
APPLIED = f"_applied:{BEHAVIOUR_VIEW}".encode()
FIRST_REGISTRATION = f"_first:{ATTRIBUTES_VIEW}".encode()
ERASED = f"_erased:{ATTRIBUTES_VIEW}".encode()
TAIL = f"_tail:{BEHAVIOUR_VIEW}".encode()

DIGEST_TEXT = 1 + 2 * DIGEST_BYTES
"""Characters of a registration's digest."""
_NO_PLACE = Place("-", 0, 0)
_ANY = 1
"""Of no matter: no slot is read."""


def place_parts(place: Place | None) -> tuple[bytes, bytes, bytes]:
    """Partition, offset and timestamp as texts."""
    partition, offset, timestamp_ms = place or _NO_PLACE
    return partition.encode(), b"%d" % offset, b"%d" % timestamp_ms


def place_text(place: Place | None) -> bytes:
    """As the mark begins; empty where there is no place."""
    return b"" if place is None else b" ".join(place_parts(place))


def digests_text(digests: Sequence[bytes]) -> bytes:
    """As the mark goes on, each behind a space."""
    return b"".join([b" " + digest.hex().encode() for digest in digests])


def registration_mark(place: Place | None, digests: Sequence[bytes]) -> bytes:
    """The registration whole, with the digests that are remembered."""
    return b" ".join(place_parts(place)) + digests_text(digests[-REMEMBERED_REGISTRATIONS:])


def registration_of(mark: Raw) -> tuple[Place | None, tuple[bytes, ...]]:
    """The place of the registration that the attributes are from, and the digests of those applied last."""
    if not mark:
        return None, ()
    try:
        partition, offset, timestamp_ms, *digests = mark.decode().split(" ")
        place = Place(partition, int(offset), int(timestamp_ms))
        return (None if place == _NO_PLACE else place), tuple(map(bytes.fromhex, digests))
    except ValueError:  # nobody's mark: as if there were none
        return None, ()


def tail_of(user: BehavedUser, row: StoredRow, time: bytes) -> bytes:
    """The tail of a behaviour that is written whole, as `row` at this event time."""
    _, items, _, actions, _, times, *_ = row.fields
    newest = user.behaviour.times[-1] if user.behaviour.times else 0
    numbers = (len(user.behaviour), newest, user.at_us, user.version, len(items), len(actions), len(times))
    return b"%d %d %d %d %d %d %d %b" % (*numbers, time)


def applied_of(mark: Raw) -> AppliedEvents:
    """The behaviours that were applied last; what is no whole digest is cut off."""
    return AppliedEvents(mark[: len(mark) // DIGEST_BYTES * DIGEST_BYTES]) if mark else AppliedEvents()


def registered(read: UserFeatures, mark: Raw, first: Raw) -> UserFeatures:
    """What was read of a user, with the registration that the attributes are from, and the first one."""
    place, digests = registration_of(mark)
    if (place is None and not digests and first is None) or ATTRIBUTES_VIEW in read.damaged:
        return read
    first_ms = 0 if first is None else first_registration(read.attributes_ms, readable_nanos(first) // 1_000_000)
    return _marked(read, place, digests, read.applied, first_ms=first_ms)


def behaved(user_id: str, values: Sequence[Raw], mark: Raw, erasure: Erasure | None = None) -> UserFeatures:
    """A user's behaviour from the values of its view and the mark of what was applied to it, after an erasure.

    What cannot be read counts as never written, and so nothing as applied to it.
    """
    read = features_of(user_id, _ANY, [None, None, *values, None, None, None, None])
    applied = applied_of(mark) if mark and not read.damaged else read.applied
    if applied is read.applied and erasure is None:
        return read
    return _marked(read, read.attributes_place, read.registrations, applied, erasure)


def _marked(
    read: UserFeatures,
    place: Place | None,
    registrations: tuple[bytes, ...],
    applied: AppliedEvents,
    erasure: Erasure | None = None,
    first_ms: int = 0,
) -> UserFeatures:
    """What was read of a user, with other marks; `replace` of dataclasses takes as long as reading does."""
    return UserFeatures(
        read.user_id,
        read.attributes,
        read.behaviour,
        read.behaviour_version,
        read.virtual,
        read.attributes_ms,
        read.virtual_ms,
        read.behaviour_us,
        read.damaged,
        place,
        first_ms,
        registrations,
        applied,
        erasure,
    )
