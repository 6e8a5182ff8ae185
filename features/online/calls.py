"""Rows to be written, as calls of the scripts that compare and write."""

from typing import NamedTuple

from features.online.columns import texts_elements, time_of, times_elements
from features.online.event_marks import (
    APPLIED,
    DIGEST_TEXT,
    FIRST_REGISTRATION,
    REGISTRATION,
    TAIL,
    digests_text,
    place_parts,
    place_text,
    registration_mark,
    tail_of,
)
from features.online.layout import (
    ATTRIBUTES,
    ATTRIBUTES_VIEW,
    BEHAVIOUR,
    BEHAVIOUR_VIEW,
    attributes_raw,
    attributes_row,
    behaviour_row,
    stamp_of,
    virtual_row,
    virtual_values,
)
from features.redis.commands import Command
from foretaste.kernel.event_order import REMEMBERED_REGISTRATIONS
from foretaste.kernel.generations import SLOTS
from foretaste.kernel.users import BehavedUser, EnrichedUser, LaterBehaviour, ReenrichedUser, UserFeatures

_VERSION = (BEHAVIOUR[-1], stamp_of(BEHAVIOUR_VIEW))
_ATTRIBUTES_TIME = stamp_of(ATTRIBUTES_VIEW)
WHOLE_FIELDS = (
    *(ATTRIBUTES, _ATTRIBUTES_TIME, REGISTRATION, FIRST_REGISTRATION),
    *(*BEHAVIOUR, stamp_of(BEHAVIOUR_VIEW), TAIL, APPLIED),
)
"""Of a user who is written whole, before those of the virtual behaviour's slot."""
_NO_REGISTRATION, _NO_BEHAVIOUR, _NO_VIRTUAL = (b"",) * 4, (b"",) * 7, (b"",) * 4
_SLOT_TIMES = tuple(map(stamp_of, SLOTS))
_REMEMBERED = b"%d" % (REMEMBERED_REGISTRATIONS * DIGEST_TEXT)


class WriteCall(NamedTuple):
    """A call of a script that writes what is newer."""

    compared: tuple[bytes, ...]
    """The key and the arguments before the stored event time that is written over."""
    fields: tuple[bytes, ...]
    """The arguments behind it."""
    read: bytes = b""
    """The stored event time that the row was made over, which is before its own; empty where that is not known."""

    @property
    def key(self) -> bytes:
        return self.compared[0]

    def over(self, stored: bytes) -> Command:
        """The call where a row with this event time stands in nobody's way; empty for none."""
        return (*self.compared, stored, *self.fields)


def enriched_call(key: bytes, user: EnrichedUser) -> WriteCall:
    """A call of `WRITE_ENRICHED`."""
    row, version = attributes_row(key, user), user.version
    slot_times, virtual = _SLOT_TIMES, tuple[bytes, ...]()
    if user.virtual is not None:
        written = virtual_row(key, ReenrichedUser(user.user_id, user.virtual, user.at_ms))
        virtual = written.fields
        slot_times = _SLOT_TIMES if written.view == SLOTS[0] else _SLOT_TIMES[::-1]
    name, value = row.fields
    compared = (time_of(row.nanos), *place_parts(version.place), digests_text(version.digests), _REMEMBERED)
    fields = (
        name,
        _ATTRIBUTES_TIME,
        REGISTRATION,
        *slot_times,
        FIRST_REGISTRATION,
        _first_time(user.first_ms),
        value,
        *virtual,
    )
    return WriteCall((key, *compared), fields)


def virtual_call(key: bytes, user: ReenrichedUser) -> WriteCall:
    """A call of the `WRITE_VIRTUAL` of its slot."""
    made_from = (b"", b"any")
    if user.made_from is not None:
        made_from = (time_of(user.made_from.at_ms * 1_000_000), place_text(user.made_from.place))
    read = time_of(user.read_ms * 1_000_000) if user.read_ms else b""
    return WriteCall((key, time_of(user.at_ms * 1_000_000)), (*made_from, *virtual_values(user.virtual)), read)


def behaviour_call(key: bytes, user: BehavedUser, version: bytes, time: bytes) -> Command:
    """A call of `WRITE_BEHAVIOUR`, over what has this version and event time, as they are stored."""
    row = behaviour_row(key, user)
    mark = (APPLIED, user.applied.digests) if user.applied.digests else ()
    at = time_of(row.nanos)
    fields = (_VERSION[1], at, *row.fields, *mark, TAIL, tail_of(user, row, at))
    last = b"%d" % (5 + len(fields))
    return (key, *_VERSION, version, time, last, *fields)


def append_call(key: bytes, user: LaterBehaviour) -> Command:
    """A call of `APPEND_BEHAVIOUR`."""
    items, actions, times = user.behaviour.items, user.behaviour.actions, user.behaviour.times
    newest = times[-1]
    return (
        key,
        b"%d" % len(times),
        b"%d" % times[0],
        b"%d" % newest,
        time_of(newest * 1_000_000),
        texts_elements(items),
        texts_elements(actions),
        times_elements(times),
        user.digests,
    )


def new_call(key: bytes, user: EnrichedUser) -> Command:
    """A call of the `WRITE_NEW` of its slot."""
    row = attributes_row(key, user)
    mark = registration_mark(user.place, user.digests)
    virtual = () if user.virtual is None else virtual_values(user.virtual)
    at = time_of(row.nanos)
    return (key, at, row.fields[1], mark, _first_time(user.first_ms) or at, *virtual)


def whole_call(key: bytes, user: UserFeatures) -> Command:
    """A call of the `WRITE_WHOLE` of its slot: all as the writes of a sign-up and of a first behaviour leave it."""
    registered: Command = _NO_REGISTRATION
    behaved: Command = _NO_BEHAVIOUR
    virtual: Command = _NO_VIRTUAL
    if user.attributes is not None:
        at = time_of(user.attributes_ms * 1_000_000)
        mark, first = registration_mark(user.attributes_place, user.registrations), _first_time(user.first_ms) or at
        registered = (attributes_raw(user.attributes), at, mark, first)
    if len(user.behaviour):
        first_row = BehavedUser(user.user_id, user.behaviour)
        row = behaviour_row(key, first_row)
        at = time_of(row.nanos)
        behaved = (*row.fields[1::2], at, tail_of(first_row, row, at), user.applied.digests)
    if user.virtual is not None:
        virtual = (*virtual_values(user.virtual), time_of(user.virtual_ms * 1_000_000))
    return (key, *registered, *behaved, *virtual)


def _first_time(first_ms: int) -> bytes:
    """A first registration as it is stored; empty for 0, where none is told."""
    return time_of(first_ms * 1_000_000) if first_ms else b""
