"""Log lines in bounded number: a part that stays away for an hour is a few lines, not thousands."""

import logging
from collections.abc import Iterable
from dataclasses import dataclass, field

from tenacity import RetryCallState

from foretaste.kernel.ports import Clock

log = logging.getLogger(__name__)

NOISY = ("aiokafka", "faust", "mode")
"""The libraries that log on every retry: aiokafka two lines a retry, hundreds within seconds of a lost broker."""


@dataclass(slots=True)
class FailureStreak:
    """Failures in a row of one thing: a line at the first, one each `interval` seconds, and one when it is over."""

    name: str
    clock: Clock
    interval: float = 30.0
    failures: int = 0
    began_at: float = 0.0
    logged_at: float = 0.0

    def note(self, state: RetryCallState) -> None:
        """What tenacity calls before it sleeps."""
        error = state.outcome.exception() if state.outcome is not None else None
        if error is not None:
            self.failed(error)

    def failed(self, error: BaseException) -> None:
        now = self.clock()
        self.failures += 1
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
            self.failures = 0


@dataclass(slots=True)
class _Window:
    began_at: float
    passed: int = 0
    left_out: int = 0


@dataclass(eq=False)
class RepeatLimiter(logging.Filter):
    """Lets `burst` records of one line of code through in each `interval` seconds, and says how many it left out.

    Records are told apart by logger and source line, since messages differ in ports and attempts.
    """

    clock: Clock
    burst: int = 3
    interval: float = 30.0
    windows: dict[tuple[str, str, int], _Window] = field(default_factory=dict)

    def filter(self, record: logging.LogRecord) -> bool:
        now = self.clock()
        key = (record.name, record.pathname, record.lineno)
        window = self.windows.get(key)
        if window is None or now - window.began_at >= self.interval:
            if window is not None and window.left_out:
                record.msg = f"{record.getMessage()} ({window.left_out} more like it were left out)"
                record.args = ()
            window = self.windows[key] = _Window(now)
        if window.passed < self.burst:
            window.passed += 1
            return True
        window.left_out += 1
        return False


def limit_repeats(limiter: RepeatLimiter, libraries: Iterable[str] = NOISY) -> None:
    """Put `limiter` on every logger of the libraries, in place of an earlier one.

    A logger's filters are not asked about what its children log, so each logger that exists by now gets it: call this
    once the libraries are imported.
    """
    prefixes = tuple(libraries)
    for name in list(logging.root.manager.loggerDict):
        if name.split(".", 1)[0] in prefixes:
            logger = logging.getLogger(name)
            for earlier in [each for each in logger.filters if isinstance(each, RepeatLimiter)]:
                logger.removeFilter(earlier)
            logger.addFilter(limiter)
