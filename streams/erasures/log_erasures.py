"""The way of an erasure in the training log."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence

from foretaste.kernel.events import DeadLetter, Message
from foretaste.kernel.ports import Clock
from foretaste.kernel.running.erasing import IN_FLIGHT_MS, ErasingLog, ErasingStore, LogErasure
from streams.decoded_erasures import ANY_SLOT, decoded, erase_in_turns

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
        latest_ms: dict[str, int] = {}
        for each in erasures:
            latest_ms[each.event.user_id] = max(each.at_ms, latest_ms.get(each.event.user_id, 0))
        await self._wait_for_the_store(latest_ms)
        anew = await erase_in_turns(self._store, erasures)  # 2
        registered_ms = {
            user.user_id: user.registered_ms for user in await self._store.read(anew, ANY_SLOT) if user.registered_ms
        }
        answered_ms = round(self._now() * 1000) + IN_FLIGHT_MS
        log_erasures: list[LogErasure] = []
        for stored in await self._store.read_behaviour(list(latest_ms)):
            user_id, erasure = stored.user_id, stored.erasure
            at_ms = latest_ms[user_id] if erasure is None else erasure.at_ms
            log_erasures.append(LogErasure(user_id, at_ms, max(at_ms, registered_ms.get(user_id, answered_ms))))
        await self._log.erase(log_erasures)  # 3

    async def _wait_for_the_store(self, at_ms: Mapping[str, int]) -> None:
        """Until it has an erasure of each that is as late; in vain for one that comes again under a later time."""
        for _ in range(round(PATIENCE / LOOK_SECONDS)):
            stored = await self._store.read_behaviour(list(at_ms))
            if all(user.erasure is not None and user.erasure.at_ms >= at_ms[user.user_id] for user in stored):
                return
            await self._sleep(LOOK_SECONDS)

    async def refuse(self, letters: Sequence[DeadLetter]) -> None:
        """Nothing: the users' way reads the same messages."""
