"""What every `ItemRegistry` does: the in-memory form and the one on a real Redis-protocol server."""

import asyncio
from collections.abc import AsyncIterator
from uuid import uuid4

import pytest

from features.items.registry import RedisItemRegistry
from features.redis.address import RedisAddress
from foretaste.kernel.errors import Unavailable
from foretaste.kernel.running.registered_items import PAGE, ItemRegistry, RegisteredItem, every_item
from foretaste.testing import InMemoryItemRegistry
from tests.integration.brokers import free_port

AT = 1_760_000_000_000


def item(number: int, at_ms: int = AT, **attributes: object) -> RegisteredItem:
    return RegisteredItem(f"i{number}", attributes or {"genre": "drama"}, at_ms)  # type: ignore[arg-type]


@pytest.fixture(params=["memory", "redis"])
async def registry(request: pytest.FixtureRequest) -> AsyncIterator[ItemRegistry]:
    if request.param == "memory":
        yield InMemoryItemRegistry()
        return
    address = RedisAddress.parse(request.getfixturevalue("redis_url"))
    redis = RedisItemRegistry(address, prefix=f"test_{uuid4().hex}", timeout=10)
    yield redis
    await redis.close()


async def test_items_come_in_the_order_of_their_changes_and_once(registry: ItemRegistry) -> None:
    assert await registry.since(0) == ([], 0)
    await registry.register([item(2), item(1)])
    found, cursor = await registry.since(0)
    assert found == [item(2), item(1)]
    assert await registry.since(cursor) == ([], cursor)
    await registry.register([item(3)])
    assert (await registry.since(cursor))[0] == [item(3)]


async def test_values_of_every_kind_come_back(registry: ItemRegistry) -> None:
    kept = item(1, title="Ça \n \u0000 ira", price=0.1, count=7, new=True, brand=None, tags=["a", 1], v=[0.5, -1.5])
    await registry.register([kept])
    assert (await registry.since(0))[0] == [kept]


async def test_the_later_registration_stands_whichever_comes_first(registry: ItemRegistry) -> None:
    await registry.register([item(1, AT + 5, genre="comedy")])
    await registry.register([item(1, AT, genre="drama"), item(1, AT + 4, genre="horror")])
    assert (await registry.since(0))[0] == [item(1, AT + 5, genre="comedy")]
    await registry.register([item(1, AT + 5, genre="action"), item(1, AT + 9, genre="opera")])
    assert (await registry.since(0))[0] == [item(1, AT + 9, genre="opera")]


async def test_what_comes_again_is_no_change(registry: ItemRegistry) -> None:
    await registry.register([item(1), item(2)])
    _, cursor = await registry.since(0)
    await registry.register([item(1), item(2)])
    assert await registry.since(cursor) == ([], cursor)


async def test_a_changed_item_comes_again(registry: ItemRegistry) -> None:
    await registry.register([item(1), item(2)])
    _, cursor = await registry.since(0)
    await registry.register([item(1, AT + 1, genre="comedy")])
    assert (await registry.since(cursor))[0] == [item(1, AT + 1, genre="comedy")]
    assert (await registry.since(0))[0] == [item(2), item(1, AT + 1, genre="comedy")]


async def test_pages_lead_to_all(registry: ItemRegistry) -> None:
    everything = [item(number) for number in range(PAGE + 7)]
    for at in range(0, len(everything), 250):
        await registry.register(everything[at : at + 250])
    page, cursor = await registry.since(0, 100)
    assert page == everything[:100]
    assert (await registry.since(cursor, 3))[0] == everything[100:103]
    assert await every_item(registry) == everything


async def test_it_knows_what_was_registered(registry: ItemRegistry) -> None:
    await registry.register([item(1)])
    assert await registry.known(["i2", "i1"]) == [False, True]
    assert await registry.known([]) == []


async def test_an_item_that_is_taken_out_comes_as_a_change_and_is_known_no_more(registry: ItemRegistry) -> None:
    await registry.register([item(1), item(2)])
    _, cursor = await registry.since(0)
    await registry.register([RegisteredItem("i1", None, AT + 1)])
    assert (await registry.since(cursor))[0] == [RegisteredItem("i1", None, AT + 1)]
    assert await registry.known(["i1", "i2"]) == [False, True]
    assert await every_item(registry) == [item(2)]
    await registry.register([item(1, AT)])
    assert await registry.known(["i1"]) == [False], "from before"
    await registry.register([item(1, AT + 2, genre="comedy")])
    assert await every_item(registry) == [item(2), item(1, AT + 2, genre="comedy")]


async def test_an_attribute_that_ends_like_one_that_was_taken_out_is_none(registry: ItemRegistry) -> None:
    await registry.register([item(1, brand=" null"), item(2, brand=None)])
    assert await registry.known(["i1", "i2"]) == [True, True]


async def test_nothing_is_nothing(registry: ItemRegistry) -> None:
    await registry.register([])
    assert await every_item(registry) == []


async def test_many_writers_lose_nothing(registry: ItemRegistry) -> None:
    await asyncio.gather(*(registry.register([item(number), item(number + 100)]) for number in range(100)))
    assert {each.item_id for each in await every_item(registry)} == {f"i{number}" for number in range(200)}


async def test_a_redis_that_lost_all_gives_no_cursor_again(redis_url: str) -> None:
    prefix = f"test_{uuid4().hex}"
    registry = RedisItemRegistry(RedisAddress.parse(redis_url), prefix=prefix, timeout=10)
    await registry.register([item(1), item(2)])
    _, cursor = await registry.since(0)
    client = RedisAddress.parse(redis_url).client()
    await client.delete(*(f"{{{prefix}}}:{name}" for name in ("items", "item-changes", "item-change")))
    await registry.register([item(2), item(1), item(3)])
    found, later = await registry.since(cursor)
    assert found == [item(2), item(1), item(3)]
    await client.set(f"{{{prefix}}}:item-change", cursor)  # only its newest writes are lost
    await client.aclose()
    await registry.register([item(4)])
    assert (await registry.since(later))[0] == [item(4)]
    await registry.close()


async def test_without_a_server_it_is_unavailable() -> None:
    redis = RedisItemRegistry(RedisAddress.parse(f"redis://127.0.0.1:{free_port()}"), timeout=0.5)
    for call in (redis.register([item(1)]), redis.since(0), redis.known(["i1"])):
        with pytest.raises(Unavailable, match="redis"):
            await call
    await redis.close()
