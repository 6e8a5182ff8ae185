"""What every `Generations` does: the in-memory form and Redis, alone and as a cluster."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import numpy as np
import pytest

from features.generations.pointer import RedisGenerations
from features.redis.address import RedisAddress
from foretaste.kernel.errors import InvalidInput, Unavailable
from foretaste.kernel.generations import Generation, Move, Serving
from foretaste.kernel.ports import Generations
from foretaste.kernel.retrieval import MOST_POPULAR
from foretaste.testing import InMemoryGenerations
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


NOW = 1_800_000_000.0


def _on_redis(request: pytest.FixtureRequest, prefix: str) -> RedisGenerations:
    cluster = request.param == "cluster"
    url = request.getfixturevalue("cluster_url" if cluster else "redis_url")
    return RedisGenerations(RedisAddress.parse(url, cluster=cluster), prefix=prefix, timeout=10, now=lambda: NOW)


@pytest.fixture(params=["memory", "redis", "cluster"])
async def generations(request: pytest.FixtureRequest) -> AsyncIterator[Generations]:
    if request.param == "memory":
        yield InMemoryGenerations(now=lambda: NOW)
        return
    stored = _on_redis(request, f"test-{uuid4().hex}")
    yield stored
    await stored.close()


@pytest.fixture(params=["redis", "cluster"])
async def two_readers(request: pytest.FixtureRequest) -> AsyncIterator[tuple[RedisGenerations, RedisGenerations]]:
    """Two processes' views of the same records."""
    prefix = f"test-{uuid4().hex}"
    one, other = _on_redis(request, prefix), _on_redis(request, prefix)
    yield one, other
    await one.close()
    await other.close()


async def _record(generations: Generations, *numbers: int) -> None:
    for number in numbers:
        await generations.record(replace(ONE, number=number), SHARES)


def _numbers(serving: Serving) -> tuple[int | None, int | None, int | None]:
    active, filling = (one.number if one else None for one in (serving.active, serving.filling))
    return active, filling, serving.previous


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


async def test_what_was_recorded_without_its_profile_is_the_same_training_with_it(generations: Generations) -> None:
    await generations.record(ONE, SHARES)
    await generations.record(replace(ONE, profile='{"format": 1}'), SHARES)
    stored = await generations.get(1)
    assert stored is not None
    assert stored.profile == ""
    await generations.record(replace(ONE, number=2, profile='{"format": 1}'), SHARES)
    later = await generations.get(2)
    assert later is not None
    assert later.profile == '{"format": 1}'


async def test_recording_the_same_again_changes_nothing(generations: Generations) -> None:
    await generations.record(ONE, SHARES)
    await generations.activate(1, None)
    await generations.record(replace(ONE, metrics=dict(reversed(list(ONE.metrics.items())))), SHARES)
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


async def test_the_most_popular_items_come_first_and_no_more_than_are_kept(generations: Generations) -> None:
    many = {f"i{number:04}": number / 10_000 for number in range(1200)} | {"a": 0.1199, "b": 0.1199}
    await generations.record(ONE, many)
    assert await generations.popular(1, 4) == ["a", "b", "i1199", "i1198"]
    assert len(await generations.popular(1, 5000)) == MOST_POPULAR
    assert await generations.popular(1, 0) == []
    assert await generations.popular(2, 5) == []


async def test_the_most_popular_items_go_with_their_generation(generations: Generations) -> None:
    await generations.record(ONE, SHARES)
    await generations.retire(1)
    assert await generations.popular(1, 5) == []


async def test_the_most_popular_items_of_an_earlier_versions_record_are_found(
    two_readers: tuple[RedisGenerations, RedisGenerations],
) -> None:
    earlier, reader = two_readers
    await earlier.record(ONE, SHARES)
    await earlier._run("DEL", earlier._key("popular", 1))
    assert await reader.popular(1, 5) == ["i1", "ünï"]


async def test_all_shares_are_brought_where_there_are_no_more_than_asked_for(generations: Generations) -> None:
    shares = {f"i{number}": number / 1e4 for number in range(2500)} | {"ünï": 0.5}
    await generations.record(ONE, shares)
    assert await generations.shares(1, 2501) == shares
    assert await generations.shares(1, 2500) is None
    assert await generations.shares(2, 10) == {}


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


async def test_nothing_serves_before_the_first_and_nothing_is_kept(generations: Generations) -> None:
    assert await generations.serving() == Serving()
    assert await generations.numbers() == []
    assert await generations.moves() == []


async def test_a_move_leaves_the_one_before_as_the_previous(generations: Generations) -> None:
    await _record(generations, 1, 2, 3)
    for number, expected, found in ((1, None, (1, None, None)), (2, 1, (2, None, 1)), (3, 2, (3, None, 2))):
        assert await generations.activate(number, expected)
        assert _numbers(await generations.serving()) == found


async def test_rolling_back_makes_the_one_left_the_previous(generations: Generations) -> None:
    await _record(generations, 1, 2)
    await generations.activate(1, None)
    await generations.activate(2, 1)
    assert await generations.activate(1, 2, "rollback by hand")
    assert _numbers(await generations.serving()) == (1, None, 2)


