"""What brings registered items to the towers of a process."""

import asyncio
from dataclasses import dataclass, field

import pytest

from foretaste.kernel.errors import Unavailable
from foretaste.kernel.running.registered_items import PAGE, RegisteredItem, RegisteredItems
from foretaste.kernel.values import Attributes
from foretaste.testing import InMemoryItemRegistry
from tests.serving_parts import FakeTowers


def item(number: int, genre: str = "drama") -> RegisteredItem:
    return RegisteredItem(f"i{number}", {"genre": genre}, number)


@dataclass
class Bench:
    """`now` is the clock of everything; sleeping moves it."""

    registry: InMemoryItemRegistry = field(default_factory=InMemoryItemRegistry)
    towers: FakeTowers = field(default_factory=FakeTowers)
    now: float = 0.0
    slept: int = 0
    over: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.items = RegisteredItems(self.registry, self.towers, lambda: self.now, sleep=self.sleep)

    async def meanwhile(self, look: int) -> None:
        """What happens before a look."""

    async def sleep(self, seconds: float) -> None:
        self.slept += 1
        self.now += seconds
        await self.meanwhile(self.slept)
        await asyncio.sleep(0)


@pytest.fixture
def bench() -> Bench:
    return Bench()


async def test_a_look_brings_all_that_was_registered_since_the_last(bench: Bench) -> None:
    await bench.registry.register([item(number) for number in range(2 * PAGE + 1)])
    await bench.items.look()
    assert len(bench.towers.met) == 2 * PAGE + 1
    bench.towers.met.clear()
    await bench.registry.register([item(1, "comedy")])
    await bench.items.look()
    assert bench.towers.met == {"i1": {"genre": "comedy"}}


async def test_it_looks_for_ever_and_outlasts_an_outage(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    async def happens(look: int) -> None:
        bench.registry.outage = Unavailable("redis", "away") if 3 <= look < 6 else None
        if look == 6:
            await bench.registry.register([item(1)])
        if bench.towers.met:
            bench.over.set()

    monkeypatch.setattr(bench, "meanwhile", happens)
    task = asyncio.create_task(bench.items.run())
    async with asyncio.timeout(5):
        await bench.over.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert bench.towers.met == {"i1": {"genre": "drama"}}


async def test_who_waits_hears_when_the_towers_have_all_of_them(bench: Bench) -> None:
    wanted: dict[str, Attributes] = {"i1": {"genre": "drama"}, "i2": {"genre": "drama", "tags": ("a", "b")}}
    assert not await bench.items.taken_in(wanted, 0.3)
    await bench.registry.register([item(1), RegisteredItem("i2", {"genre": "drama", "tags": ["a", "b"]}, 2)])
    await bench.items.look()
    assert await bench.items.taken_in(wanted, 0.0)
    assert not await bench.items.taken_in({"i1": {"genre": "comedy"}}, 0.1), "those of before"
