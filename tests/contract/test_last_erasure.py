"""What every `LastErasure` does: the in-memory form and the one on a real Redis-protocol server."""

from collections.abc import AsyncIterator
from uuid import uuid4

import pytest

from features.redis.address import RedisAddress
from features.redis.last_erasure import RedisLastErasure
from foretaste.kernel.errors import Unavailable
from foretaste.kernel.running.erasing import LastErasure
from foretaste.testing import InMemoryLastErasure
from tests.integration.brokers import free_port


@pytest.fixture(params=["memory", "redis"])
async def last_erasure(request: pytest.FixtureRequest) -> AsyncIterator[LastErasure]:
    if request.param == "memory":
        yield InMemoryLastErasure()
        return
    address = RedisAddress.parse(request.getfixturevalue("redis_url"))
    redis = RedisLastErasure(address, prefix=f"test_{uuid4().hex}", timeout=10)
    yield redis
    await redis.close()


async def test_it_is_another_one_after_each_change_and_the_same_in_between(last_erasure: LastErasure) -> None:
    words = [await last_erasure.read()]
    assert words == [None]
    for _ in range(3):
        await last_erasure.change()
        word = await last_erasure.read()
        assert word == await last_erasure.read()
        assert isinstance(word, str)
        assert word not in words
        words.append(word)


async def test_without_a_server_it_is_unavailable() -> None:
    redis = RedisLastErasure(RedisAddress.parse(f"redis://127.0.0.1:{free_port()}"), timeout=0.5)
    with pytest.raises(Unavailable, match="redis"):
        await redis.read()
    with pytest.raises(Unavailable, match="redis"):
        await redis.change()
    await redis.close()
