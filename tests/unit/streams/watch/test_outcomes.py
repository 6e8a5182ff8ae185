"""Impressions that are followed until they are acted on or their time is over."""

from itertools import pairwise

import pytest

from foretaste.kernel.users import Stage
from streams.watch.outcomes import ImpressionOutcome, OpenImpressions


def followed(most: int = 100) -> OpenImpressions:
    return OpenImpressions(seconds=60, most=most)


def test_an_act_within_the_time_counts_and_a_later_one_does_not() -> None:
    waiting = followed()
    waiting.shown("ada", ("a", "b", "c"), (0.9, 0.5, 0.1), stage=Stage.WARMING, at=100)
    waiting.acted("ada", "a", at=100)
    waiting.acted("ada", "b", at=160)
    waiting.acted("ada", "c", at=99.9)
    waiting.acted("bob", "c", at=110)
    waiting.acted("ada", "other", at=110)
    assert list(waiting.settled(159.9)) == []
    assert list(waiting.settled(160)) == [
        ImpressionOutcome(Stage.WARMING, 0.9, 100, acted=True),
        ImpressionOutcome(Stage.WARMING, 0.5, 100, acted=False),
        ImpressionOutcome(Stage.WARMING, 0.1, 100, acted=False),
    ]
    assert list(waiting.settled(1000)) == []


def test_an_act_counts_for_the_newest_impression() -> None:
    waiting = followed()
    assert waiting.shown("ada", ("a",), (0.9,), Stage.COLD, at=100) == []
    assert waiting.shown("ada", ("a",), (0.8,), Stage.COLD, at=110) == [
        ImpressionOutcome(Stage.COLD, 0.9, 100, acted=False)
    ]
    waiting.acted("ada", "a", at=111)
    assert list(waiting.settled(170)) == [ImpressionOutcome(Stage.COLD, 0.8, 110, acted=True)]


@pytest.mark.parametrize("gap", [0.0, 0.01, 0.3, 5.0])
def test_memory_is_bounded_and_the_pace_even(gap: float) -> None:
    waiting, taken, at = followed(most=50), [], 1000.0
    for number in range(3000):
        before = len(waiting)
        waiting.shown(f"user {number}", ("a", "b"), (0.5, 0.5), Stage.COLD, at)
        if len(waiting) > before:
            taken.append(at)
        assert len(waiting) <= 50
        at += gap
        list(waiting.settled(at))
    pace = 2 * 60 / 50  # seconds a ranking of two items
    assert all(later - earlier >= pace - 1e-6 for earlier, later in pairwise(taken))
    if gap >= pace:
        assert len(taken) == 3000, "there is room for all"
    else:
        assert len(taken) == pytest.approx(3000 * gap / pace, abs=3000 * gap / pace * 0.2 + 2)


def test_impressions_of_an_erased_user_are_never_told() -> None:
    waiting = OpenImpressions(10.0, 100)
    waiting.shown("anna", ("a",), (0.5,), Stage.COLD, 0.0)
    waiting.shown("ben", ("b",), (0.25,), Stage.COLD, 2.0)
    waiting.forget("anna")
    assert [each.score for each in waiting.settled(100.0)] == [0.25]
