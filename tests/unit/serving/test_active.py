"""What a request knows of the active generation, and when it is asked for."""

import asyncio
from dataclasses import dataclass, field

import pytest

from foretaste.kernel.errors import Unavailable
from foretaste.kernel.generations import Generation
from foretaste.testing import InMemoryGenerations
from serving.active import ActiveGeneration
from tests.serving_parts import FakeTowers, generation


@dataclass
class Asked:
    """Generations that count how often they are asked, and wait for `go` before they answer."""

    held: InMemoryGenerations = field(default_factory=InMemoryGenerations)
    go: asyncio.Event = field(default_factory=asyncio.Event)
    count: int = 0
    defect: Exception | None = None

    async def active(self) -> Generation | None:
        self.count += 1
        await self.go.wait()
        if self.defect is not None:
            raise self.defect
        return await self.held.active()


@dataclass
class Known:
    """Generation 1, known at the time 0."""

    asked: Asked = field(default_factory=Asked)
    now: float = 0.0

    async def start(self) -> ActiveGeneration:
        await self.asked.held.record(generation(1), {"a": 1.0})
        await self.asked.held.record(generation(2), {"a": 1.0})
        await self.asked.held.activate(1, None)
        self.asked.go.set()
        active = ActiveGeneration(self.asked, FakeTowers(), lambda: self.now)  # type: ignore[arg-type]  # what it needs
        assert (await active.get()).number == 1
        return active


async def turns() -> None:
    """What the loop has in hand is done."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_a_young_one_is_not_asked_for() -> None:
    known = Known()
    active = await known.start()
    known.now = 0.2
    await active.get()
    await turns()
    assert known.asked.count == 1


async def test_past_half_of_its_age_it_is_asked_for_once_beside_the_answers() -> None:
    known = Known()
    active = await known.start()
    known.asked.go.clear()
    known.now = 0.3
    for _ in range(3):
        assert (await active.get()).number == 1
        await turns()
    assert known.asked.count == 2
    known.now = 0.6  # old by now, and still being asked for: nobody waits
    assert (await active.get()).number == 1
    known.asked.go.set()
    await turns()
    known.now = 0.7
    await active.get()
    await turns()
    assert known.asked.count == 2, "known since 0.6, when the answer came"


async def test_one_that_took_over_is_known_by_the_answers_after() -> None:
    known = Known()
    active = await known.start()
    await known.asked.held.activate(2, 1)
    known.now = 0.3
    assert (await active.get()).number == 1
    await turns()
    assert (await active.get()).number == 2


async def test_an_old_one_is_waited_for() -> None:
    known = Known()
    active = await known.start()
    known.now = 0.6
    await active.get()
    assert known.asked.count == 2


async def test_what_goes_wrong_beside_the_answers_is_told() -> None:
    known = Known()
    active = await known.start()
    known.asked.defect = RuntimeError("a defect")
    known.now = 0.3
    await active.get()
    await turns()
    with pytest.raises(RuntimeError, match="a defect"):
        await active.get()


async def test_a_redis_that_is_away_leaves_the_known_one() -> None:
    known = Known()
    active = await known.start()
    known.asked.defect = Unavailable("redis", "chosen by the test")
    known.now = 0.3
    for _ in range(2):
        assert (await active.get()).number == 1
        await turns()
    assert known.asked.count == 2, "asked for again in a quarter of a second"


async def test_what_is_asked_beside_the_answers_ends_when_it_is_closed() -> None:
    known = Known()
    active = await known.start()
    known.asked.go.clear()
    known.now = 0.3
    await active.get()
    await turns()
    assert known.asked.count == 2
    await active.close()
    assert asyncio.all_tasks() == {asyncio.current_task()}
