"""The active generation as a ranking request sees it: asked for rarely, and outliving a Redis that is away."""

import asyncio
import logging
import math
from contextlib import suppress

from foretaste.kernel.errors import Unavailable
from foretaste.kernel.generations import Generation
from foretaste.kernel.ports import Clock, Generations, Towers
from foretaste.kernel.running.logs import about_nothing
from foretaste.kernel.running.supervision import cancel_and_wait

log = logging.getLogger(__name__)


ASKING_SECONDS = 0.05
"""For which the pointer is waited for where a generation is known already."""


class NoneActive(Unavailable):
    """No generation was ever active: a person has to make one."""

    def __init__(self) -> None:
        super().__init__("generation", "none is active yet: train, publish and activate one first")


class ActiveGeneration:
    """The active generation, asked for again when what is known is older than `max_age` seconds.

    One request asks and the others go on with the one they know; where requests come one after the other, it is asked
    for before it is that old, and none waits. Where Redis is away, hangs, or has lost its pointer, the last one seen
    serves on: its towers are still loaded. So it does until what asking the next one's towers needs is here, which no
    request waits for. `clock` counts seconds monotonically.
    """

    def __init__(self, generations: Generations, towers: Towers, clock: Clock, max_age: float = 0.5) -> None:
        self._generations = generations
        self._towers = towers
        self._clock = clock
        self._max_age = max_age
        self._seen: Generation | None = None
        self._asked_at = 0.0
        self._asking = asyncio.Lock()
        self._asking_ahead: asyncio.Task[None] | None = None
        self._preparing: asyncio.Task[Generation | None] | None = None

    async def get(self) -> Generation:
        """Raises `NoneActive`, and `Unavailable` when Redis is away and none was seen yet."""
        if self._seen is not None and (self._is_fresh() or self._asking.locked()):
            self._ask_ahead()
            return self._seen
        async with self._asking:
            if self._seen is None or not self._is_fresh():
                self._seen = await self._ask()
        return self._seen

    async def close(self) -> None:
        """End what is asked beside the answers; its clients are closed by who opened them, after this."""
        tasks = [task for task in (self._asking_ahead, self._preparing) if task is not None]
        self._asking_ahead = self._preparing = None
        await cancel_and_wait(*tasks)

    def _is_fresh(self) -> bool:
        return self._clock() - self._asked_at < self._max_age

    def _ask_ahead(self) -> None:
        """From half of the age on, ask beside the answers: under load no request waits for the pointer then."""
        if self._asking.locked() or self._clock() - self._asked_at < self._max_age / 2:
            return
        if self._asking_ahead is not None:
            if not self._asking_ahead.done():
                return
            self._asking_ahead.result()  # a defect is the next request's, as it would be without this task
        self._asking_ahead = asyncio.get_running_loop().create_task(self._asked_ahead(), context=about_nothing())

    async def _asked_ahead(self) -> None:
        async with self._asking:
            self._seen = await self._ask()

    async def _ask(self) -> Generation:
        if self._seen is None:
            found = await self._generations.active()
        else:
            found = self._seen
            with suppress(Unavailable, TimeoutError):
                async with asyncio.timeout(ASKING_SECONDS):
                    found = await self._generations.active() or self._seen
        if found is None:
            raise NoneActive
        self._asked_at = self._clock()
        if self._seen is None or found.number == self._seen.number:
            return found
        return self._prepared(found) or self._seen

    def _prepared(self, found: Generation) -> Generation | None:
        """The generation that took over, once its towers can be asked without waiting; None until then."""
        task = self._preparing
        if task is not None and task.done():
            self._preparing = None
            if (error := task.exception()) is not None:
                log.error("generation %d is active, and cannot be prepared: %r", found.number, error, exc_info=error)
            elif (prepared := task.result()) is not None and prepared.number == found.number:
                return found
        if self._preparing is None:
            self._preparing = asyncio.get_running_loop().create_task(self._prepare(found), context=about_nothing())
        return None

    async def _prepare(self, found: Generation) -> Generation | None:
        """The generation, None where its towers do not answer: then it is tried again."""
        try:
            await self._towers.prepare(found.number)
        except Unavailable as error:
            log.warning("generation %d is active, and %s", found.number, error)
            return None
        self._asked_at = -math.inf  # the next request moves on
        return found
