"""The active generation as a ranking request sees it: asked for rarely, and outliving a Redis that is away."""

import asyncio

from foretaste.kernel.errors import Unavailable
from foretaste.kernel.generations import Generation
from foretaste.kernel.ports import Clock, Generations


class NoneActive(Unavailable):
    """No generation was ever active: a person has to make one."""

    def __init__(self) -> None:
        super().__init__("generation", "none is active yet: train, publish and activate one first")


class ActiveGeneration:
    """The active generation, asked for again when what is known is older than `max_age` seconds.

    One request asks and the others go on with the one they know. Where Redis is away, or has lost its pointer, the
    last one seen serves on: its towers are still loaded. `clock` counts seconds monotonically.
    """

    def __init__(self, generations: Generations, clock: Clock, max_age: float = 0.5) -> None:
        self._generations = generations
        self._clock = clock
        self._max_age = max_age
        self._seen: Generation | None = None
        self._asked_at = 0.0
        self._asking = asyncio.Lock()

    async def get(self) -> Generation:
        """Raises `NoneActive`, and `Unavailable` when Redis is away and none was seen yet."""
        if self._seen is not None and (self._is_fresh() or self._asking.locked()):
            return self._seen
        async with self._asking:
            if self._seen is None or not self._is_fresh():
                self._seen = await self._ask()
        return self._seen

    def _is_fresh(self) -> bool:
        return self._clock() - self._asked_at < self._max_age

    async def _ask(self) -> Generation:
        try:
            found = await self._generations.active() or self._seen
        except Unavailable:
            if self._seen is None:
                raise
            found = self._seen
        if found is None:
            raise NoneActive
        self._asked_at = self._clock()
        return found
