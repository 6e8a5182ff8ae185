"""Sign-ups while another generation is filling: they get both, and its tower holds none of them up."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import pytest

from foretaste.kernel.errors import BadTowerOutput, ForetasteError, InvalidInput, Unavailable
from foretaste.kernel.events import UserEnriched
from foretaste.kernel.users import BehavedUser, Behaviour, EnrichedUser, ReenrichedUser, VirtualBehaviour
from foretaste.kernel.values import Attributes, FloatArray
from streams.sign_ups import SignUps
from streams.sign_ups import way as enrichment
from tests.stream_parts import NOW, NOW_MS, SHAPE, ChosenStore, ChosenTowers, World, generation, sign_up, virtual_of

AWAY = Unavailable("a part", "chosen by the test")
ACTIVE, FILLING = 1, 2


@dataclass
class TwoTowers(ChosenTowers):
    """Those of the filling generation answer ten more than those of the active one, or fail alone."""

    failure: ForetasteError | None = None
    hangs: bool = False
    poison: bool = False
    filling_shape: tuple[int, int] = field(default=SHAPE)

    async def virtual_behaviour(self, attributes: Sequence[Attributes], generation: int) -> FloatArray:
        answer = await super().virtual_behaviour(attributes, generation)
        if generation != FILLING:
            return answer
        if self.failure is not None:
            raise self.failure
        if self.hangs:
            await asyncio.get_running_loop().create_future()
        if self.filling_shape != SHAPE:
            return np.zeros((len(attributes), *self.filling_shape), np.float32)
        return np.full_like(answer, np.nan) if self.poison else answer + 10


async def world_of(towers: TwoTowers | None = None, warm_after: int = 3) -> World:
    world = await World(towers=towers or TwoTowers()).activate()
    await world.generations.record(generation(FILLING, warm_after), {})
    await world.generations.fill(FILLING)
    return world


def way(world: World, now: float = NOW) -> SignUps:
    return SignUps(
        world.parts,
        world.dead_letters,
        world.metrics,
        enriched_topic=world.names.enriched,
        profiles_topic=world.names.profiles,
        max_event_bytes=2000,
        now=lambda: now,
    )


def announced(world: World) -> list[tuple[str, int]]:
    events = [UserEnriched.model_validate_json(each.value or b"") for each in world.events.of(world.names.enriched)]
    return [(event.user_id, event.generation) for event in events]


async def value(world: World, user_id: str, number: int) -> float | None:
    """What both of a user's slots hold is current, or None."""
    held = generation(number).virtual_of(await world.features(user_id, number))
    return None if held is None else float(held.vectors[0, 0])


async def seen(world: World, user_id: str, count: int) -> None:
    behaviour = Behaviour(["i"] * count, ["acted"] * count, list(range(count)))
    await world.store.write_behaviour([BehavedUser(user_id, behaviour)])


async def test_a_batch_gets_both_by_one_call_each_and_tells_of_the_active_one() -> None:
    world = await world_of()
    await way(world)([sign_up(f"u{age}", offset=age, age=age) for age in range(20)])
    assert world.towers.calls == [(20, ACTIVE), (20, FILLING)]
    assert [await value(world, "u7", number) for number in (ACTIVE, FILLING)] == [7, 17]
    assert announced(world) == [(f"u{age}", ACTIVE) for age in range(20)]
    assert world.counted("foretaste_filled_total") == 20
    assert (world.store.reads, world.store.writes) == (2, 2)


async def test_each_generation_says_itself_who_is_warm() -> None:
    world = await world_of(warm_after=5)
    for user_id, count in (("both", 2), ("filling alone", 4), ("neither", 5)):
        await seen(world, user_id, count)
    await way(world)([sign_up(user_id, age=1) for user_id in ("both", "filling alone", "neither")])
    assert world.towers.calls == [(1, ACTIVE), (2, FILLING)]
    held = [[await value(world, user_id, number) for number in (ACTIVE, FILLING)] for user_id in ("both", "neither")]
    assert held == [[1, 11], [None, None]]
    assert await value(world, "filling alone", FILLING) == 11


