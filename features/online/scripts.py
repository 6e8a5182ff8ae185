"""The scripts of the store in Redis, with the names of the fields that they read and write."""

from features.online.calls import WHOLE_FIELDS
from features.online.columns import TAGS
from features.online.event_marks import APPLIED, ERASED, FIRST_REGISTRATION, REGISTRATION, TAIL
from features.online.layout import (
    ATTRIBUTES,
    ATTRIBUTES_VIEW,
    BEHAVIOUR,
    BEHAVIOUR_VIEW,
    INTEGER,
    columns_of,
    fields_of,
    stamp_of,
)
from features.redis.commands import LuaScript
from foretaste.kernel.event_order import DIGEST_BYTES, REMEMBERED_BEHAVIOURS
from foretaste.kernel.generations import SLOTS
from foretaste.kernel.values import MAX_BEHAVIOUR, PASSED_OVER

_COLUMNS = dict(zip(("ITEMS", "ACTIONS", "TIMES", "VERSION"), BEHAVIOUR, strict=True))

WRITE_BEHAVIOUR = LuaScript(__package__, "offsets_compared.lua", "write_behaviour.lua")
APPEND_BEHAVIOUR = LuaScript(
    __package__,
    "offsets_compared.lua",
    "append_behaviour.lua",
    **_COLUMNS,
    **TAGS,
    STAMP=stamp_of(BEHAVIOUR_VIEW),
    APPLIED=APPLIED,
    TAIL=TAIL,
    ERASED=ERASED,
    INTEGER=INTEGER,
    DIGEST_BYTES=DIGEST_BYTES,
    REMEMBERED=REMEMBERED_BEHAVIOURS * DIGEST_BYTES,
    MOST=MAX_BEHAVIOUR,
    PASSED_OVER=PASSED_OVER.encode(),
)
WRITE_ENRICHED = LuaScript(__package__, "event_time.lua", "place.lua", "write_enriched.lua", ERASED=ERASED)


def _of_slot(view: str, *names: str) -> LuaScript:
    vectors, dimension, generation, stamp = fields_of(columns_of(view))
    return LuaScript(
        __package__,
        *names,
        ATTRIBUTES=ATTRIBUTES,
        ATTRIBUTES_STAMP=stamp_of(ATTRIBUTES_VIEW),
        REGISTRATION=REGISTRATION,
        FIRST_REGISTRATION=FIRST_REGISTRATION,
        SLOT_STAMP=stamp,
        VECTORS=vectors,
        DIMENSION=dimension,
        GENERATION=generation,
    )


WRITE_VIRTUAL = {view: _of_slot(view, "event_time.lua", "place.lua", "write_virtual.lua") for view in SLOTS}
WRITE_WHOLE = {
    view: LuaScript(__package__, "write_whole.lua", NAMES=(*WHOLE_FIELDS, *fields_of(columns_of(view))))
    for view in SLOTS
}
WRITE_NEW = {view: _of_slot(view, "write_new.lua") for view in SLOTS}
"""All by the slot of the virtual behaviour."""
