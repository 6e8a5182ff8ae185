"""The benchmarks' runner on contestants whose speed is known, under a clock that they move themselves."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from benchmarks.timing import WARM_UP, Instant, Lap, Stopwatch, TimeLimitReached
from benchmarks.training.batch_hook import watch_batches
from benchmarks.training.rounds import Contestant, Spread, added, ratio, run_rounds, spread
from foretaste.kernel.errors import InvalidInput

BATCHES, ROWS = 10, 100


class FakeClock:
    """Stands still until it is moved; the processor's time passes half as fast."""

    def __init__(self) -> None:
        self.wall = 100.0

    def __call__(self) -> Instant:
        return Instant(self.wall, self.wall / 2)


def runner(clock: FakeClock, seconds: Callable[[], float]) -> Callable[[Stopwatch], None]:
    """Learns `BATCHES` batches of `ROWS` rows; preparing takes 7 s, an uncounted batch 50 s, another `seconds()`."""

    def train(watch: Stopwatch) -> None:
        clock.wall += 7
        pace = seconds()
        for done in range(BATCHES + 1):
            watch.mark(done, float(done * ROWS))
            clock.wall += 50 if done < WARM_UP else pace

    return train


def laps_of(*rates: float) -> list[Lap]:
    return [Lap(batches=1, rows=rate, seconds=1.0, processor_seconds=1.0, before_seconds=0.0) for rate in rates]


def test_a_lap_counts_what_came_after_the_warm_up_and_nothing_before() -> None:
    clock = FakeClock()
    watch = Stopwatch(clock)
    runner(clock, lambda: 2.0)(watch)
    lap = watch.lap()
    counted = BATCHES - WARM_UP
    assert lap == Lap(counted, counted * ROWS, counted * 2.0, counted * 1.0, 7.0)
    assert lap.rows_per_second == ROWS / 2
    assert lap.rows_per_processor_second == ROWS


def test_a_run_ends_at_its_limit_and_what_was_counted_stands() -> None:
    clock = FakeClock()
    laps = run_rounds([Contestant("one", "dnn", runner(clock, lambda: 2.0))], 2, clock=clock, limit=6.0)
    assert [(lap.batches, lap.seconds) for lap in laps["one dnn"]] == [(3, 6.0), (3, 6.0)]


def test_the_limit_is_raised_out_of_the_trainer() -> None:
    clock = FakeClock()
    watch = Stopwatch(clock, limit=6.0)
    with pytest.raises(TimeLimitReached):
        runner(clock, lambda: 2.0)(watch)


@pytest.mark.parametrize("batches", [0, 1, WARM_UP + 1])
def test_too_few_batches_are_refused(batches: int) -> None:
    watch = Stopwatch(FakeClock())
    for done in range(batches):
        watch.mark(done, float(done))
    with pytest.raises(InvalidInput, match="rows"):
        watch.lap()


def test_everyone_runs_once_a_round_and_nobody_always_first() -> None:
    clock, order = FakeClock(), []

    def named(name: str) -> Contestant:
        def train(watch: Stopwatch) -> None:
            order.append(name)
            runner(clock, lambda: 1.0)(watch)

        return Contestant(name, "din", train)

    laps = run_rounds([named("a"), named("b"), named("c")], 4, clock=clock)
    assert "".join(order) == "abcbcacababc"
    assert {name: len(found) for name, found in laps.items()} == {"a din": 4, "b din": 4, "c din": 4}


def test_a_ratio_is_taken_round_by_round() -> None:
    """A machine that slows to a tenth in one round leaves each ratio as it was: a ratio of medians would not be."""
    laps = {"ours": laps_of(300, 30, 600), "theirs": laps_of(100, 10, 100)}
    assert ratio(laps, "ours", "theirs") == Spread(3.0, 3.0, 6.0)
    assert ratio(laps, "ours", "theirs", lambda lap: lap.rows**2) == Spread(9.0, 9.0, 36.0)
    assert ratio(laps, "theirs", "ours") == Spread(1 / 3, 1 / 6, 1 / 3)


def test_what_a_part_adds_is_time_for_the_same_rows() -> None:
    laps = {"whole": laps_of(100, 80, 50), "part": laps_of(125, 80, 100)}
    assert added(laps, "whole", "part", 1000.0) == Spread(0.25, 0.0, 1.0)


def test_what_is_done_before_the_first_batch_is_part_of_what_is_added() -> None:
    fitted = Lap(batches=1, rows=100.0, seconds=1.0, processor_seconds=1.0, before_seconds=5.0)
    assert added({"whole": [fitted], "part": laps_of(100)}, "whole", "part", 1000.0) == Spread(0.5, 0.5, 0.5)


def test_the_median_of_an_even_number_lies_between_the_middle_two() -> None:
    assert spread([4.0, 1.0, 3.0, 10.0]) == Spread(3.5, 1.0, 10.0)


def test_rounds_that_do_not_match_are_an_error() -> None:
    with pytest.raises(ValueError, match="zip"):
        ratio({"ours": laps_of(1, 2), "theirs": laps_of(1)}, "ours", "theirs")


def test_a_model_is_watched_from_outside() -> None:
    """The n-th time that a model reads, n - 1 batches have been learned from."""
    clock = FakeClock()
    watch = Stopwatch(clock, warm_up=1)
    model = nn.Linear(2, 1)
    watch_batches(model, ROWS, watch)
    for _ in range(4):
        clock.wall += 5
        model(torch.zeros(3, 2))
    lap = watch.lap()
    assert (lap.batches, lap.rows, lap.seconds, lap.before_seconds) == (2, 2 * ROWS, 10.0, 5.0)
