"""What every `IdempotencyKeys` does: the in-memory form and Redis."""

from collections.abc import AsyncIterator
from uuid import uuid4

import pytest
from redis.asyncio import Redis

from features.idempotency import IN_PROCESS_SECONDS, RedisIdempotencyKeys
from features.redis.address import RedisAddress
from foretaste.kernel.errors import Unavailable
from foretaste.kernel.service_ports import IdempotencyKeys, KeptRequest
from foretaste.testing import InMemoryIdempotencyKeys


@pytest.fixture(params=["memory", "redis"])
async def keys(request: pytest.FixtureRequest) -> AsyncIterator[IdempotencyKeys]:
    made: IdempotencyKeys = InMemoryIdempotencyKeys()
    if request.param == "redis":
        address = RedisAddress.parse(request.getfixturevalue("redis_url"))
        made = RedisIdempotencyKeys(address, seconds=60, prefix=f"test-{uuid4().hex}", timeout=10)
    yield made
    await made.close()


async def test_a_new_key_is_taken_once(keys: IdempotencyKeys) -> None:
    assert await keys.begin("k", "f1") is None
    assert await keys.begin("k", "f2") == KeptRequest("f1", None), "it is in process"
    assert await keys.begin("other", "f2") is None


async def test_an_answer_is_kept_with_the_body_it_belongs_to(keys: IdempotencyKeys) -> None:
    kept = KeptRequest("f1", '{"accepted": "é"}')
    assert await keys.begin("k", "f1") is None
    await keys.finish("k", kept)
    assert await keys.begin("k", "f2") == kept


async def test_the_key_of_a_request_that_failed_is_free_again(keys: IdempotencyKeys) -> None:
    assert await keys.begin("k", "f1") is None
    await keys.forget("k")
    assert await keys.begin("k", "f2") is None


async def test_redis_forgets_after_the_set_time(redis_url: str) -> None:
    prefix = f"test-{uuid4().hex}"
    keys = RedisIdempotencyKeys(RedisAddress.parse(redis_url), seconds=3600, prefix=prefix, timeout=10)
    client = Redis.from_url(redis_url)
    assert await keys.begin("k", "f1") is None
    (name,) = [each async for each in client.scan_iter(f"{prefix}:idempotency:*")]
    assert 0 < await client.ttl(name) <= IN_PROCESS_SECONDS
    await keys.finish("k", KeptRequest("f1", "{}"))
    assert IN_PROCESS_SECONDS < await client.ttl(name) <= 3600
    await keys.close()
    await client.aclose()


async def test_redis_away_is_unavailable() -> None:
    keys = RedisIdempotencyKeys(RedisAddress.parse("redis://127.0.0.1:1"), seconds=60, timeout=1)
    with pytest.raises(Unavailable, match="redis is not available"):
        await keys.begin("k", "f")
    await keys.close()
