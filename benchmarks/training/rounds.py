"""Several trainings timed side by side in interleaved rounds, and the ratios between them."""

import contextlib
import gc
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from benchmarks.timing import Clock, Lap, Stopwatch, TimeLimitReached, now

Train: TypeAlias = Callable[[Stopwatch], None]
"""Builds a new model and trains it once, marking each batch on the stopwatch."""
Rate: TypeAlias = Callable[[Lap], float]
Laps: TypeAlias = Mapping[str, Sequence[Lap]]
"""By the name of the contestant, one lap a round."""


@dataclass(frozen=True, slots=True)
class Contestant:
    """One model of one library, and the function that trains it."""

    library: str
    model: str
    train: Train

    @property
    def name(self) -> str:
        return f"{self.library} {self.model}"


@dataclass(frozen=True, slots=True)
class Spread:
    """A figure over the rounds: its median, and the lowest and highest round."""

    median: float
    low: float
    high: float


def spread(values: Sequence[float]) -> Spread:
    return Spread(statistics.median(values), min(values), max(values))


def run_rounds(
    contestants: Sequence[Contestant],
    rounds: int,
    *,
    clock: Clock = now,
    limit: float = math.inf,
    progress: Callable[[str, int], None] = lambda _name, _round: None,
) -> dict[str, list[Lap]]:
    """Train every contestant once a round; return their laps by name. A run ends after `limit` counted seconds.

    All contestants run once before any runs again, so that a busy spell of the machine meets all alike. Each round
    begins one contestant later than the round before, so that none always follows the same one.
    """
    laps: dict[str, list[Lap]] = {each.name: [] for each in contestants}
    for number in range(rounds):
        turn = number % len(contestants)
        for contestant in [*contestants[turn:], *contestants[:turn]]:
            progress(contestant.name, number + 1)
            gc.collect()  # garbage of the run before is not a cost of this run
            watch = Stopwatch(clock, limit=limit)
            with contextlib.suppress(TimeLimitReached):
                contestant.train(watch)
            laps[contestant.name].append(watch.lap())
    return laps


def per_second(lap: Lap) -> float:
    """Rows a second by the clock on the wall."""
    return lap.rows_per_second


def per_processor_second(lap: Lap) -> float:
    """Rows a second of processor time."""
    return lap.rows_per_processor_second


def ratio(laps: Laps, ours: str, theirs: str, rate: Rate = per_second) -> Spread:
    """The rate of `ours` ÷ that of `theirs`, round by round."""
    pairs = zip(laps[ours], laps[theirs], strict=True)
    return spread([rate(one) / rate(other) for one, other in pairs])


def added(laps: Laps, whole: str, part: str, rows: float) -> Spread:
    """How much longer `whole` takes than `part` for an epoch of `rows`, as a share of `part`'s time, round by round.

    The time before the first batch counts on both sides: a zero-shot tower that is fitted is fitted there.
    """

    def seconds(lap: Lap) -> float:
        return lap.before_seconds + rows / per_second(lap)

    pairs = zip(laps[whole], laps[part], strict=True)
    return spread([seconds(one) / seconds(other) - 1 for one, other in pairs])