@pytest.mark.parametrize(
    "towers",
    [
        TwoTowers(failure=AWAY),
        TwoTowers(failure=BadTowerOutput("chosen by the test")),
        TwoTowers(failure=InvalidInput("request", "x", "chosen by the test")),
        TwoTowers(hangs=True),
        TwoTowers(filling_shape=(2, 4)),
    ],
    ids=["away", "bad output", "refuses", "hangs", "another shape"],
)
async def test_a_filling_tower_that_fails_holds_nothing_up(towers: TwoTowers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(enrichment, "FILLING_SECONDS", 0.01)
    world = await world_of(towers)
    await way(world)([sign_up("u1", age=7), sign_up("u2", age=8)])
    assert [await value(world, "u1", number) for number in (ACTIVE, FILLING)] == [7, None]
    assert announced(world) == [("u1", ACTIVE), ("u2", ACTIVE)]
    assert world.counted("foretaste_unfilled_total", reason="tower") == 2
    assert world.counted("foretaste_filled_total") == 0


@dataclass
class Overtaken(ChosenStore):
    """A store in which "u1" signs up anew between the attributes of a batch and the filling slot beside them."""

    async def write_virtual(self, users: Sequence[ReenrichedUser]) -> list[str]:
        await self.write_enriched([EnrichedUser("u1", {"age": 9}, None, NOW_MS + 5)])
        return await super().write_virtual(users)


async def test_what_the_store_refuses_beside_the_attributes_is_not_counted_as_filled() -> None:
    world = replace(await world_of(), store=Overtaken())
    await way(world)([sign_up("u1", age=7), sign_up("u2", offset=1, age=8)])
    assert [await value(world, user, FILLING) for user in ("u1", "u2")] == [None, 18]
    assert world.counted("foretaste_filled_total") == 1


async def test_what_is_not_finite_for_the_filling_generation_is_left_out_and_no_dead_letter() -> None:
    world = await world_of(TwoTowers(poison=True))
    await way(world)([sign_up("u1", age=7)])
    assert [await value(world, "u1", number) for number in (ACTIVE, FILLING)] == [7, None]
    assert world.counted("foretaste_unfilled_total", reason="non_finite") == 1
    assert world.events.of(world.names.dead_letters) == []


async def test_a_dead_letter_gets_nothing_of_either() -> None:
    world = await world_of()
    await way(world)([sign_up("poison", age=-1), sign_up("u1", age=7)])
    assert await value(world, "u1", FILLING) == 17
    assert (await world.features("poison", FILLING)).virtual is None
    assert len(world.events.of(world.names.dead_letters)) == 1


async def test_an_active_tower_that_is_away_still_stops_the_batch() -> None:
    world = await world_of(TwoTowers(outage=AWAY))
    with pytest.raises(Unavailable):
        await way(world)([sign_up("u1", age=7)])
    assert (await world.features("u1", FILLING)).virtual is None


@pytest.mark.parametrize("stopped", ["write_virtual", "write_enriched"])
async def test_stopped_between_the_writes_the_replay_leaves_what_belongs_together(
    stopped: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = await world_of()
    await way(world)([sign_up("u1", timestamp_ms=NOW_MS - 10, age=1)])

    async def away(*_: object) -> None:
        raise AWAY

    again = sign_up("u1", age=2)
    with monkeypatch.context() as patched:
        patched.setattr(world.store, stopped, away)
        with pytest.raises(Unavailable):
            await way(world)([again])
    await way(world)([again])
    assert [await value(world, "u1", number) for number in (ACTIVE, FILLING)] == [2, 12]


async def test_a_replay_fills_who_signed_up_before_and_writes_nothing_twice() -> None:
    world = await World(towers=TwoTowers()).activate()
    await way(world)([sign_up("u1", age=7)])
    await world.generations.record(generation(FILLING), {})
    await world.generations.fill(FILLING)
    await way(world)([sign_up("u1", age=7)])
    assert [await value(world, "u1", number) for number in (ACTIVE, FILLING)] == [7, 17]
    world.store.write_outage = world.towers.outage = AWAY
    await way(world)([sign_up("u1", age=7)])


async def test_a_re_enrichment_of_what_was_read_before_yields_to_the_sign_up() -> None:
    world = await world_of()
    await way(world)([sign_up("u1", timestamp_ms=NOW_MS - 10, age=1)])
    read = await world.features("u1", FILLING)
    await way(world)([sign_up("u1", age=2)])
    stale = VirtualBehaviour(FILLING, virtual_of({"age": 11}))
    await world.store.write_virtual([ReenrichedUser("u1", stale, read.as_of_ms + 1)])
    assert await value(world, "u1", FILLING) == 12


async def test_after_the_swap_the_next_batch_gets_the_new_generation_alone() -> None:
    world = await world_of()
    await way(world)([sign_up("u1", age=1)])
    await world.generations.activate(FILLING, ACTIVE)
    await way(world)([sign_up("u2", age=2)])
    assert world.towers.calls == [(1, ACTIVE), (1, FILLING), (1, FILLING)]
    assert announced(world) == [("u1", ACTIVE), ("u2", FILLING)]
    assert await value(world, "u2", ACTIVE) is None


async def test_after_a_rollback_to_the_slot_that_fills_a_sign_up_gets_what_was_announced() -> None:
    """Else the store would keep the filling generation's, which comes first, and drop the active one's."""
    world = await World(towers=TwoTowers()).activate()
    for number in (2, 3):
        await world.generations.record(generation(number), {})
    await world.generations.activate(2, 1)
    await world.generations.fill(3)
    await world.generations.activate(1, 2, "rollback")
    await way(world)([sign_up("u1", age=7)])
    assert announced(world) == [("u1", 1)]
    assert await value(world, "u1", 1) == 7


class StopsFilling(TwoTowers):
    """While the filling generation's tower computes, `stop` is awaited: the batch knows the pointers of before."""

    stop: Callable[[], Awaitable[object]]

    async def virtual_behaviour(self, attributes: Sequence[Attributes], generation: int) -> FloatArray:
        answer = await super().virtual_behaviour(attributes, generation)
        if generation != ACTIVE:
            await self.stop()
        return answer


async def test_what_stops_filling_while_a_batch_is_on_its_way_costs_the_active_one_nothing() -> None:
    towers = StopsFilling()
    world = await world_of(towers)
    towers.stop = partial(world.generations.fill, None)
    await way(world)([sign_up("u1", age=7)])
    assert [await value(world, "u1", number) for number in (ACTIVE, FILLING)] == [7, 17]
    await way(world)([sign_up("u2", offset=1, age=8)])
    assert [await value(world, "u2", number) for number in (ACTIVE, FILLING)] == [8, None]
    assert announced(world) == [("u1", ACTIVE), ("u2", ACTIVE)]
    assert towers.calls == [(1, ACTIVE), (1, FILLING), (1, ACTIVE)]
