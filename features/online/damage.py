"""Stored rows that cannot be read: which they are, and that the log tells of them a bounded number of times."""

import logging
from collections.abc import Iterable, Sequence

from features.online.layout import columns_of, fields_of, is_damaged
from features.redis.address import Client
from features.redis.commands import run_each
from foretaste.kernel.users import UserFeatures

log = logging.getLogger(__name__)

TOLD = 100
"""Users named in the log by one store; of the others every read still tells in `UserFeatures.damaged`."""


class DamageLog:
    """Names each damaged user once, at most `TOLD` of them."""

    def __init__(self) -> None:
        self._told: set[str] = set()

    def note(self, users: Iterable[UserFeatures]) -> None:
        """Of users as they were read, tells of those damaged."""
        for user in users:
            if user.damaged and user.user_id not in self._told and len(self._told) < TOLD:
                self._told.add(user.user_id)
                log.warning(
                    "user %r: stored %s cannot be read, as if never written", user.user_id, ", ".join(user.damaged)
                )
                if len(self._told) == TOLD:
                    log.warning("that was the damaged user number %d: no more of them are named", TOLD)


async def damaged_keys(client: Client, view: str, keys: Sequence[bytes]) -> list[bytes]:
    """Those of the keys whose row of a view cannot be read; a row no newer than it still replaces it."""
    if not keys:
        return []
    found = await run_each(client, b"HMGET", keys, *fields_of(columns_of(view)))
    return [key for key, values in zip(keys, found, strict=True) if is_damaged(view, values)]