async def test_moves_are_kept_with_their_reasons_newest_first(generations: Generations) -> None:
    await _record(generations, 1, 2)
    await generations.activate(1, None, "the first")
    await generations.activate(2, 1, "passed: „größer“", filled=True)
    await generations.activate(1, 7, "too late")
    at = "2027-01-15T08:00:00+00:00"
    newest, oldest = Move(2, 1, at, "passed: „größer“", filled=True), Move(1, None, at, "the first")
    assert await generations.moves() == [newest, oldest]
    assert await generations.moves(1) == [newest]
    assert await generations.moves(0) == []


async def test_activating_the_active_one_is_no_move(generations: Generations) -> None:
    await _record(generations, 1, 2)
    await generations.activate(1, None)
    await generations.activate(2, 1)
    assert await generations.activate(2, 2)
    assert _numbers(await generations.serving()) == (2, None, 1)
    assert len(await generations.moves()) == 2


async def test_a_generation_fills_until_it_is_active_or_told_to_stop(generations: Generations) -> None:
    await _record(generations, 1, 2)
    await generations.activate(1, None)
    await generations.fill(2)
    assert _numbers(await generations.serving()) == (1, 2, None)
    await generations.fill(None)
    assert _numbers(await generations.serving()) == (1, None, None)
    await generations.fill(2)
    await generations.activate(2, 1)
    assert _numbers(await generations.serving()) == (2, None, 1)


async def test_another_one_goes_on_filling_when_the_pointer_moves(generations: Generations) -> None:
    await _record(generations, 1, 2, 3)
    await generations.activate(1, None)
    await generations.fill(2)
    await generations.activate(3, 1)
    assert _numbers(await generations.serving()) == (3, 2, 1)


async def test_a_rollback_ends_the_filling_of_the_slot_that_it_goes_back_to(generations: Generations) -> None:
    await _record(generations, 1, 2, 13)
    await generations.activate(1, None)
    await generations.activate(2, 1)
    await generations.fill(13)
    await generations.activate(1, 2, "rollback")
    assert _numbers(await generations.serving()) == (1, None, 2)
    with pytest.raises(InvalidInput, match="shares its slot with the active generation 1"):
        await generations.fill(13)


async def test_a_move_that_is_not_made_leaves_what_fills(generations: Generations) -> None:
    await _record(generations, 1, 2, 3)
    await generations.activate(2, None)
    await generations.fill(3)
    assert not await generations.activate(1, 7)
    assert _numbers(await generations.serving()) == (2, 3, None)


async def test_the_active_ones_slot_is_not_filled_with_another(generations: Generations) -> None:
    await _record(generations, 1, 2, 3)
    await generations.fill(3)
    await generations.activate(1, None)
    with pytest.raises(InvalidInput, match=r"shares its slot with the active generation 1 \(got 3\)"):
        await generations.fill(3)
    await generations.fill(2)
    assert _numbers(await generations.serving()) == (1, 2, None)


async def test_a_generation_never_recorded_cannot_fill(generations: Generations) -> None:
    with pytest.raises(InvalidInput, match="expected a recorded generation"):
        await generations.fill(9)
    assert await generations.serving() == Serving()


async def test_a_retired_generation_is_gone_and_its_number_with_it(generations: Generations) -> None:
    await _record(generations, 2, 10, 3)
    await generations.activate(2, None)
    await generations.retire(10)
    assert await generations.numbers() == [2, 3]
    assert await generations.highest() == 10
    assert await generations.get(10) is None
    assert await generations.popularity(10, ["i1"]) == [None]
    for call in (generations.retire(10), generations.activate(10, 2), generations.fill(10)):
        with pytest.raises(InvalidInput, match="expected a recorded generation"):
            await call
    assert _numbers(await generations.serving()) == (2, None, None)


@pytest.mark.parametrize(("number", "use"), [(2, "active"), (3, "filling"), (1, "kept for rollback")])
async def test_a_generation_in_use_is_not_retired(generations: Generations, number: int, use: str) -> None:
    await _record(generations, 1, 2, 3)
    await generations.activate(1, None)
    await generations.activate(2, 1)
    await generations.fill(3)
    with pytest.raises(InvalidInput, match=f"generation: is {use}"):
        await generations.retire(number)
    assert await generations.numbers() == [1, 2, 3]
    assert _numbers(await generations.serving()) == (2, 3, 1)


async def test_activated_or_retired_but_never_both(generations: Generations) -> None:
    await _record(generations, 1, *range(2, 12))
    active = 1
    await generations.activate(1, None)
    for number in range(2, 12):
        moved, retired = await asyncio.gather(
            generations.activate(number, active), generations.retire(number), return_exceptions=True
        )
        assert (moved is True and isinstance(retired, InvalidInput)) or (
            isinstance(moved, InvalidInput) and retired is None
        )
        active = number if moved is True else active
        found = await generations.active()
        assert found is not None
        assert found.number == active


