"""A stopwatch for training runs: it times the batches after the warm-up, from outside the trainer."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from foretaste.kernel.errors import InvalidInput

WARM_UP = 3
"""Batches of every run that are not counted: the first ones fill caches and the allocator."""


class Instant(NamedTuple):
    """A reading of two clocks, in seconds: the clock on the wall, and the processor time of this process."""

    wall: float
    processor: float


class TimeLimitReached(Exception):
    """Raised out of a trainer by the stopwatch whose limit is reached."""


Clock: TypeAlias = Callable[[], Instant]


def now() -> Instant:
    return Instant(time.perf_counter(), time.process_time())


@dataclass(frozen=True, slots=True)
class Lap:
    """The time of one training run."""

    batches: int
    """Number of counted batches."""
    rows: float
    """Rows of the counted batches."""
    seconds: float
    """Of the counted batches, by the clock on the wall."""
    processor_seconds: float
    """Of the counted batches, over all threads of this process."""
    before_seconds: float
    """From the call of the trainer to the first mark: preparing, and building the model. Not counted."""

    @property
    def rows_per_second(self) -> float:
        return self.rows / self.seconds

    @property
    def rows_per_processor_second(self) -> float:
        """Rows a second of processor time, which a busy machine disturbs least; spinning threads count as working."""
        return self.rows / self.processor_seconds


class Stopwatch:
    """Starts when it is made; a trainer's hook marks how far the training is. One stopwatch a run.

    `limit`: counted seconds after which a mark ends the run by raising `TimeLimitReached`.
    """

    def __init__(self, clock: Clock = now, *, warm_up: int = WARM_UP, limit: float = math.inf) -> None:
        self._clock = clock
        self._warm_up = warm_up
        self._limit = limit
        self._start = clock()
        self._first_mark: Instant | None = None
        self._from: tuple[int, float, Instant] | None = None
        self._to: tuple[int, float, Instant] | None = None

    def mark(self, batches: int, rows: float) -> None:
        """`batches` with `rows` rows have been learned from, since training began. May raise `TimeLimitReached`."""
        instant = self._clock()
        self._first_mark = self._first_mark or instant
        if batches < self._warm_up:
            return
        self._from = self._from or (batches, rows, instant)
        self._to = (batches, rows, instant)
        if instant.wall - self._from[2].wall >= self._limit:
            raise TimeLimitReached

    def lap(self) -> Lap:
        """The time from the end of the warm-up to the last mark. Raises `InvalidInput` where no batch came after it."""
        if self._first_mark is None or self._from is None or self._to is None or self._to[0] == self._from[0]:
            raise InvalidInput(
                "rows", 0 if self._to is None else self._to[1], f"no batch after {self._warm_up} to time"
            )
        (batches, rows, begin), (last, all_rows, end) = self._from, self._to
        return Lap(
            batches=last - batches,
            rows=all_rows - rows,
            seconds=end.wall - begin.wall,
            processor_seconds=end.processor - begin.processor,
            before_seconds=self._first_mark.wall - self._start.wall,
        )
