"""What every `StateCheckpoint` does: the in-memory form and the one on a real Redis-protocol server."""

from collections.abc import AsyncIterator
from uuid import uuid4

import pytest

from features.generations.checkpoint import RedisCheckpoint
from features.redis.address import RedisAddress
from foretaste.kernel.errors import Unavailable
from foretaste.kernel.running.checkpoints import StateCheckpoint
from foretaste.testing import InMemoryCheckpoint
from tests.integration.brokers import free_port


@pytest.fixture(params=["memory", "redis"])
async def checkpoint(request: pytest.FixtureRequest) -> AsyncIterator[StateCheckpoint]:
    if request.param == "memory":
        yield InMemoryCheckpoint()
        return
    address = RedisAddress.parse(request.getfixturevalue("redis_url"))
    redis = RedisCheckpoint(address, "rebuild", prefix=f"test_{uuid4().hex}", timeout=10)
    yield redis
    await redis.close()


async def test_the_last_state_is_read_until_it_is_forgotten(checkpoint: StateCheckpoint) -> None:
    assert await checkpoint.read() is None
    for state in ("a", '{"cursor": "é"}'):
        await checkpoint.write(state)
        assert await checkpoint.read() == state
    for _ in range(2):
        await checkpoint.forget()
        assert await checkpoint.read() is None


async def test_each_name_has_its_own(redis_url: str) -> None:
    address, prefix = RedisAddress.parse(redis_url), f"test_{uuid4().hex}"
    first, second = (RedisCheckpoint(address, name, prefix=prefix, timeout=10) for name in ("rebuild", "import-1"))
    await first.write("a")
    assert (await first.read(), await second.read()) == ("a", None)
    for each in (first, second):
        await each.close()


async def test_a_redis_that_is_away_is_told() -> None:
    away = RedisCheckpoint(RedisAddress.parse(f"redis://127.0.0.1:{free_port()}"), "rebuild")
    for asked in (away.read(), away.write("a"), away.forget()):
        with pytest.raises(Unavailable, match="redis"):
            await asked
    await away.close()
