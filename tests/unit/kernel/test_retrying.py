"""The retry policy: what is tried again, how long the pauses are, and how few lines tell of it."""

from dataclasses import dataclass, field

import pytest

from foretaste.kernel.errors import ForetasteError, InvalidInput, Unavailable
from foretaste.kernel.retrying import FailureStreak, until_it_succeeds


@dataclass
class Hands:
    """A clock that stands until it is moved."""

    at: float = 0.0

    def __call__(self) -> float:
        return self.at


@dataclass
class Call:
    """Raises what it is given, one after the other, and then answers."""

    errors: list[Exception]
    slept: list[float] = field(default_factory=list)
    calls: int = 0

    async def __call__(self, answer: str) -> str:
        self.calls += 1
        if self.calls <= len(self.errors):
            raise self.errors[self.calls - 1]
        return answer

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)


async def test_what_may_succeed_later_is_tried_until_it_does() -> None:
    call = Call([Unavailable("kafka", "away")] * 50)
    assert await until_it_succeeds(longest=2.0, sleep=call.sleep)(call, "done") == "done"
    assert (call.calls, len(call.slept)) == (51, 50)
    assert all(0 <= pause <= min(2.0, 0.1 * 2**each) for each, pause in enumerate(call.slept))
    assert max(call.slept) > 0.5, "they grow"


@pytest.mark.parametrize(
    "error", [InvalidInput("field", 1, "is wrong"), ForetasteError("for good"), TypeError("defect")]
)
async def test_any_other_error_is_raised_at_once(error: Exception) -> None:
    call = Call([error])
    with pytest.raises(type(error)):
        await until_it_succeeds(longest=2.0, sleep=call.sleep)(call, "done")
    assert (call.calls, call.slept) == (1, [])


async def test_the_errors_of_a_library_are_named() -> None:
    call = Call([OSError("reset")])
    assert await until_it_succeeds(longest=2.0, also=(OSError,), sleep=call.sleep)(call, "done") == "done"


def test_a_streak_is_a_line_at_its_begin_now_and_then_and_at_its_end(caplog: pytest.LogCaptureFixture) -> None:
    hands = Hands()
    streak = FailureStreak("sign-up", hands, interval=30)
    for _ in range(700):
        streak.failed(ValueError("away"))
        hands.at += 0.1
    streak.over()
    assert [message.split(":")[1].strip()[:13] for message in caplog.messages] == [
        "away; trying ",
        "still failing",
        "still failing",
        "over after 70",
    ]


def test_success_without_a_streak_says_nothing(caplog: pytest.LogCaptureFixture) -> None:
    FailureStreak("sign-up", Hands()).over()
    assert caplog.messages == []


def test_the_next_streak_is_told_anew(caplog: pytest.LogCaptureFixture) -> None:
    streak = FailureStreak("sign-up", Hands())
    for _ in range(2):
        streak.failed(ValueError("away"))
        streak.over()
    assert len(caplog.messages) == 4
