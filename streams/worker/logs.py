"""Log lines in bounded number: a part that stays away for an hour is a few lines, not thousands."""

import logging
from collections.abc import Iterable
from dataclasses import dataclass, field

from foretaste.kernel.ports import Clock

NOISY = ("aiokafka", "faust", "mode")
"""The libraries that log on every retry: aiokafka two lines a retry, hundreds within seconds of a lost broker."""


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
