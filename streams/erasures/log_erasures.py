"""The way of an erasure in the training log."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from foretaste.kernel.events import DeadLetter, Message
from foretaste.kernel.ports import Clock
from foretaste.kernel.running.erasing import IN_FLIGHT_MS, ErasedUser, ErasingLog, ErasingStore, LogErasure
from streams.decoded_erasures import ANY_SLOT, decoded, erased_users

PATIENCE, LOOK_SECONDS = 2.0, 0.1
"""For which the users' way is waited for, and between two looks at what it has done."""


class LogErasures:
    """Handles batches of `user-erased` messages for the training log; a bad one is kept by the way above, not here.

    1. Every message is decoded.
    2. The store forgets the users, which the users' way has `PATIENCE` seconds for, since it keeps the records: from
       then on no ranking is made from what it held.
    3. The log forgets what happened until an answer that was in flight at that moment is given; of who registered anew
       by then, what happened until the first registration since, and of the rankings after it those that were answered
       from what was known before: the store had it until now, and maybe the registration not yet. An erasure that comes
       again, under a later time maybe, is as of the time that the store has of it. On return the messages may be
       acknowledged.

    Raises `Unavailable` when a part is away.
    """

    def __init__(
        self,
        log: ErasingLog,
        store: ErasingStore,
        *,
        max_event_bytes: int,
        now: Clock,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._log = log
        self._store = store
        self._max_event_bytes = max_event_bytes
        self._now = now
        self._sleep = sleep

    async def __call__(self, messages: Sequence[Message]) -> None:
        """Steps 1 to 3 for one batch."""
        erasures, _ = decoded(messages, self._now, self._max_event_bytes)  # 1
        if not erasures:
            return
        users = erased_users(erasures)
        await self._wait_for_the_store(users)
        anew = await self._store.erase(users)  # 2
        registered_ms = {
            each.user_id: each.registered_ms for each in await self._store.read(anew, ANY_SLOT) if each.registered_ms
        }
        answered_ms = round(self._now() * 1000) + IN_FLIGHT_MS
        stored = await self._store.read_behaviour([each.user_id for each in users])
        await self._log.erase(  # 3
            [
                LogErasure(user.user_id, at_ms, max(at_ms, registered_ms.get(user.user_id, answered_ms)))
                for user, held in zip(users, stored, strict=True)
                for at_ms in [user.version.at_ms if held.erasure is None else held.erasure.at_ms]
            ]
        )

    async def _wait_for_the_store(self, users: Sequence[ErasedUser]) -> None:
        """Until it has an erasure of each that is as late; in vain for one that comes again under a later time."""
        at_ms = {each.user_id: each.version.at_ms for each in users}
        for _ in range(round(PATIENCE / LOOK_SECONDS)):
            stored = await self._store.read_behaviour(list(at_ms))
            if all(user.erasure is not None and user.erasure.at_ms >= at_ms[user.user_id] for user in stored):
                return
            await self._sleep(LOOK_SECONDS)

    async def refuse(self, letters: Sequence[DeadLetter]) -> None:
        """Nothing: the users' way reads the same messages."""
