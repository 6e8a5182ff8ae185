"""Bounded log lines of libraries that log on every retry."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from streams.worker.logs import RepeatLimiter, limit_repeats


@dataclass
class Hands:
    """A clock that stands until it is moved."""

    at: float = 0.0

    def __call__(self) -> float:
        return self.at


@pytest.fixture
def noisy() -> Iterator[logging.Logger]:
    logger = logging.getLogger("noisy.part")
    yield logger
    logger.filters.clear()


def test_repeated_lines_are_left_out_and_counted(caplog: pytest.LogCaptureFixture, noisy: logging.Logger) -> None:
    hands = Hands()
    limit_repeats(RepeatLimiter(hands, burst=2, interval=30), ["noisy"])

    def fail(attempt: int) -> None:
        noisy.error("attempt %d failed", attempt)

    for attempt in range(100):
        fail(attempt)
    assert caplog.messages == ["attempt 0 failed", "attempt 1 failed"]
    hands.at += 30
    fail(100)
    assert caplog.messages[2:] == ["attempt 100 failed (98 more like it were left out)"]


def test_other_lines_and_other_loggers_are_not_touched(caplog: pytest.LogCaptureFixture, noisy: logging.Logger) -> None:
    limit_repeats(RepeatLimiter(Hands(), burst=1), ["noisy"])
    for _ in range(3):
        noisy.error("one")
        noisy.error("two")
        logging.getLogger("calm").error("three")
    assert sorted(caplog.messages) == ["one", "three", "three", "three", "two"]


def test_a_second_limiter_takes_the_place_of_the_first(noisy: logging.Logger) -> None:
    limit_repeats(RepeatLimiter(Hands()), ["noisy"])
    second = RepeatLimiter(Hands())
    limit_repeats(second, ["noisy"])
    assert noisy.filters == [second]
