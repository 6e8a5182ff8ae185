"""The erasure of users in Redis: what stays in the place of one, and who registered anew before it was handled."""

from collections.abc import Sequence
from typing import Any

from features.online.columns import time_of
from features.online.event_marks import DIGEST_TEXT, ERASED, FIRST_REGISTRATION, REGISTRATION, digests_text, place_parts
from features.online.layout import ATTRIBUTES, ATTRIBUTES_VIEW, BEHAVIOUR_VIEW, Raw, stamp_of
from features.redis.address import Client
from features.redis.commands import Command, LuaScript, run_each, wrong_type
from foretaste.kernel.event_order import REMEMBERED_REGISTRATIONS
from foretaste.kernel.running.erasing import ErasedUser
from foretaste.kernel.users import BehavedUser, Erasure, UserFeatures

ERASE = LuaScript(__package__, "event_time.lua", "place.lua", "erase.lua")
DONE, KNOWN, UNKNOWN = 1, 2, 3
"""What the script returns. `KNOWN` and `UNKNOWN`: a later registration stands, and the erasure was stored beside it
before, or was not."""
ROUNDS = 5
"""Tries to take away what a user who registered anew did before the erasure, while others write."""
_REMEMBERED = b"%d" % (REMEMBERED_REGISTRATIONS * DIGEST_TEXT)
_FIELDS = (ATTRIBUTES, stamp_of(ATTRIBUTES_VIEW), REGISTRATION, stamp_of(BEHAVIOUR_VIEW), ERASED)


def erase_call(key: bytes, user: ErasedUser, fence_ms: int, over: bytes = b"") -> Command:
    """The script's call; attributes with the event time `over` are erased though they are later."""
    version = user.version
    compared = (time_of(version.at_ms * 1_000_000), *place_parts(version.place), digests_text(user.fence.digests))
    return (key, *compared, _REMEMBERED, over, *_FIELDS, b"%d" % version.at_ms, b"%d" % fence_ms, FIRST_REGISTRATION)


def erased_at(raw: Raw) -> int | None:
    """When the user was erased (epoch milliseconds), from the field that says so; None where it does not."""
    return int(raw) if raw is not None and raw.isdigit() else None


async def erasures_of(client: Client, keys: Sequence[bytes], found: Sequence[Any]) -> dict[bytes, Erasure]:
    """By key, of those whose last value says that they were erased."""
    at = {
        key: at_ms
        for key, values in zip(keys, found, strict=True)
        if isinstance(values, list) and values[-1] is not None and (at_ms := erased_at(values[-1])) is not None
    }
    if not at:
        return {}
    anew = await run_each(client, b"HEXISTS", list(at), ATTRIBUTES, kept=wrong_type)
    return {key: Erasure(at_ms, there == 1) for (key, at_ms), there in zip(at.items(), anew, strict=True)}


def trimmed(users: Sequence[UserFeatures], newly_erased: Sequence[str]) -> list[BehavedUser]:
    """The rows of users without what they did before they were erased; only where something changes, but of those in
    `newly_erased` in any case: a writer that had read the user before is refused then."""
    rows = []
    for user in users:
        if user.erasure is None:
            continue
        kept = user.erasure.since(user.behaviour)
        if user.user_id in newly_erased or len(kept) < len(user.behaviour):
            rows.append(BehavedUser.after(user, kept))
    return rows
