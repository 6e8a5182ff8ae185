"""The clock that bounds the times of events."""

from foretaste.kernel.events import Origin, event_time_ms
from foretaste.kernel.running.steady_clock import SteadyClock


class Clocks:
    """A wall clock that can be set, and one that only passes."""

    def __init__(self) -> None:
        self.passed, self.off = 0.0, 1_700_000_000.0
        self.steady = SteadyClock(lambda: self.off + self.passed, lambda: self.passed)


def test_it_goes_on_where_the_wall_clock_is_set_back() -> None:
    clocks = Clocks()
    assert clocks.steady() == 1_700_000_000
    clocks.off -= 3600
    assert clocks.steady() == 1_700_000_000
    clocks.passed += 5
    assert clocks.steady() == 1_700_000_005
    clocks.off += 3600
    assert clocks.steady() == 1_700_000_005


def test_it_follows_a_wall_clock_that_is_set_forward() -> None:
    clocks = Clocks()
    clocks.off += 3600
    assert clocks.steady() == 1_700_003_600
    clocks.off -= 3600
    clocks.passed += 1
    assert clocks.steady() == 1_700_003_601


def test_an_event_keeps_its_time_where_the_readers_clock_is_set_back() -> None:
    clocks = Clocks()
    at_ms = round(1000 * clocks.steady())
    clocks.off -= 3600
    origin = Origin("user-behaved", 0, 1, at_ms)
    assert event_time_ms(at_ms, origin, round(1000 * clocks.steady())) == at_ms
