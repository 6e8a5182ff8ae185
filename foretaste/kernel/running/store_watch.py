"""Looks again and again whether a store may let go of users by itself, and says so loudly."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence

from foretaste.kernel.errors import Unavailable
from foretaste.kernel.running.durability import EvictingStore

log = logging.getLogger(__name__)

LOOK_EVERY = 60.0
"""Seconds between two looks: who runs a server changes its policy rarely."""


def eviction_warning(policy: str) -> str:
    """One line for people: what will happen, and what to do."""
    return (
        f"this Redis drops users and generations when it is full (maxmemory-policy {policy}): "
        "set maxmemory-policy noeviction"
    )


class StoreWatch:
    """The warning that stands of `stores`, those that can tell among them. `told` is called with each look's answer.

    A change is one line of the log; a store that is away leaves what was known of it.
    """

    def __init__(
        self,
        stores: Sequence[object],
        told: Callable[[bool], object],
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._stores = [store for store in stores if isinstance(store, EvictingStore)]
        self._told = told
        self._sleep = sleep
        self.warning: str | None = None
        """Why users may vanish; None while no store is known to drop any."""

    async def run(self) -> None:
        """Look for ever."""
        while True:
            await self.look()
            await self._sleep(LOOK_EVERY)

    async def look(self) -> None:
        """One look at each store."""
        try:
            policies = [await store.eviction() for store in self._stores]
        except Unavailable:
            return
        policy = next((each for each in policies if each is not None), None)
        warning = None if policy is None else eviction_warning(policy)
        if warning is not None and warning != self.warning:
            log.error("%s", warning)
        elif warning is None and self.warning is not None:
            log.warning("over: no store drops users any more")
        self.warning = warning
        self._told(warning is not None)
