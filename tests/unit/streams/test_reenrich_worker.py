"""The way of re-enrichment, step by step, on parts in memory."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import pytest
from aiolimiter import AsyncLimiter

from foretaste.kernel.errors import BadTowerOutput, Unavailable
from foretaste.kernel.events import Message, Reason, ReenrichUsers
from foretaste.kernel.users import BehavedUser, Behaviour, EnrichedUser, ReenrichedUser, UserFeatures, VirtualBehaviour
from streams.reenrich_worker import LARGEST_SHARE, SHARE, Pages, pace_of, shares
from streams.worker.dead_letters import read_dead_letter
from tests.stream_parts import NOW_MS, ChosenStore, World, generation, message, virtual_of

AWAY = Unavailable("a part", "chosen by the test")
OLD, NEW = 1, 2


def page(*users: str, number: int = NEW) -> Message:
    event = ReenrichUsers(generation=number, user_ids=users)
    return message(event.model_dump_json().encode(), key=None, topic="user-reenrich")


def way(world: World, pace: AsyncLimiter | None = None) -> Pages:
    return Pages(world.parts, world.dead_letters, world.metrics, pace=pace)


async def world_of(users: Sequence[str], age: int = 7, warm_after: int = 3) -> World:
    """Generation 2 is filling; the users signed up before, with virtual behaviour of generation 1."""
    world = await World().activate()
    virtual = VirtualBehaviour(OLD, virtual_of({"age": age}))
    await world.store.write_enriched([EnrichedUser(user, {"age": age}, virtual, NOW_MS) for user in users])
    await world.generations.record(generation(NEW, warm_after), {})
    await world.generations.fill(NEW)
    world.store.reads = world.store.writes = 0
    return world


async def seen(world: World, user_id: str, count: int) -> None:
    behaviour = Behaviour(["i"] * count, ["acted"] * count, list(range(count)))
    await world.store.write_behaviour([BehavedUser(user_id, behaviour)])
    world.store.writes = 0


async def has_both(world: World, *users: str) -> bool:
    held = [await world.features(user, number) for user in users for number in (OLD, NEW)]
    return all(
        generation(number).virtual_of(each) is not None
        for each, number in zip(held, (OLD, NEW) * len(users), strict=True)
    )


def outcomes(world: World) -> dict[str, int]:
    names = ("made", "refused", "not_needed", "unknown", "non_finite", "dropped")
    found = {each: int(world.counted("foretaste_reenriched_total", outcome=each)) for each in names}
    return {name: count for name, count in found.items() if count}


async def test_a_page_is_one_read_one_pinned_call_and_one_write() -> None:
    users = [f"u{each}" for each in range(SHARE)]
    world = await world_of(users)
    await way(world)([page(*users)])
    assert world.towers.calls == [(SHARE, NEW)]
    assert (world.store.reads, world.store.writes) == (1, 1)
    assert await has_both(world, *users)
    features = await world.features("u0", NEW)
    assert (features.attributes_ms, features.virtual_ms) == (NOW_MS, NOW_MS + 1)
    assert outcomes(world) == {"made": SHARE}


async def test_who_needs_none_is_left_out() -> None:
    world = await world_of(["cold", "warming", "warm", "has it"])
    await seen(world, "warming", 2)
    await seen(world, "warm", 3)
    current = VirtualBehaviour(NEW, virtual_of({"age": 50}))
    await world.store.write_virtual([ReenrichedUser("has it", current, NOW_MS)])
    await way(world)([page("cold", "warming", "warm", "has it", "nobody")])
    assert world.towers.calls == [(2, NEW)]
    assert await has_both(world, "cold", "warming")
    assert (await world.features("warm", NEW)).virtual is None
    assert (await world.features("nobody", NEW)).virtual is None
    kept = (await world.features("has it", NEW)).virtual
    assert kept is not None
    assert kept.vectors[0, 0] == 50
    assert outcomes(world) == {"made": 2, "not_needed": 2, "unknown": 1}


async def test_virtual_behaviour_older_than_the_attributes_is_made_again() -> None:
    world = await world_of(["u1"])
    stale = VirtualBehaviour(NEW, virtual_of({"age": 50}))
    await world.store.write_virtual([ReenrichedUser("u1", stale, NOW_MS - 5)])
    await way(world)([page("u1")])
    made = generation(NEW).virtual_of(await world.features("u1", NEW))
    assert made is not None
    assert made.vectors[0, 0] == 7


async def test_the_slot_of_an_older_generation_of_the_same_parity_is_written_over() -> None:
    world = await world_of(["u1"])
    await way(world)([page("u1")])
    await world.generations.activate(NEW, OLD)
    await world.generations.record(generation(3), {})
    await world.generations.fill(3)
    await way(world)([page("u1", number=3)])
    assert generation(3).virtual_of(await world.features("u1", 3)) is not None


async def test_many_pages_share_calls_and_stay_small() -> None:
    users = [f"u{each}" for each in range(1000)]
    world = await world_of(users)
    await way(world)([page(*users[start : start + 10]) for start in range(0, 1000, 10)] + [page(*users[:10])])
    assert world.towers.calls == [(250, NEW)] * 4
    assert outcomes(world) == {"made": 1000}


@dataclass
class Overtaken(ChosenStore):
    """A store in which "u1" signs up anew between the read and the write of a page."""

    async def read(self, user_ids: Sequence[str], generation: int) -> list[UserFeatures]:
        found = await super().read(user_ids, generation)
        await self.write_enriched([EnrichedUser("u1", {"age": 9}, None, NOW_MS + 5)])
        return found


async def test_what_the_store_refuses_is_not_counted_as_made() -> None:
    world = replace(await world_of(["u1", "u2"]), store=Overtaken())
    for user in ("u1", "u2"):
        await world.store.write_enriched([EnrichedUser(user, {"age": 7}, None, NOW_MS)])
    await way(world)([page("u1", "u2")])
    assert (await world.features("u1", NEW)).virtual is None
    assert outcomes(world) == {"made": 1, "refused": 1}


@pytest.mark.parametrize("number", [3, 4], ids=["never recorded", "in the same slot"])
async def test_a_page_of_a_generation_that_is_not_in_use_is_dropped(number: int) -> None:
    world = await world_of(["u1", "u2"])
    await way(world)([page("u1", "u2", number=number), page("u1")])
    assert outcomes(world) == {"made": 1, "dropped": 2}
    assert world.towers.calls == [(1, NEW)]


async def test_a_page_that_outlives_the_swap_is_handled_and_one_that_outlives_a_rollback_is_dropped() -> None:
    world = await world_of(["u1", "u2"])
    await world.generations.activate(NEW, OLD)
    await way(world)([page("u1")])
    await world.generations.activate(OLD, NEW)
    await way(world)([page("u2")])
    assert outcomes(world) == {"made": 1, "dropped": 1}


async def test_what_is_not_finite_is_counted_and_not_written() -> None:
    world = await world_of(["good"])
    await world.store.write_enriched([EnrichedUser("poison", {"age": -1}, None, NOW_MS)])
    await way(world)([page("good", "poison")])
    assert await has_both(world, "good")
    assert (await world.features("poison", NEW)).virtual is None
    assert outcomes(world) == {"made": 1, "non_finite": 1}
    assert world.events.sent == []


@pytest.mark.parametrize(
    ("value", "reason", "detail"),
    [
        (b"{", Reason.MALFORMED, "value: "),
        (None, Reason.MALFORMED, "value: "),
        ({"generation": 0, "user_ids": []}, Reason.INVALID, "generation: "),
        ({"generation": 2, "user_ids": [""]}, Reason.INVALID, "user_ids.0: "),
        ({"user_ids": []}, Reason.INVALID, "generation: "),
    ],
)
async def test_a_bad_page_is_a_dead_letter_and_the_others_go_on(value: object, reason: Reason, detail: str) -> None:
    world = await world_of(["u1"])
    bad = message(value, key=None, topic="user-reenrich", offset=4)
    await way(world)([bad, page("u1")])
    (letter,) = [read_dead_letter(each) for each in world.events.of(world.names.dead_letters)]
    assert (letter.message, letter.reason) == (bad, reason)
    assert letter.detail.startswith(detail)
    assert await has_both(world, "u1")


def at_the_generations(world: World) -> None:
    async def away() -> None:
        raise AWAY

    world.generations.serving = away  # type: ignore[assignment,method-assign]


def at_the_read(world: World) -> None:
    world.store.read_outage = AWAY


def at_the_tower(world: World) -> None:
    world.towers.outage = AWAY


def at_the_output(world: World) -> None:
    world.towers.outage = BadTowerOutput("chosen by the test")


def at_the_shape(world: World) -> None:
    world.towers.shape = (1, 2, 4)


def at_the_write(world: World) -> None:
    world.store.write_outage = AWAY


def at_the_dead_letters(world: World) -> None:
    world.events.outage = AWAY


STOPS = [
    at_the_generations,
    at_the_read,
    at_the_tower,
    at_the_output,
    at_the_shape,
    at_the_write,
    at_the_dead_letters,
]


@pytest.mark.parametrize("stop", STOPS, ids=lambda stop: stop.__name__)
async def test_stopping_at_any_step_is_retriable_and_repeating_is_harmless(stop: Callable[[World], None]) -> None:
    world = await world_of(["a", "b"])
    batch = [page("a", "b"), message(b"{", key=None)]
    usual = world.generations.serving
    stop(world)
    with pytest.raises(Unavailable):
        await way(world)(batch)
    assert world.events.sent == []

    world.generations.serving = usual  # type: ignore[method-assign]
    world.store.read_outage = world.store.write_outage = world.towers.outage = world.events.outage = None
    world.towers.shape = None
    await way(world)(batch)
    assert await has_both(world, "a", "b")
    once = await world.features("a", NEW)
    await way(world)(batch)
    assert (await world.features("a", NEW)).virtual_ms == once.virtual_ms
    assert outcomes(world)["made"] == 2


async def test_a_sign_up_between_the_read_and_the_write_is_not_undone() -> None:
    world = await world_of(["u1"])
    usual = world.towers.virtual_behaviour

    async def meanwhile(attributes: Sequence[dict[str, object]], number: int) -> object:
        newer = VirtualBehaviour(NEW, virtual_of({"age": 40}))
        await world.store.write_enriched([EnrichedUser("u1", {"age": 40}, newer, NOW_MS + 500)])
        return await usual(attributes, number)  # type: ignore[arg-type]

    world.towers.virtual_behaviour = meanwhile  # type: ignore[assignment,method-assign]
    await way(world)([page("u1")])
    held = generation(NEW).virtual_of(await world.features("u1", NEW))
    assert held is not None
    assert held.vectors[0, 0] == 40


async def test_shares_overlap_and_no_more_than_a_few_are_on_their_way() -> None:
    users = [f"u{each}" for each in range(20 * SHARE)]
    world = await world_of(users)
    usual = world.towers.virtual_behaviour
    now, most = 0, 0

    async def counting(attributes: Sequence[dict[str, object]], number: int) -> object:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(0)
        now -= 1
        return await usual(attributes, number)  # type: ignore[arg-type]

    world.towers.virtual_behaviour = counting  # type: ignore[assignment,method-assign]
    await way(world)([page(*users)])
    assert 1 < most <= 3
    assert outcomes(world) == {"made": len(users)}


async def test_the_pace_is_that_of_users() -> None:
    rate = 10.0 * SHARE
    users = [f"u{each}" for each in range(4 * SHARE)]
    world = await world_of(users)
    loop = asyncio.get_running_loop()
    began = loop.time()
    await way(world, pace_of(rate))([page(*users)])
    assert loop.time() - began >= (len(users) - LARGEST_SHARE) / rate - 0.001
    assert outcomes(world) == {"made": len(users)}


async def test_a_share_that_waits_for_its_turn_can_be_cancelled() -> None:
    users = [f"u{each}" for each in range(4 * SHARE)]
    world = await world_of(users)
    running = asyncio.create_task(way(world, pace_of(0.001))([page(*users)]))
    done, _ = await asyncio.wait({running}, timeout=0.2)
    assert not done
    running.cancel()
    async with asyncio.timeout(5):
        with pytest.raises(asyncio.CancelledError):
            await running
    assert outcomes(world) == {"made": SHARE}


@pytest.mark.parametrize(
    ("users", "sizes"), [(0, [0]), (1, [1]), (256, [256]), (260, [260]), (513, [256, 257]), (383, [383])]
)
def test_shares_are_even(users: int, sizes: list[int]) -> None:
    assert [len(share) for share in shares([str(each) for each in range(users)])] == sizes
    assert max(sizes) <= LARGEST_SHARE
    assert [user for share in shares([str(each) for each in range(users)]) for user in share] == [
        str(each) for each in range(users)
    ]
