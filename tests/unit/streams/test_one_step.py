"""Both ways of a user on a store that does the usual case in one step: they end as on any other store."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from foretaste.kernel.errors import Unavailable
from foretaste.kernel.events import Message, UserEnriched
from foretaste.kernel.users import BehavedUser, Behaviour
from foretaste.testing import InMemoryOnlineStore
from streams.behaviours import Behaviours
from streams.profiles.profile import ReadProfiles
from streams.sign_ups import SignUps
from streams.worker.dead_letters import read_dead_letter
from tests.profile_parts import InMemoryHistory
from tests.stream_parts import NOW, NOW_MS, ChosenOneStepStore, ChosenStore, World, generation, message, sign_up

AWAY = Unavailable("a part", "chosen by the test")
START_MS = NOW_MS - 3_600_000
"""Times of acts count from it."""


@dataclass
class OneStepWorld(World):
    store: ChosenOneStepStore = field(default_factory=ChosenOneStepStore)


def behaviours(world: World) -> Behaviours:
    return Behaviours(
        world.parts,
        world.dead_letters,
        world.metrics,
        unknown_items="keep",
        max_event_bytes=2000,
        now=lambda: NOW + 10,
    )


def sign_ups(world: World) -> SignUps:
    return SignUps(
        world.parts,
        world.dead_letters,
        world.metrics,
        enriched_topic=world.names.enriched,
        profiles_topic=world.names.profiles,
        max_event_bytes=2000,
        now=lambda: NOW,
    )


def act(user: int, item: str, at_ms: int, offset: int, event_id: str | None = None) -> Message:
    value = {
        "user_id": f"u{user}",
        "item_id": item,
        "at": (START_MS + at_ms) / 1000,
        "action": "rated",
        "event_id": event_id,
    }
    return message(value, key=f"u{user}".encode(), topic="user-behaved", offset=offset, timestamp_ms=NOW_MS + offset)


async def ended(world: World, batches: Sequence[Sequence[Message]]) -> list[Any]:
    way = behaviours(world)
    for batch in batches:
        await way(batch)
    held = await InMemoryOnlineStore.read_behaviour(world.store, ["u0", "u1"])
    return [(each.behaviour.items, each.behaviour.actions, each.behaviour.times, each.applied) for each in held]


acts = st.lists(
    st.tuples(st.integers(0, 1), st.sampled_from("abc"), st.integers(0, 60), st.sampled_from([None, None, "e1", "e2"])),
    max_size=150,
)


@given(acts, st.integers(1, 40), st.integers(0, 150))
async def test_behaviours_end_as_on_any_store_however_they_are_batched_and_replayed(
    events: list[tuple[int, str, int, str | None]], size: int, start: int
) -> None:
    records = [act(user, item, at_ms, place, name) for place, (user, item, at_ms, name) in enumerate(events)]
    batches = [records[first : first + size] for first in range(0, len(records), size)]
    batches.append(records[max(start, len(records) - 20) :])
    one_step, read_first = await ended(OneStepWorld(), batches), await ended(World(), batches)
    for (*columns, applied), (*other_columns, other_applied) in zip(one_step, read_first, strict=True):
        assert [list(each) for each in columns] == [list(each) for each in other_columns]
        assert applied == other_applied


async def test_behaviours_that_rise_in_time_are_never_read() -> None:
    world = OneStepWorld()
    way = behaviours(world)
    await way([act(each % 2, "a", 1000 + each, each) for each in range(10)])
    await way([act(0, "b", 2000, 20), act(1, "b", 2000, 21)])
    assert (world.store.steps, world.store.reads, world.store.writes) == (2, 0, 0)
    assert [(await world.features(f"u{each}")).behaviour_version for each in (0, 1)] == [2, 2]


async def test_whom_the_store_left_out_is_read_alone() -> None:
    world = OneStepWorld()
    way = behaviours(world)
    await way([act(0, "a", 1000, 0), act(1, "a", 1000, 1)])
    await way([act(0, "b", 500, 2), act(1, "b", 2000, 3)])
    assert (world.store.steps, world.store.reads, world.store.writes) == (2, 1, 1)
    assert list((await world.features("u0")).behaviour.items) == ["b", "a"]
    assert list((await world.features("u1")).behaviour.items) == ["a", "b"]


async def test_what_does_not_rise_or_comes_twice_in_a_batch_is_read_at_once() -> None:
    world = OneStepWorld()
    await behaviours(world)([act(0, "a", 1000, 0, "e1"), act(0, "a", 2000, 1, "e1")])
    await behaviours(world)([act(1, "b", 1000, 2), act(1, "a", 1000, 3)])
    assert (world.store.steps, world.store.reads) == (0, 2)
    assert list((await world.features("u0")).behaviour.items) == ["a"]
    assert list((await world.features("u1")).behaviour.items) == ["b", "a"]


async def test_behaviours_wait_while_the_step_is_not_answered() -> None:
    world = OneStepWorld()
    world.store.write_outage = AWAY
    with pytest.raises(Unavailable):
        await behaviours(world)([act(0, "a", 1000, 0)])
    world.store.write_outage = None
    await behaviours(world)([act(0, "a", 1000, 0)])
    assert list((await world.features("u0")).behaviour.items) == ["a"]


def announced(world: World) -> list[str]:
    sent = world.events.of(world.names.enriched)
    return [UserEnriched.model_validate_json(each.value or b"").user_id for each in sent]


async def seen(store: ChosenStore, user_id: str, count: int) -> None:
    behaviour = Behaviour(["i"] * count, ["acted"] * count, list(range(count)))
    await InMemoryOnlineStore.write_behaviour(store, [BehavedUser(user_id, behaviour)])


async def test_new_users_are_never_read() -> None:
    world = await OneStepWorld().activate()
    await sign_ups(world)([sign_up(f"u{each}", offset=each, age=each) for each in range(30)])
    assert (world.store.steps, world.store.reads, world.store.writes) == (1, 0, 0)
    assert world.towers.calls == [(30, 1)]
    assert announced(world) == [f"u{each}" for each in range(30)]
    assert world.counted("foretaste_sign_ups_total", state="cold") == 30
    features = await world.features("u7")
    assert features.attributes == {"age": 7}
    assert features.virtual is not None
    np.testing.assert_array_equal(features.virtual.vectors, np.full((2, 3), 7, np.float32))


ages = st.tuples(st.integers(0, 3), st.integers(-1, 5), st.integers(0, 3))


@given(st.lists(ages, max_size=25), st.integers(1, 10), st.sets(st.integers(0, 3)))
async def test_sign_ups_end_as_on_any_store(events: list[tuple[int, int, int]], size: int, warm: set[int]) -> None:
    """Users new and known, warm and cold, several times in a batch, an age of -1 for what is not finite."""
    records = [
        sign_up(f"u{user}", offset=place, timestamp_ms=NOW_MS - 10 + later, age=age)
        for place, (user, age, later) in enumerate(events)
    ]
    found = []
    for world in (OneStepWorld(), World()):
        await world.activate()
        for user in warm:
            await seen(world.store, f"u{user}", 3)
        way = sign_ups(world)
        for first in range(0, len(records), size):
            await way(records[first : first + size])
        stored = [await world.features(f"u{user}") for user in range(4)]
        letters = sorted(
            read_dead_letter(each).message.origin.offset for each in world.events.of(world.names.dead_letters)
        )
        dropped = world.counted("foretaste_events_dropped_total", way="sign-up", reason="not_newer")
        told = InMemoryHistory(world.names.profiles, {0: []})
        told.add_all(world.events.of(world.names.profiles))
        profiles = ReadProfiles.of(told.partitions[0])
        found.append(
            (
                [(each.attributes, each.attributes_version, each.virtual_ms) for each in stored],
                [each.virtual is None or each.virtual.vectors.tolist() for each in stored],
                sorted(announced(world)),
                letters,
                dropped,
                {user_id: (each.attributes, each.attributes_version) for user_id, each in profiles.users.items()},
            )
        )
        assert found[-1][-1] == {
            each.user_id: (each.attributes, each.attributes_version) for each in stored if each.attributes
        }
    assert found[0] == found[1]


async def test_where_most_are_known_all_are_read_until_most_are_new_again() -> None:
    world = await OneStepWorld().activate()
    way = sign_ups(world)
    known = [sign_up(f"u{each}", offset=each, age=1) for each in range(4)]
    new = [sign_up(f"n{each}", offset=10 + each, age=1) for each in range(4)]
    later = [sign_up(f"m{each}", offset=20 + each, age=1) for each in range(4)]
    for batch, steps in ((known, 1), (known, 2), (known, 2), (new, 2), (later, 3)):
        await way(batch)
        assert world.store.steps == steps


async def test_a_warm_user_needs_no_tower() -> None:
    world = await OneStepWorld().activate()
    await seen(world.store, "warm", 3)
    world.towers.outage = AWAY
    await sign_ups(world)([sign_up("warm", age=3)])
    assert (await world.features("warm")).attributes == {"age": 3}
    with pytest.raises(Unavailable):
        await sign_ups(world)([sign_up("new", age=3)])


async def test_while_a_generation_is_filling_all_are_read() -> None:
    world = await OneStepWorld().activate()
    await world.generations.record(generation(number=2), {"known": 1.0})
    await world.generations.fill(2)
    await sign_ups(world)([sign_up("u1", age=3)])
    assert world.store.steps == 0
    for number in (1, 2):
        assert (await world.features("u1", number)).virtual is not None
