"""`user-profiles` filled from the online store, while workers sign users up."""

from collections.abc import Sequence
from dataclasses import replace

from foretaste.kernel.event_order import AttributesVersion, Place
from foretaste.kernel.running.erasing import ErasedUser
from foretaste.kernel.users import BehavedUser, Behaviour, EnrichedUser, UserFeatures
from foretaste.testing import InMemoryOnlineStore
from streams.profiles.profile import ReadProfiles
from streams.profiles.stored_profiles import PAGE, record_stored
from tests.profile_parts import InMemoryHistory
from tests.stream_parts import NOW_MS, World


class SigningUp(InMemoryOnlineStore):
    """A store in which user u1 signs up again just after the first read of it."""

    async def read(self, user_ids: Sequence[str], generation: int) -> list[UserFeatures]:
        found = await super().read(user_ids, generation)
        await self.write_enriched([EnrichedUser("u1", {"age": 99}, None, NOW_MS + 1)])
        return found


class Erasing(InMemoryOnlineStore):
    """A store in which user u1 is erased just after the first read of it."""

    async def read(self, user_ids: Sequence[str], generation: int) -> list[UserFeatures]:
        found = await super().read(user_ids, generation)
        await self.erase([ErasedUser("u1", AttributesVersion(NOW_MS + 1))])
        return found


def profiles(world: World) -> dict[str, UserFeatures]:
    history = InMemoryHistory("p")
    history.add_all(world.events.of("p"))
    last = {each.key: each for each in history.partitions[0]}  # what compaction leaves
    return ReadProfiles.of(list(last.values())).users


async def test_every_stored_registration_is_produced() -> None:
    world = World()
    count = 2 * PAGE + 3
    rows = [
        EnrichedUser(f"u{each}", {"age": each}, None, NOW_MS, Place("r-0", each, 1), (b"12345678",))
        for each in range(count)
    ]
    await world.store.write_enriched(rows)
    await world.store.write_behaviour([BehavedUser("unregistered", Behaviour(["i"], ["acted"], [1]))])
    assert await record_stored(world.parts, "p") == count
    stored = await world.store.read([row.user_id for row in rows], 1)
    produced = profiles(world)
    assert [produced[each.user_id] for each in stored] == stored
    assert "unregistered" not in profiles(world)


async def test_who_signs_up_meanwhile_is_the_last_record() -> None:
    world, store = World(), SigningUp()
    await store.write_enriched([EnrichedUser("u1", {"age": 1}, None, NOW_MS)])
    await record_stored(replace(world.parts, store=store), "p")
    assert [each.attributes for each in profiles(world).values()] == [{"age": 99}]


async def test_who_is_erased_meanwhile_has_a_null_value_last() -> None:
    world, store = World(), Erasing()
    await store.write_enriched([EnrichedUser(user, {"age": 1}, None, NOW_MS) for user in ("u1", "u2")])
    await record_stored(replace(world.parts, store=store), "p")
    assert list(profiles(world)) == ["u2"]
    assert [each.value is None for each in world.events.of("p") if each.key == b"u1"] == [False, True]
