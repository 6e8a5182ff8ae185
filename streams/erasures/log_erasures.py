"""The way of an erasure in the training log."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence

from foretaste.kernel.events import DeadLetter, Message
from foretaste.kernel.ports import Clock
from foretaste.kernel.running.erasing import IN_FLIGHT_MS, ErasingLog, ErasingStore, LogErasure
from streams.erasures.decoded import ANY_SLOT, DecodedErasure, decoded, erased_users, latest_of_each

PATIENCE, LOOK_SECONDS = 2.0, 0.1
"""For which the users' way is waited for, and between two looks at what it has done."""


class LogErasures:
    """Handles batches of `user-erased` messages for the training log; a bad one is kept by the way above, not here.

    1. Every message is decoded.
    2. The store forgets the users, which the users' way has `PATIENCE` seconds for, since it keeps the records: from
       then on no ranking is made from what it held.
    3. The log forgets what happened until an answer that was in flight at that moment is given; of who registered anew
       by then, what happened until that. On return the messages may be acknowledged.

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
        latest = latest_of_each(erasures)
        await self._wait_for_the_store(latest)
        anew = await self._store.erase(erased_users(latest.values()))  # 2
        registered_ms = {each.user_id: each.attributes_ms for each in await self._store.read(anew, ANY_SLOT)}
        answered_ms = round(self._now() * 1000) + IN_FLIGHT_MS
        await self._log.erase(  # 3
            [
                LogErasure(user_id, each.at_ms, max(each.at_ms, registered_ms.get(user_id, answered_ms)))
                for user_id, each in latest.items()
            ]
        )

    async def _wait_for_the_store(self, latest: Mapping[str, DecodedErasure]) -> None:
        for _ in range(round(PATIENCE / LOOK_SECONDS)):
            users = await self._store.read_behaviour(list(latest))
            if all(user.erasure is not None and user.erasure.at_ms >= latest[user.user_id].at_ms for user in users):
                return
            await self._sleep(LOOK_SECONDS)

    async def refuse(self, letters: Sequence[DeadLetter]) -> None:
        """Nothing: the users' way reads the same messages."""
