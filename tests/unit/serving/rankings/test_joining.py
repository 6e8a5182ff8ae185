"""Requests that come together are answered together; one that comes alone waits for nothing."""

import asyncio
from collections.abc import Sequence

import pytest

from serving.rankings.joining import Joined


class Answers:
    """Doubles numbers once its gate is open; notes each group and since when it waits: a number is its time."""

    def __init__(self) -> None:
        self.groups: list[list[int]] = []
        self.times: list[float] = []
        self.gate = asyncio.Event()
        self.refused: int | None = None

    async def __call__(self, numbers: Sequence[int], asked_at: float) -> list[int]:
        self.groups.append(list(numbers))
        self.times.append(asked_at)
        await self.gate.wait()
        if self.refused in numbers:
            raise ValueError("chosen by the test")
        return [2 * number for number in numbers]


async def test_one_alone_is_asked_at_once() -> None:
    answers = Answers()
    joined = Joined(answers)
    asked = asyncio.create_task(joined.ask(1, 1))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert answers.groups == [[1]]
    answers.gate.set()
    assert await asked == 2


async def test_those_that_come_meanwhile_make_the_next_groups() -> None:
    answers = Answers()
    joined = Joined(answers, most=3, at_once=2)
    asked = [asyncio.create_task(joined.ask(number, number)) for number in range(9)]
    for _ in range(3):
        await asyncio.sleep(0)
    assert answers.groups == [[0], [1]]
    answers.gate.set()
    assert await asyncio.gather(*asked) == [2 * number for number in range(9)]
    assert answers.groups == [[0], [1], [2, 3, 4], [5, 6, 7], [8]]
    assert answers.times == [0, 1, 2, 5, 8]


async def test_what_an_answer_raises_its_group_raises_and_no_other() -> None:
    answers = Answers()
    joined = Joined(answers, at_once=1)
    first = asyncio.create_task(joined.ask(1, 1))
    await asyncio.sleep(0)
    later = [asyncio.create_task(joined.ask(number, number)) for number in (2, 3)]
    await asyncio.sleep(0)
    answers.refused = 1
    answers.gate.set()
    with pytest.raises(ValueError, match="chosen"):
        await first
    assert await asyncio.gather(*later) == [4, 6]


async def test_one_that_is_cancelled_takes_nothing_from_the_others() -> None:
    answers = Answers()
    joined = Joined(answers, at_once=1)
    tasks = [asyncio.create_task(joined.ask(number, number)) for number in range(4)]
    await asyncio.sleep(0)
    tasks[2].cancel()
    answers.gate.set()
    assert await asyncio.gather(*(tasks[at] for at in (0, 1, 3))) == [0, 2, 6]
    assert tasks[2].cancelled()


async def test_one_alone_that_is_cancelled_leaves_its_place_to_those_that_wait() -> None:
    answers = Answers()
    joined = Joined(answers, at_once=1)
    tasks = [asyncio.create_task(joined.ask(number, number)) for number in range(3)]
    await asyncio.sleep(0)
    tasks[0].cancel()
    answers.gate.set()
    assert await asyncio.gather(*tasks[1:]) == [2, 4]
    assert answers.groups == [[0], [1, 2]]


async def test_a_group_whose_task_is_cancelled_leaves_nobody_waiting() -> None:
    answers = Answers()
    joined = Joined(answers, at_once=1)
    first, *others = [asyncio.create_task(joined.ask(number, number)) for number in range(3)]
    await asyncio.sleep(0)
    first.cancel()
    for _ in range(3):
        await asyncio.sleep(0)
    (group,) = joined._groups
    group.cancel()
    for each in others:
        with pytest.raises(asyncio.CancelledError):
            await each


async def test_its_groups_end_with_the_router_that_asks_it() -> None:
    answers = Answers()
    joined = Joined(answers, most=1, at_once=1)
    async with joined.lifespan(None):
        first, *others = [asyncio.create_task(joined.ask(number, number)) for number in range(3)]
        await asyncio.sleep(0)
        first.cancel()  # as a server does with what it still answers
        await asyncio.wait({first})
    await asyncio.wait(others)
    assert all(each.cancelled() for each in others)
    assert asyncio.all_tasks() == {asyncio.current_task()}
