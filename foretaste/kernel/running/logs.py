"""Log lines of every process: one form, an id of what a line is about, and in bounded number."""

import logging
import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import Context, ContextVar
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TextIO

from foretaste.kernel.ports import Clock

OURS = ("features", "foretaste", "models", "serving", "streams")
"""The first names of our own loggers: they write from INFO on, libraries from WARNING on."""
_ABOUT: ContextVar[str] = ContextVar("about", default="")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


@contextmanager
def about(subject: str) -> Iterator[None]:
    """What is logged inside is about that: the id of a request, or the place that an event was read from."""
    token = _ABOUT.set(subject)
    try:
        yield
    finally:
        _ABOUT.reset(token)


def about_nothing() -> Context:
    """The context of a task that outlives the request in which it begins: its lines are not about that."""
    return Context()


class LineFormatter(logging.Formatter):
    """`2026-01-31T12:00:00.123Z WARNING streams.worker.collector [user-registered/3@17] message`.

    What comes from outside cannot begin a line or steer a terminal: control characters stand as their escapes. The
    traceback of a defect follows its line.
    """

    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created, UTC).strftime("%Y-%m-%dT%H:%M:%S")
        subject = _ABOUT.get()
        message = _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", record.getMessage())
        within = f" [{_CONTROL.sub('?', subject)}]" if subject else ""
        line = f"{at}.{int(record.msecs):03d}Z {record.levelname} {record.name}{within} {message}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


@dataclass(slots=True)
class _Window:
    began_at: float
    passed: int = 0
    left_out: int = 0


@dataclass(eq=False)
class RepeatLimiter(logging.Filter):
    """Lets `burst` records of one line of code through in each `interval` seconds, and says how many it left out.

    Records are told apart by logger and source line, since messages differ in ports and attempts. A line of our own
    speaks of several things (each way has its retries), and may come `own_burst` times.
    """

    clock: Clock
    burst: int = 3
    own_burst: int = 20
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
        if window.passed < (self.own_burst if record.name.split(".", 1)[0] in OURS else self.burst):
            window.passed += 1
            return True
        window.left_out += 1
        return False


def write_logs(stream: TextIO | None = None, clock: Clock = time.monotonic) -> None:
    """From here on, all that this process logs goes to standard error (or `stream`) in one form.

    A part that stays away for an hour is a few lines, not thousands. Takes the place of an earlier call.
    """
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(LineFormatter())
    handler.addFilter(RepeatLimiter(clock))
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    for name in OURS:
        logging.getLogger(name).setLevel(logging.INFO)
