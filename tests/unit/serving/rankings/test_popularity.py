"""What is kept of the popularity of items, and when Redis is asked for it."""

import asyncio

import pytest

from foretaste.kernel.errors import Unavailable
from serving.rankings import popularity as module
from serving.rankings.popularity import KnownPopularity
from tests.serving_parts import KnownGenerations, generation

SHARES = {"a": 0.5, "b": 0.25, "c": 0.125}


@pytest.fixture
async def generations() -> KnownGenerations:
    made = KnownGenerations()
    await made.record(generation(1), SHARES)
    return made


async def until_known(known: KnownPopularity, number: int) -> None:
    for _ in range(50):
        if known.of(number) is not None:
            return
        await asyncio.sleep(0)
    raise AssertionError(f"{number} was not brought")


async def test_what_was_brought_needs_no_redis(generations: KnownGenerations) -> None:
    known = KnownPopularity(generations)
    assert await known.shares_of(["c", "new", "a"], 1, 1.0) == [0.125, None, 0.5]
    await known.bring(1)
    generations.away = True
    assert await known.shares_of(["c", "new", "a"], 1, 0.0) == [0.125, None, 0.5]
    assert await known.most_popular(1, 0.0) == ["a", "b", "c"]


async def test_without_redis_and_memory_nothing_is_known(generations: KnownGenerations) -> None:
    known, generations.away = KnownPopularity(generations), True
    with pytest.raises(Unavailable, match="redis"):
        await known.shares_of(["a"], 1, 1.0)
    with pytest.raises(Unavailable, match="redis"):
        await known.most_popular(1, 1.0)


async def test_what_is_asked_for_is_brought_behind_the_answers(generations: KnownGenerations) -> None:
    known = KnownPopularity(generations)
    running = asyncio.create_task(known.run())
    assert known.of(1) is None
    await until_known(known, 1)
    await generations.record(generation(2), {"d": 1.0})
    assert known.of(2) is None
    await until_known(known, 2)
    await generations.record(generation(3), {"e": 1.0})
    await until_known(known, 3)
    assert [number for number in (1, 2, 3) if known.of(number) is not None] == [2, 3]
    running.cancel()
    await asyncio.wait({running})


async def test_of_a_large_catalogue_redis_is_asked_and_memory_is_what_is_left(
    generations: KnownGenerations, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_KEPT", 2)
    known = KnownPopularity(generations)
    monkeypatch.setattr(module, "MOST_POPULAR", 2)
    await known.bring(1)
    assert await known.shares_of(["a", "c"], 1, 1.0) == [0.5, 0.125]
    generations.away = True
    assert await known.shares_of(["a", "c"], 1, 1.0) == [0.5, None]
