"""What every `Progress` of a re-enrichment does: the in-memory form and the one on a real Redis-protocol server."""

from collections.abc import AsyncIterator
from uuid import uuid4

import pytest

from features.generations.progress import RedisProgress
from features.redis.address import RedisAddress
from foretaste.kernel.errors import Unavailable
from foretaste.testing import InMemoryProgress
from streams.reenrichment import Progress
from tests.integration.brokers import free_port


@pytest.fixture(params=["memory", "redis"])
async def progress(request: pytest.FixtureRequest) -> AsyncIterator[Progress]:
    if request.param == "memory":
        yield InMemoryProgress()
        return
    address = RedisAddress.parse(request.getfixturevalue("redis_url"))
    redis = RedisProgress(address, prefix=f"test_{uuid4().hex}", timeout=10)
    yield redis
    await redis.close()


async def test_what_was_never_written_is_none(progress: Progress) -> None:
    assert await progress.read(1) is None


async def test_the_last_one_written_is_read_by_generation(progress: Progress) -> None:
    for generation, state in ((1, "a"), (2, '{"cursor": "é"}'), (1, "b")):
        await progress.write(generation, state)
    assert [await progress.read(1), await progress.read(2)] == ["b", '{"cursor": "é"}']


async def test_what_was_forgotten_is_gone_and_forgetting_again_is_harmless(progress: Progress) -> None:
    await progress.write(1, "a")
    await progress.write(2, "b")
    for _ in range(2):
        await progress.forget(1)
    assert [await progress.read(1), await progress.read(2)] == [None, "b"]


async def test_a_redis_that_is_away_is_told() -> None:
    away = RedisProgress(RedisAddress.parse(f"redis://127.0.0.1:{free_port()}"))
    for asked in (away.read(1), away.write(1, "a"), away.forget(1)):
        with pytest.raises(Unavailable, match="redis"):
            await asked
    await away.close()