async def test_of_two_moves_at_once_one_is_kept(generations: Generations) -> None:
    await _record(generations, 1, 2, 3)
    await generations.activate(1, None)
    moved = await asyncio.gather(generations.activate(2, 1, "two"), generations.activate(3, 1, "three"))
    assert sorted(moved) == [False, True]
    won = 2 if moved[0] else 3
    assert _numbers(await generations.serving()) == (won, None, 1)
    assert [move.number for move in await generations.moves()] == [won, 1]


async def test_a_retired_number_is_not_recorded_again(generations: Generations) -> None:
    await _record(generations, 1)
    await generations.retire(1)
    with pytest.raises(InvalidInput, match=r"was retired.*\(got 1\)"):
        await generations.record(ONE, SHARES)
    assert await generations.get(1) is None


async def test_a_reader_sees_moves_of_others_at_once_in_one_round_trip_while_nothing_moves(
    two_readers: tuple[RedisGenerations, RedisGenerations], monkeypatch: pytest.MonkeyPatch
) -> None:
    mover, reader = two_readers
    await _record(mover, 1, 2)
    await mover.activate(1, None)
    assert _numbers(await reader.serving()) == (1, None, None)
    await mover.fill(2)
    assert _numbers(await reader.serving()) == (1, 2, None)
    await mover.activate(2, 1)
    commands: list[object] = []
    run = reader._run

    async def counted(*command: str | int) -> object:
        commands.append(command[0])
        return await run(*command)

    monkeypatch.setattr(reader, "_run", counted)
    assert _numbers(await reader.serving()) == (2, None, 1)
    active = await reader.active()
    assert active is not None
    assert active.number == 2
    assert commands == ["MGET", "MGET"]


async def test_a_reader_is_not_misled_by_what_it_knew_of_a_number_before_redis_lost_everything(
    two_readers: tuple[RedisGenerations, RedisGenerations],
) -> None:
    mover, reader = two_readers
    await _record(mover, 1)
    await mover.activate(1, None)
    await reader.serving()
    for key in ("active", "generation:1", "numbers", "popularity:1"):
        await mover._run("DEL", mover._key(key))
    assert await reader.active() is None
    await mover.record(replace(ONE, warm_after=7), {})
    await mover.activate(1, None)
    active = await reader.active()
    assert active is not None
    assert active.warm_after == 7


async def test_a_pointer_whose_record_was_lost_leads_nowhere(
    two_readers: tuple[RedisGenerations, RedisGenerations],
) -> None:
    mover, reader = two_readers
    await _record(mover, 1)
    await mover.activate(1, None)
    await mover._run("DEL", mover._key("generation", 1))
    assert await reader.active() is None


async def test_a_pointer_of_an_earlier_version_is_understood(
    two_readers: tuple[RedisGenerations, RedisGenerations],
) -> None:
    mover, reader = two_readers
    await _record(mover, 1, 2)
    await mover._run("SET", mover._key("active"), 1)
    assert _numbers(await reader.serving()) == (1, None, None)
    assert await mover.activate(2, 1)
    assert _numbers(await reader.serving()) == (2, None, 1)


@pytest.mark.parametrize("delivered", [False, True])
@pytest.mark.parametrize("command", [b"GET", b"ZSCORE", b"EXEC"])
async def test_a_connection_that_breaks_while_recording_costs_another_look(
    redis_url: str, command: bytes, delivered: bool
) -> None:
    """redis-py tells of one that broke while it watched a key as if another had changed it."""
    async with _cut_at(redis_url, command, delivered=delivered) as url:
        generations = RedisGenerations(RedisAddress.parse(url), prefix=f"test-{uuid4().hex}", timeout=10)
        try:
            await generations.record(ONE, SHARES)
            assert await generations.numbers() == [1]
            assert await generations.popularity(1, list(SHARES)) == list(SHARES.values())
        finally:
            await generations.close()


async def test_a_connection_that_breaks_before_the_first_look_is_said(redis_url: str) -> None:
    async with _cut_at(redis_url, b"WATCH", delivered=False) as url:
        generations = RedisGenerations(RedisAddress.parse(url), prefix=f"test-{uuid4().hex}", timeout=10)
        try:
            with pytest.raises(Unavailable, match="redis"):
                await generations.record(ONE, SHARES)
        finally:
            await generations.close()


@asynccontextmanager
async def _cut_at(redis_url: str, command: bytes, *, delivered: bool) -> AsyncIterator[str]:
    """The same Redis by way of connections of which the first to carry the command is cut, before it or its answer."""
    address = urlsplit(redis_url)
    cut = False

    async def passed_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal cut
        there, back = await asyncio.open_connection(address.hostname, address.port)

        async def answers() -> None:
            while data := await there.read(65536):
                writer.write(data)
            writer.close()

        async with asyncio.TaskGroup() as group:
            answering = group.create_task(answers())
            while data := await reader.read(65536):
                if command in data and not cut:
                    cut = True
                    if delivered:
                        answering.cancel()
                        back.write(data)
                        await back.drain()
                        writer.close()
                    break
                back.write(data)
            back.close()

    async with await asyncio.start_server(passed_on, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        yield urlunsplit(address._replace(netloc=f"127.0.0.1:{port}"))
        assert cut
