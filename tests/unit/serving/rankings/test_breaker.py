"""A part that hangs is left alone for a moment."""

import asyncio
from dataclasses import dataclass, field

import pytest

from foretaste.kernel.errors import InvalidInput, Unavailable
from serving.rankings.breaker import PartBreaker

SOON = 0.011
"""Seconds, real ones: as few as count."""


@dataclass
class Hands:
    """A clock that stands until it is moved, and a breaker that goes by it."""

    at: float = 0.0
    made: int = 0
    breaker: PartBreaker = field(init=False)

    def __post_init__(self) -> None:
        self.breaker = PartBreaker("redis", lambda: self.at)

    async def call(self, seconds: float = SOON, *, hangs: bool = False) -> None:
        async with self.breaker.within(seconds):
            self.made += 1
            if hangs:
                await asyncio.Event().wait()

    async def late(self) -> None:
        with pytest.raises(Unavailable, match=r"redis is not available: no answer within 0\.011 s"):
            await self.call(hangs=True)

    async def left_alone(self) -> None:
        made = self.made
        with pytest.raises(Unavailable, match="left alone for a moment"):
            await self.call()
        assert self.made == made


@pytest.fixture
def hands() -> Hands:
    return Hands()


async def test_one_late_answer_is_nobodys_fault(hands: Hands) -> None:
    for _ in range(5):
        await hands.late()
        await hands.call()
    assert hands.made == 10


async def test_after_two_in_a_row_it_is_left_alone_and_tried_again_after_a_pause(hands: Hands) -> None:
    await hands.late()
    await hands.late()
    await hands.left_alone()
    hands.at = 0.49
    await hands.left_alone()
    hands.at = 0.5
    await hands.call()
    await hands.call()


async def test_each_trial_that_fails_doubles_the_pause_up_to_the_longest(hands: Hands) -> None:
    await hands.late()
    pauses = []
    for _ in range(6):
        await hands.late()
        opened = hands.at
        while True:
            hands.at += 0.25
            if hands.breaker._open_until is not None and hands.at >= hands.breaker._open_until:
                break
            await hands.left_alone()
        pauses.append(hands.at - opened)
    assert pauses == [0.5, 1.0, 2.0, 4.0, 5.0, 5.0]
    await hands.call()
    await hands.late()
    await hands.late()
    hands.at += 0.5
    await hands.call()


async def test_one_call_at_a_time_is_a_trial(hands: Hands) -> None:
    await hands.late()
    await hands.late()
    hands.at = 0.5
    trial = asyncio.create_task(hands.call(10.0, hangs=True))
    await asyncio.sleep(0)
    await hands.left_alone()
    trial.cancel()
    await asyncio.wait({trial})
    await hands.call()


async def test_a_refusal_costs_no_time_and_opens_nothing(hands: Hands) -> None:
    for _ in range(5):
        for error in (Unavailable("redis", "connection refused"), InvalidInput("x", 1, "wrong")):
            with pytest.raises(type(error)):
                async with hands.breaker.within(SOON):
                    raise error
    await hands.call()


async def test_a_call_that_comes_too_late_says_nothing_of_the_part(hands: Hands) -> None:
    for _ in range(5):
        with pytest.raises(Unavailable, match="no time is left"):
            await hands.call(0.0)
        with pytest.raises(Unavailable, match="no answer within"):
            await hands.call(0.001, hangs=True)
    await hands.call()


async def test_calls_that_hang_at_one_time_are_one_stall(hands: Hands) -> None:
    """Their pause is the first one, however many they were."""
    begun = [asyncio.create_task(hands.call(hangs=True)) for _ in range(100)]
    await asyncio.sleep(0)
    hands.at = 1.0
    await asyncio.wait(begun)
    assert {type(each.exception()) for each in begun} == {Unavailable}
    await hands.call()
    await hands.late()
    await hands.late()
    hands.at += 0.5
    await hands.call()


async def test_a_part_that_is_late_by_its_own_timeout_is_late(hands: Hands) -> None:
    for _ in range(2):
        with pytest.raises(Unavailable, match="its own"):
            async with hands.breaker.within(10.0):
                raise Unavailable("redis", "its own timeout") from TimeoutError()
    await hands.left_alone()


async def test_a_refusal_between_late_answers_is_an_answer(hands: Hands) -> None:
    for _ in range(3):
        await hands.late()
        with pytest.raises(InvalidInput):
            async with hands.breaker.within(SOON):
                raise InvalidInput("x", 1, "wrong")
    await hands.call()
