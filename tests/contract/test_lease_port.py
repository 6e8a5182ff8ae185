"""What every `Lease` does: the in-memory form and Redis, alone and as a cluster."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from features.generations.lease import RedisLease
from features.redis.address import RedisAddress
from foretaste.kernel.errors import Unavailable
from foretaste.kernel.leasing import Lease
from foretaste.testing import InMemoryLease, LeaseBoard
from tests.integration.redis_server import valkey

LONG, SHORT = 60.0, 0.2
Holder = Callable[[float], Lease]


@pytest.fixture(scope="module")
def cluster_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with valkey(tmp_path_factory.mktemp("cluster"), cluster=True) as server:
        yield server.url


@pytest.fixture(params=["memory", "redis", "cluster"])
async def holder(request: pytest.FixtureRequest) -> AsyncIterator[Holder]:
    """Makes one who may hold the right of this test, for as many seconds."""
    made: list[Lease] = []
    board, prefix = LeaseBoard(), f"test-{uuid4().hex}"

    def make(seconds: float) -> Lease:
        if request.param == "memory":
            made.append(InMemoryLease(board, "cotrain", seconds=seconds))
        else:
            cluster = request.param == "cluster"
            address = RedisAddress.parse(
                request.getfixturevalue("cluster_url" if cluster else "redis_url"), cluster=cluster
            )
            made.append(RedisLease(address, "cotrain", seconds=seconds, prefix=prefix, timeout=10))
        return made[-1]

    yield make
    for lease in made:
        await lease.close()


async def _taken_after_expiry(lease: Lease) -> None:
    for _ in range(500):
        if await lease.take():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it never ended")


async def test_one_holds_it_and_the_others_do_not(holder: Holder) -> None:
    one, other = holder(LONG), holder(LONG)
    assert await one.take()
    assert not await other.take()
    assert not await other.renew()


async def test_of_many_one_gets_it(holder: Holder) -> None:
    assert sum(await asyncio.gather(*[holder(LONG).take() for _ in range(8)])) == 1


async def test_given_back_it_is_free(holder: Holder) -> None:
    one, other = holder(LONG), holder(LONG)
    await one.take()
    await one.give_back()
    assert not await one.renew()
    assert await other.take()


async def test_who_has_it_may_take_it_again(holder: Holder) -> None:
    one, other = holder(LONG), holder(LONG)
    assert await one.take()
    assert await one.take()
    assert not await other.take()
    await one.give_back()
    assert await other.take()


async def test_it_ends_by_itself_and_who_lost_it_learns_so(holder: Holder) -> None:
    one, other = holder(SHORT), holder(LONG)
    await one.take()
    await _taken_after_expiry(other)
    assert not await one.renew()
    assert not await one.take()


async def test_who_lost_it_cannot_give_back_anothers(holder: Holder) -> None:
    one, other, third = holder(SHORT), holder(LONG), holder(LONG)
    await one.take()
    await _taken_after_expiry(other)
    await one.give_back()
    assert not await third.take()
    assert await other.renew()


async def test_renewed_it_lasts(holder: Holder) -> None:
    one, other = holder(0.9), holder(LONG)
    await one.take()
    for _ in range(4):
        await asyncio.sleep(0.25)
        assert await one.renew()
        assert not await other.take()


async def test_never_taken_there_is_nothing_to_renew_or_give_back(holder: Holder) -> None:
    one = holder(LONG)
    assert not await one.renew()
    await one.give_back()
    assert await one.take()


async def test_rights_of_other_names_are_others(redis_url: str) -> None:
    prefix = f"test-{uuid4().hex}"
    leases = [RedisLease(RedisAddress.parse(redis_url), name, seconds=LONG, prefix=prefix) for name in ("a", "b")]
    assert [await lease.take() for lease in leases] == [True, True]
    for lease in leases:
        await lease.close()


async def test_a_redis_that_hangs_is_unavailable_in_time(tmp_path: Path) -> None:
    with valkey(tmp_path) as server:
        lease = RedisLease(RedisAddress.parse(server.url), "cotrain", seconds=LONG, timeout=0.3)
        assert await lease.take()
        with server.frozen():
            for call in (lease.renew, lease.take, lease.give_back):
                with pytest.raises(Unavailable, match="redis"):
                    await call()
        assert await lease.renew(), "what was not answered did not lose it"
        await lease.close()
