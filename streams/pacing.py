"""A limit on how much is done a second."""

import asyncio
import time
from collections.abc import Awaitable, Callable

from foretaste.kernel.errors import InvalidInput
from foretaste.kernel.ports import Clock


class Pace:
    """At most `rate` users a second, evenly spread: whoever takes waits until those before him are paid for.

    Raises `InvalidInput` for a rate that is not above 0.
    """

    def __init__(
        self,
        rate: float,
        *,
        clock: Clock = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        if rate <= 0:
            raise InvalidInput("rate", rate, "must be above 0 users a second")
        self._rate = rate
        self._clock = clock
        self._sleep = sleep
        self._free_at = clock()

    async def take(self, users: int) -> None:
        """Returns when it is the turn of as many."""
        now = self._clock()
        turn = max(self._free_at, now)
        self._free_at = turn + users / self._rate
        if turn > now:
            await self._sleep(turn - now)
