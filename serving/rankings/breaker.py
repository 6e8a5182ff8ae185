"""A part that hangs is left alone for a moment, so that the next answers need not wait for it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from foretaste.kernel.errors import ForetasteError, Unavailable
from foretaste.kernel.ports import Clock

LATE_IN_A_ROW = 2
"""Calls without an answer in time, after which a part is left alone: a single slow one is nobody's fault."""
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 5.0
"""Seconds for which it is left alone; each time that a trial fails twice as long, up to the longest."""
LEAST = 0.01
"""Seconds that a part must have had: a call that came to it too late says nothing of it."""


class PartBreaker:
    """Calls to one part of the system, each with the seconds that are left for it.

    Closed, every call is made. After `LATE_IN_A_ROW` late ones it is open: calls fail at once. After a pause one call
    at a time is a trial; an answer closes it, a late one opens it for longer. A part that refuses at once costs no
    time, and is not left alone. `clock` counts seconds monotonically.
    """

    def __init__(self, part: str, clock: Clock) -> None:
        self._part = part
        self._clock = clock
        self._late = 0
        self._late_at: float | None = None
        """When a late call was counted last."""
        self._pause = FIRST_PAUSE
        self._open_until: float | None = None
        self._trying = False

    @asynccontextmanager
    async def within(self, seconds: float) -> AsyncIterator[None]:
        """Raises `Unavailable` where what is awaited inside takes longer, or is not to be awaited now."""
        if seconds <= 0:
            raise Unavailable(self._part, "no time is left for it")
        trial = self._open_until is not None
        if trial:
            self._begin_trial()
        began = self._clock()
        try:
            async with asyncio.timeout(seconds):
                yield
        except TimeoutError as error:
            self._was_late(began, seconds)
            raise Unavailable(self._part, f"no answer within {seconds:.3f} s") from error
        except ForetasteError as error:
            if isinstance(error.__cause__, TimeoutError):  # the part's own timeout, shorter than this one
                self._was_late(began, seconds)
            else:
                self._answered()  # a refusal is an answer
            raise
        else:
            self._answered()
        finally:
            if trial:
                self._trying = False

    def _begin_trial(self) -> None:
        if self._trying or (self._open_until is not None and self._clock() < self._open_until):
            raise Unavailable(self._part, "it did not answer in time, and is left alone for a moment")
        self._trying = True

    def _answered(self) -> None:
        self._late, self._pause, self._open_until = 0, FIRST_PAUSE, None

    def _was_late(self, began: float, seconds: float) -> None:
        """Counts a late call, unless it began before the last one that was counted ended: they are one stall."""
        if seconds < LEAST or (self._late_at is not None and began < self._late_at):
            return
        self._late_at = self._clock()
        self._late += 1
        if self._late >= LATE_IN_A_ROW:
            self._open_until = self._clock() + self._pause
            self._pause = min(2 * self._pause, LONGEST_PAUSE)


class PartBreakers:
    """Those of a ranking way. The names are what an answer may say of a part."""

    def __init__(self, clock: Clock) -> None:
        self.pointer = PartBreaker("redis", clock)
        """Of the active generation, while none is known yet."""
        self.store = PartBreaker("online store", clock)
        self.zero_shot = PartBreaker("triton", clock)
        self.ranking = PartBreaker("triton", clock)
