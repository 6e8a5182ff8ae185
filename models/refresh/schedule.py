"""When a repeated run begins: every so often, or as a cron expression says."""

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from croniter import croniter

from foretaste.kernel.errors import InvalidInput

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


class Schedule(Protocol):
    """Tells when the next run is due."""

    def after(self, started: datetime, now: datetime) -> datetime:
        """The next run, given when the last one began; never before `now`: what was missed is not made up for."""
        ...


@dataclass(frozen=True, slots=True)
class Every:
    """A run each `interval`, counted from the beginning of the last one."""

    interval: timedelta

    @classmethod
    def parse(cls, text: str) -> "Every":
        """From "90s", "30m", "6h" or "1d". Raises `InvalidInput` for anything else."""
        found = re.fullmatch(r"(\d+)([smhd])", text.strip(), re.ASCII)
        if found is None or not int(found[1]):
            raise InvalidInput("every", text, "expected a number of s, m, h or d, such as 6h")
        return cls(timedelta(seconds=int(found[1]) * _UNITS[found[2]]))

    def after(self, started: datetime, now: datetime) -> datetime:
        return max(started + self.interval, now)


@dataclass(frozen=True, slots=True)
class Cron:
    """Runs as a cron expression of five fields says, in the time zone of `now`."""

    expression: str

    @classmethod
    def parse(cls, text: str) -> "Cron":
        """Raises `InvalidInput` for what is no cron expression."""
        if not croniter.is_valid(text):
            raise InvalidInput("cron", text, "expected a cron expression, such as '0 */6 * * *'")
        return cls(text)

    def after(self, started: datetime, now: datetime) -> datetime:
        found: datetime = croniter(self.expression, max(started, now)).get_next(datetime)
        return found
