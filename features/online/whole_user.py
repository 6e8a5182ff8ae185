"""A user written whole where nothing is stored: all views and marks of the hash at once."""

from features.online.event_marks import APPLIED, DIGEST_TEXT, REGISTRATION, TAIL, digests_text, place_parts, tail_of
from features.online.layout import (
    ATTRIBUTES_VIEW,
    BEHAVIOUR_VIEW,
    attributes_row,
    behaviour_row,
    stamp_of,
    time_of,
    virtual_row,
)
from features.redis.commands import Command, LuaScript
from foretaste.kernel.users import (
    REMEMBERED_REGISTRATIONS,
    BehavedUser,
    EnrichedUser,
    ReenrichedUser,
    UserFeatures,
)

WRITE_WHOLE = LuaScript(__package__, "write_whole.lua")
_ATTRIBUTES_TIME, _BEHAVIOUR_TIME = stamp_of(ATTRIBUTES_VIEW), stamp_of(BEHAVIOUR_VIEW)
_REMEMBERED = REMEMBERED_REGISTRATIONS * DIGEST_TEXT


def whole_call(key: bytes, user: UserFeatures) -> Command:
    """A call of `WRITE_WHOLE`: the fields as the writes of a sign-up and of a first behaviour leave them."""
    fields: list[bytes] = [key]
    if user.attributes is not None:
        row = attributes_row(key, EnrichedUser(user.user_id, user.attributes, None, user.attributes_ms))
        version = user.attributes_version
        mark = b" ".join(place_parts(version.place)) + digests_text(version)[-_REMEMBERED:]
        fields += (*row.fields, _ATTRIBUTES_TIME, time_of(row.nanos), REGISTRATION, mark)
    if len(user.behaviour):
        behaved = BehavedUser(user.user_id, user.behaviour)
        row = behaviour_row(key, behaved)
        at = time_of(row.nanos)
        fields += (*row.fields, _BEHAVIOUR_TIME, at, TAIL, tail_of(behaved, row, at))
        if user.applied.digests:
            fields += (APPLIED, user.applied.digests)
    if user.virtual is not None:
        row = virtual_row(key, ReenrichedUser(user.user_id, user.virtual, user.virtual_ms))
        fields += (*row.fields, stamp_of(row.view), time_of(row.nanos))
    return tuple(fields)
