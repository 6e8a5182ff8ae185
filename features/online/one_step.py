"""What is written without a read before it: scripts that compare with what is stored, and their calls."""

from features.online.columns import TAGS, texts_elements, times_elements
from features.online.event_marks import APPLIED, DIGEST_TEXT, REGISTRATION, TAIL, digests_text, place_parts
from features.online.layout import (
    ATTRIBUTES,
    ATTRIBUTES_VIEW,
    BEHAVIOUR,
    BEHAVIOUR_VIEW,
    INTEGER,
    attributes_row,
    columns_of,
    fields_of,
    stamp_of,
    time_of,
    virtual_values,
)
from features.redis.commands import Command, LuaScript
from foretaste.kernel.generations import SLOTS
from foretaste.kernel.users import (
    DIGEST_BYTES,
    REMEMBERED_BEHAVIOURS,
    REMEMBERED_REGISTRATIONS,
    EnrichedUser,
    LaterBehaviour,
)
from foretaste.kernel.values import MAX_BEHAVIOUR

_REMEMBERED_TEXT = REMEMBERED_REGISTRATIONS * DIGEST_TEXT
_NAMES = ("ITEMS", "ACTIONS", "TIMES", "VERSION")
APPEND_BEHAVIOUR = LuaScript(
    __package__,
    "append_behaviour.lua",
    **dict(zip(_NAMES, BEHAVIOUR, strict=True)),
    **TAGS,
    STAMP=stamp_of(BEHAVIOUR_VIEW),
    APPLIED=APPLIED,
    TAIL=TAIL,
    INTEGER=INTEGER,
    DIGEST_BYTES=DIGEST_BYTES,
    REMEMBERED=REMEMBERED_BEHAVIOURS * DIGEST_BYTES,
    MOST=MAX_BEHAVIOUR,
)


def _write_new(view: str) -> LuaScript:
    vectors, dimension, generation, stamp = fields_of(columns_of(view))
    return LuaScript(
        __package__,
        "write_new.lua",
        ATTRIBUTES=ATTRIBUTES,
        ATTRIBUTES_STAMP=stamp_of(ATTRIBUTES_VIEW),
        REGISTRATION=REGISTRATION,
        SLOT_STAMP=stamp,
        VECTORS=vectors,
        DIMENSION=dimension,
        GENERATION=generation,
    )


WRITE_NEW = {view: _write_new(view) for view in SLOTS}
"""By the slot of the virtual behaviour."""


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
    """A call of one of `WRITE_NEW`."""
    row = attributes_row(key, user)
    mark = b" ".join(place_parts(user.place)) + digests_text(user.version)[-_REMEMBERED_TEXT:]
    virtual = () if user.virtual is None else virtual_values(user.virtual)
    return (key, time_of(row.nanos), row.fields[1], mark, *virtual)
