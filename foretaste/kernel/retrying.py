"""The one retry policy: what may succeed later is tried again until it does, with growing pauses and few log lines."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception
from tenacity.wait import wait_random_exponential

from foretaste.kernel.errors import ForetasteError
from foretaste.kernel.ports import Clock

log = logging.getLogger(__name__)

FIRST_PAUSE = 0.1
"""Seconds before the second try, at most; each later pause may be twice as long, up to the longest."""


def until_it_succeeds(
    *,
    longest: float,
    note: Callable[[RetryCallState], None] | None = None,
    also: tuple[type[Exception], ...] = (),
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> AsyncRetrying:
    """Called with a coroutine function and its arguments, it awaits that again while it raises a retriable error.

    Retriable are errors that say so of themselves, and those of a library in `also`; any other is raised at once.
    Pauses are random below a bound that doubles up to `longest` seconds, so that many callers do not return at once.
    `note` is called before each pause (`FailureStreak.note`).
    """
    return AsyncRetrying(
        retry=retry_if_exception(lambda error: isinstance(error, also) or _retriable(error)),
        wait=wait_random_exponential(multiplier=FIRST_PAUSE, max=longest),
        before_sleep=note,
        sleep=sleep,
        reraise=True,
    )


def _retriable(error: BaseException) -> bool:
    return isinstance(error, ForetasteError) and error.retriable


@dataclass(slots=True)
class FailureStreak:
    """Failures in a row of one thing: a line at the first, one each `interval` seconds, and one when it is over."""

    name: str
    clock: Clock
    interval: float = 30.0
    failures: int = 0
    began_at: float = 0.0
    logged_at: float = 0.0
    reason: str | None = None
    """The last failure of the row; None while there is none."""

    def note(self, state: RetryCallState) -> None:
        """What tenacity calls before it sleeps."""
        error = state.outcome.exception() if state.outcome is not None else None
        if error is not None:
            self.failed(error)

    def failed(self, error: BaseException) -> None:
        now = self.clock()
        self.failures += 1
        self.reason = str(error) or type(error).__name__
        if self.failures == 1:
            self.began_at = self.logged_at = now
            log.warning("%s: %s; trying again until it succeeds", self.name, error)
        elif now - self.logged_at >= self.interval:
            self.logged_at = now
            log.warning(
                "%s: still failing after %.0f s, %d times: %s", self.name, now - self.began_at, self.failures, error
            )

    def over(self) -> None:
        """The call succeeded, or was given up."""
        if self.failures:
            log.warning("%s: over after %d failures in %.1f s", self.name, self.failures, self.clock() - self.began_at)
            self.failures, self.reason = 0, None
