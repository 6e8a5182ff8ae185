"""Rows that are written without a read before them, as calls of the scripts that compare and write."""

from features.online.columns import texts_elements, times_elements
from features.online.event_marks import DIGEST_TEXT, digests_text, place_parts
from features.online.layout import attributes_row, time_of, virtual_values
from features.redis.commands import Command
from foretaste.kernel.users import REMEMBERED_REGISTRATIONS, EnrichedUser, LaterBehaviour

_REMEMBERED_TEXT = REMEMBERED_REGISTRATIONS * DIGEST_TEXT


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
    mark = b" ".join(place_parts(user.place)) + digests_text(user.version)[-_REMEMBERED_TEXT:]
    virtual = () if user.virtual is None else virtual_values(user.virtual)
    return (key, time_of(row.nanos), row.fields[1], mark, *virtual)
