"""What every `Generations` does: the in-memory form and Redis, alone and as a cluster."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from uuid import uuid4

import numpy as np
import pytest

from features.generations import RedisGenerations
from features.memory import InMemoryGenerations
from features.redis_address import RedisAddress
from foretaste.contracts import Generation
from foretaste.errors import InvalidInput
from foretaste.ports import Generations
from tests.integration.redis_server import valkey

ONE = Generation(
    number=1,
    warm_after=3,
    attributes={"age": "categorical", "income": "numeric"},
    context={"hour": "numeric"},
    mean_virtual=np.array([[0.1, -0.2, 3e-8], [1.0, 2.0, 3.0]], np.float32),
    created_at="2026-01-01T00:00:00Z",
    metrics={"auc": 0.71, "gauc": float("nan")},
)
SHARES = {"i1": 0.25, "ünï": 1e-7}


@pytest.fixture(scope="module")
def cluster_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with valkey(tmp_path_factory.mktemp("cluster"), cluster=True) as server:
        yield server.url


@pytest.fixture(params=["memory", "redis", "cluster"])
async def generations(request: pytest.FixtureRequest) -> AsyncIterator[Generations]:
    if request.param == "memory":
        yield InMemoryGenerations()
        return
    cluster = request.param == "cluster"
    url = request.getfixturevalue("cluster_url" if cluster else "redis_url")
    stored = RedisGenerations(RedisAddress.parse(url, cluster=cluster), prefix=f"test-{uuid4().hex}", timeout=10)
    yield stored
    await stored.close()


async def test_before_the_first_there_is_none(generations: Generations) -> None:
    assert await generations.active() is None
    assert await generations.get(1) is None
    assert await generations.popularity(1, ["i1"]) == [None]


async def test_a_record_is_read_back_whole(generations: Generations) -> None:
    await generations.record(ONE, SHARES)
    stored = await generations.get(1)
    assert stored is not None
    np.testing.assert_array_equal(stored.mean_virtual, ONE.mean_virtual)
    assert stored.mean_virtual.dtype == np.float32
    assert stored.virtual_shape == (2, 3)
    assert np.isnan(stored.metrics["gauc"])
    same = replace(stored, mean_virtual=ONE.mean_virtual, metrics=ONE.metrics)
    assert same == ONE


async def test_recording_does_not_activate(generations: Generations) -> None:
    await generations.record(ONE, SHARES)
    assert await generations.active() is None


async def test_recording_the_same_again_changes_nothing(generations: Generations) -> None:
    await generations.record(ONE, SHARES)
    await generations.activate(1, None)
    await generations.record(replace(ONE, metrics=dict(reversed(ONE.metrics.items()))), SHARES)
    assert await generations.popularity(1, ["i1", "ünï"]) == [0.25, 1e-7]
    active = await generations.active()
    assert active is not None
    assert active.digest == ONE.digest


@pytest.mark.parametrize(
    "other",
    [
        replace(ONE, created_at="2026-01-01T00:00:01Z"),
        replace(ONE, metrics={"auc": 0.72, "gauc": float("nan")}),
        replace(ONE, mean_virtual=ONE.mean_virtual + np.float32(0.5)),
        replace(ONE, warm_after=5),
    ],
)
async def test_a_number_keeps_the_training_that_it_got_first(generations: Generations, other: Generation) -> None:
    await generations.record(ONE, SHARES)
    with pytest.raises(InvalidInput, match="generation: is taken by another training") as caught:
        await generations.record(other, {"i2": 0.5})
    assert caught.value.value == 1
    stored = await generations.get(1)
    assert stored is not None
    assert stored.digest == ONE.digest
    assert await generations.popularity(1, ["i1", "i2"]) == [0.25, None]


async def test_of_many_trainings_under_one_number_one_is_recorded(generations: Generations) -> None:
    others = [replace(ONE, created_at=f"2026-01-0{day}T00:00:00Z") for day in range(1, 9)]
    answers = await asyncio.gather(
        *[generations.record(other, {other.created_at: 1.0}) for other in others], return_exceptions=True
    )
    (won,) = [other for other, answer in zip(others, answers, strict=True) if answer is None]
    assert sum(isinstance(answer, InvalidInput) for answer in answers) == len(others) - 1
    stored = await generations.get(1)
    assert stored is not None
    assert stored.created_at == won.created_at
    shares = await generations.popularity(1, [other.created_at for other in others])
    assert [share is not None for share in shares] == [other is won for other in others]


async def test_the_highest_number_is_told_in_numbers_whatever_their_order(generations: Generations) -> None:
    assert await generations.highest() == 0
    for number in (2, 10, 9):
        await generations.record(replace(ONE, number=number), {})
    await generations.activate(2, None)
    assert await generations.highest() == 10


async def test_popularity_keeps_the_order_asked(generations: Generations) -> None:
    many = {f"i{n}": n / 10_000 for n in range(2_500)}
    await generations.record(ONE, many | SHARES)
    asked = ["ünï", "i2499", "unknown", "i0"]
    assert await generations.popularity(1, asked) == [1e-7, 0.2499, None, 0.0]
    assert await generations.popularity(1, []) == []


async def test_a_generation_without_popularity_can_be_recorded(generations: Generations) -> None:
    await generations.record(ONE, {})
    assert await generations.popularity(1, ["i1"]) == [None]


async def test_the_pointer_moves_when_it_stands_where_expected(generations: Generations) -> None:
    await generations.record(ONE, SHARES)
    await generations.record(replace(ONE, number=2), SHARES)
    assert await generations.activate(1, None)
    assert await generations.activate(2, 1)
    active = await generations.active()
    assert active is not None
    assert active.number == 2


@pytest.mark.parametrize("expected", [None, 2, 7])
async def test_the_pointer_stays_when_it_stands_elsewhere(generations: Generations, expected: int | None) -> None:
    await generations.record(ONE, SHARES)
    await generations.record(replace(ONE, number=2), SHARES)
    await generations.activate(1, None)
    assert not await generations.activate(2, expected)
    active = await generations.active()
    assert active is not None
    assert active.number == 1


async def test_a_generation_never_recorded_cannot_be_activated(generations: Generations) -> None:
    with pytest.raises(InvalidInput, match="generation: expected a recorded generation \\(got 9\\)"):
        await generations.activate(9, None)
    assert await generations.active() is None


async def test_of_many_movers_one_wins(generations: Generations) -> None:
    for number in range(1, 9):
        await generations.record(replace(ONE, number=number), SHARES)
    moved = await asyncio.gather(*[generations.activate(number, None) for number in range(1, 9)])
    assert sum(moved) == 1
