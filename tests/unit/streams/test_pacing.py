"""A pace is kept by whoever takes, and time that nobody used is not saved up."""

from dataclasses import dataclass, field

import pytest

from foretaste.kernel.errors import InvalidInput
from streams.pacing import Pace


@dataclass
class Time:
    now: float = 100.0
    slept: list[float] = field(default_factory=list)

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


async def test_the_first_waits_for_nobody_and_the_next_for_those_before() -> None:
    time = Time()
    pace = Pace(10.0, clock=lambda: time.now, sleep=time.sleep)
    for users in (5, 20, 1, 1):
        await pace.take(users)
    assert time.slept == pytest.approx([0.5, 2.0, 0.1])


async def test_a_pause_earns_no_burst() -> None:
    time = Time()
    pace = Pace(10.0, clock=lambda: time.now, sleep=time.sleep)
    await pace.take(10)
    time.now += 60
    await pace.take(10)
    await pace.take(10)
    assert time.slept == pytest.approx([1.0])


@pytest.mark.parametrize("rate", [0, -1])
def test_a_rate_is_above_zero(rate: float) -> None:
    with pytest.raises(InvalidInput, match="rate"):
        Pace(rate)
