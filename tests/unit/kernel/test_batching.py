"""The batcher: closes on size or on the age of its first member."""

import asyncio
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foretaste.kernel.batching import Batcher, BatchPolicy, BatchQueue
from foretaste.kernel.errors import InvalidInput


@dataclass
class Hands:
    """A clock that stands until it is moved."""

    at: float = 100.0

    def __call__(self) -> float:
        return self.at


def test_closes_on_size() -> None:
    batcher: Batcher[str] = Batcher(BatchPolicy(size=2, age=1.0), Hands())
    assert batcher.add("a") is None
    assert batcher.add("b") == ["a", "b"]
    assert batcher.add("c") is None
    assert batcher.members == ["c"]


def test_closes_on_the_age_of_its_first_member() -> None:
    hands = Hands()
    batcher: Batcher[str] = Batcher(BatchPolicy(size=10, age=1.0), hands)
    batcher.add("a")
    hands.at += 0.75
    batcher.add("b")
    assert batcher.remaining() == pytest.approx(0.25)
    hands.at += 0.25
    assert batcher.remaining() == 0
    assert batcher.close() == ["a", "b"]


def test_the_age_runs_from_arrival_and_not_from_being_added() -> None:
    hands = Hands()
    batcher: Batcher[str] = Batcher(BatchPolicy(size=10, age=1.0), hands)
    batcher.add("waited", arrived_at=hands.at - 5)
    assert batcher.remaining() == 0
    assert batcher.close() == ["waited"]


def test_the_age_starts_anew_with_the_next_batch() -> None:
    hands = Hands()
    batcher: Batcher[str] = Batcher(BatchPolicy(size=10, age=1.0), hands)
    batcher.add("a")
    hands.at += 2
    assert batcher.close() == ["a"]
    assert batcher.remaining() is None
    batcher.add("b")
    assert batcher.remaining() == 1.0


def test_an_empty_one_is_never_due() -> None:
    hands = Hands()
    batcher: Batcher[str] = Batcher(BatchPolicy(size=1, age=0.0), hands)
    hands.at += 1000
    assert batcher.remaining() is None
    assert batcher.close() == []


@given(st.lists(st.integers()), st.integers(min_value=1, max_value=7))
def test_nothing_is_lost_doubled_or_reordered(members: list[int], size: int) -> None:
    batcher: Batcher[int] = Batcher(BatchPolicy(size=size, age=1.0), Hands())
    batches = [batch for member in members if (batch := batcher.add(member)) is not None]
    assert all(len(batch) == size for batch in batches)
    last = batcher.close()
    assert len(last) < size
    assert [each for batch in [*batches, last] for each in batch] == members


@pytest.mark.parametrize(("size", "age", "named"), [(0, 1.0, "batch size"), (1, -0.1, "batch age")])
def test_a_policy_that_cannot_be_is_refused(size: int, age: float, named: str) -> None:
    with pytest.raises(InvalidInput, match=named):
        BatchPolicy(size, age)


def queue(size: int = 4, age: float = 60.0, *, at_once: bool, capacity: int = 0) -> BatchQueue[int]:
    return BatchQueue(BatchPolicy(size, age, at_once), Hands(), capacity)


async def test_at_once_a_batch_closes_where_nothing_follows() -> None:
    waiting = queue(at_once=True)
    waiting.put_nowait(1)
    async with asyncio.timeout(5):
        assert await waiting.take() == [1]


async def test_at_once_takes_all_that_waits() -> None:
    waiting = queue(at_once=True)
    for member in range(6):
        waiting.put_nowait(member)
    assert await waiting.take() == [0, 1, 2, 3]
    assert await waiting.take() == [4, 5]


async def test_at_once_waits_for_what_comes_in_the_same_turn_of_the_loop_until_its_age() -> None:
    hands = Hands()
    waiting: BatchQueue[int] = BatchQueue(BatchPolicy(size=100, age=3.0, at_once=True), hands)

    async def keep_coming() -> None:
        for member in range(10):
            waiting.put_nowait(member)
            hands.at += 1
            await asyncio.sleep(0)

    coming = asyncio.create_task(keep_coming())
    first = await waiting.take()
    await coming
    assert 1 < len(first) < 10
    assert first + await waiting.take() == list(range(10))


async def test_without_it_a_batch_waits_for_its_age() -> None:
    waiting = queue(at_once=False)
    waiting.put_nowait(1)
    taking = asyncio.create_task(waiting.take())
    for _ in range(10):
        await asyncio.sleep(0)
    assert not taking.done()
    waiting.put_nowait(2)
    await waiting.end()
    assert await taking == [1, 2]
    assert waiting.ended


async def test_a_full_queue_has_no_room_until_a_batch_is_taken() -> None:
    waiting = queue(size=2, at_once=True, capacity=2)
    waiting.put_nowait(0)
    waiting.put_nowait(1)
    assert waiting.full
    third = asyncio.create_task(waiting.room())
    await asyncio.sleep(0)
    assert not third.done()
    assert await waiting.take() == [0, 1]
    await third
    waiting.put_nowait(2)
    assert await waiting.take() == [2]
    assert not waiting.full


async def test_the_end_gives_what_is_left() -> None:
    waiting = queue(at_once=True)
    waiting.put_nowait(1)
    await waiting.end()
    assert await waiting.take() == [1]
    assert waiting.ended
