"""The first registration of a user, as the way of sign-ups stores and records it: on each kind of store."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial

import pytest

from foretaste.kernel.event_order import AttributesVersion, Place
from foretaste.kernel.events import Message, UserProfile
from foretaste.kernel.running.erasing import ErasedUser
from foretaste.kernel.users import EnrichedUser
from streams.profiles.profile import registered_user
from tests.stream_parts import NOW_MS, ChosenOneStepStore, ChosenStore, PlacelessStore, World
from tests.unit.streams.test_sign_ups import enriched, made_from, profiles, registered_at, way

STORES = {"with reads": ChosenStore, "in one step": ChosenOneStepStore, "times alone": PlacelessStore}


@pytest.fixture(params=STORES)
async def world(request: pytest.FixtureRequest) -> World:
    store: type[ChosenStore] = STORES[request.param]
    return await World(store=store()).activate()


def at(ago_ms: int, offset: int) -> Message:
    """A sign-up of "u1" so long ago, whose age is its offset."""
    return registered_at("u1", NOW_MS - ago_ms, offset, age=offset)


async def erase(world: World, ago_ms: int) -> None:
    """Erase "u1" as of so long ago."""
    at_ms = NOW_MS - ago_ms
    await world.store.erase(
        [ErasedUser("u1", AttributesVersion(at_ms, Place("user-erased-0", 1, at_ms), (b"erasure1",)))]
    )


@pytest.mark.parametrize("together", [True, False])
async def test_the_first_registration_stays_whatever_comes_after_it_and_however_it_is_batched(
    world: World, together: bool
) -> None:
    messages = [registered_at("u1", NOW_MS - ago, offset) for offset, ago in enumerate((9000, 5000, 7000))]
    for batch in [messages] if together else [[each] for each in messages]:
        await way(world)(batch)
    stored = await world.features("u1")
    assert (stored.attributes_ms, stored.registered_ms) == (NOW_MS - 5000, NOW_MS - 9000)
    profile = UserProfile.model_validate_json(world.events.of(world.names.profiles)[-1].value or b"")
    assert registered_user(profile).registered_ms == NOW_MS - 9000, "a rebuild finds it again"


async def test_a_replay_of_the_newest_registration_tells_of_the_first_again(world: World) -> None:
    messages = [registered_at("u1", NOW_MS - ago, offset) for offset, ago in enumerate((9000, 5000))]
    await way(world)(messages)
    await way(world)(messages[1:])
    profile = UserProfile.model_validate_json(world.events.of(world.names.profiles)[-1].value or b"")
    assert registered_user(profile).registered_ms == NOW_MS - 9000


def told_first(world: World) -> list[int | None]:
    """When "u1" registered first, as each profile tells it."""
    return [registered_user(profile).registered_ms for _, profile in profiles(world)]


@pytest.mark.parametrize("claimed", [True, False], ids=["claimed", "by Kafka"])
async def test_a_sign_up_that_comes_late_is_the_first_registration_and_a_profile_tells_so(
    world: World, claimed: bool
) -> None:
    older, newer = (
        registered_at("u1", at_ms if claimed else None, offset, at_ms, age=age)
        for at_ms, offset, age in ((NOW_MS - 9000, 3, 1), (NOW_MS - 5000, 1, 2))
    )
    await way(world)([newer])
    await way(world)([older])
    stored = await world.features("u1")
    assert (stored.attributes_ms, stored.registered_ms) == (NOW_MS - 5000, NOW_MS - 9000)
    assert await made_from(world) == {"age": 2}
    assert told_first(world) == [NOW_MS - 5000, NOW_MS - 9000]
    assert registered_user(profiles(world)[-1][1]).attributes_version == stored.attributes_version
    writes = world.store.writes
    await way(world)([older])
    assert world.store.writes == writes, "read again it costs no write"
    assert told_first(world)[-1] == NOW_MS - 9000


@pytest.mark.parametrize("newest_last", [True, False])
async def test_one_that_comes_late_in_a_batch_with_a_newer_one_is_the_first(world: World, newest_last: bool) -> None:
    batch = [registered_at("u1", NOW_MS - 9000, 2, age=1), registered_at("u1", NOW_MS - 1000, 3, age=2)]
    await way(world)([registered_at("u1", NOW_MS - 5000, 1)])
    await way(world)(batch if newest_last else batch[::-1])
    stored = await world.features("u1")
    assert (stored.attributes_ms, stored.registered_ms) == (NOW_MS - 1000, NOW_MS - 9000)
    assert await made_from(world) == {"age": 2}
    assert told_first(world) == [NOW_MS - 5000, NOW_MS - 9000]
    assert [event.user_id for event in enriched(world)] == ["u1", "u1"]


@pytest.mark.parametrize("together", [True, False])
async def test_one_from_before_the_erasure_is_not_the_first_of_who_is_back(world: World, together: bool) -> None:
    await erase(world, 7000)
    await way(world)([registered_at("u1", NOW_MS - 5000, 1)])
    late, newest = registered_at("u1", NOW_MS - 9000, 2, age=1), registered_at("u1", NOW_MS - 1000, 3, age=2)
    for batch in ([late, newest],) if together else ([late], [newest]):
        await way(world)(batch)
    stored = await world.features("u1")
    assert (stored.attributes_ms, stored.registered_ms) == (NOW_MS - 1000, NOW_MS - 5000)
    assert set(told_first(world)) == {NOW_MS - 5000}, "nothing of before the erasure is told"


@pytest.mark.parametrize("together", [True, False])
async def test_a_replay_over_an_erasure_is_announced_each_time(world: World, together: bool) -> None:
    """The store refuses the one from before the erasure each time, which holds the other up no time."""
    await erase(world, 7000)
    batch = [at(9000, 1), at(5000, 2)]
    told = 0
    for _ in range(2):
        for each in [batch] if together else [[each] for each in batch]:
            await way(world)(each)
        assert (await world.features("u1")).registered_ms == NOW_MS - 5000
        assert len(enriched(world)) == len(profiles(world)) > told
        told = len(profiles(world))
        assert set(told_first(world)) == {NOW_MS - 5000}, "nothing of before the erasure is told"


@pytest.mark.parametrize("before", [0, 1], ids=["the newest among them", "the newest before them"])
async def test_of_a_batch_over_an_erasure_the_earliest_after_it_is_the_first(world: World, before: int) -> None:
    await erase(world, 7000)
    batch = [at(1000, 3), at(9000, 1), at(3000, 2), at(5000, 4)]
    if before:
        await way(world)([batch.pop(0)])
    await way(world)(batch)
    stored = await world.features("u1")
    assert (stored.attributes_ms, stored.registered_ms) == (NOW_MS - 1000, NOW_MS - 5000)
    assert await made_from(world) == {"age": 3}
    assert told_first(world)[before:] == [NOW_MS - 5000]


async def test_a_sign_up_that_was_written_is_not_dropped_for_a_first_registration_beside_it(world: World) -> None:
    await way(world)([at(5000, 1)])
    await way(world)([at(9000, 2), at(1000, 3)])
    assert world.counted("foretaste_events_dropped_total", way="sign-up", reason="not_newer") == 1


@dataclass
class Followed(ChosenStore):
    """A store in which another worker's registration comes right behind a write."""

    follower: EnrichedUser | None = None

    async def write_enriched(self, users: Sequence[EnrichedUser]) -> list[str]:
        refused = await super().write_enriched(users)
        if self.follower is not None:
            await super().write_enriched([self.follower])
        return refused


@pytest.mark.parametrize("erased", [False, True])
async def test_the_record_of_a_late_one_tells_what_stands_by_then(erased: bool) -> None:
    """Another worker's record of it may lie before this one: the last one counts."""
    store = Followed()
    world = await World(store=store).activate()
    await way(world)([at(5000, 1)])
    place = Place("user-registered-5", 2, NOW_MS)
    store.follower = EnrichedUser("u1", {"age": 9}, None, NOW_MS, place, (b"follower",))
    if erased:
        store.write_enriched = partial(_erased_behind, world, store.write_enriched)  # type: ignore[method-assign]
    await way(world)([at(9000, 2), at(1000, 3)])
    told = [(profile.attributes, registered_user(profile).registered_ms) for _, profile in profiles(world)]
    assert told[1:] == ([] if erased else [({"age": 9}, NOW_MS - 9000)])


async def _erased_behind(
    world: World, write: Callable[[Sequence[EnrichedUser]], Awaitable[list[str]]], users: Sequence[EnrichedUser]
) -> list[str]:
    refused = await write(users)
    await erase(world, -1)
    return refused
