"""An import on parts in memory: written once, produced for a rebuild, and gone on with where it was cut short."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import pytest

from foretaste.kernel.errors import Unavailable
from foretaste.kernel.event_order import AttributesVersion
from foretaste.kernel.running.erasing import ErasedUser
from foretaste.kernel.users import Behaviour, EnrichedUser, UserFeatures
from foretaste.testing import InMemoryCheckpoint, InMemoryOnlineStore, InMemoryWholeUserStore
from streams.profiles.profile import ReadProfiles
from streams.profiles.user_import import BLOCK, ImportedUsers, UserImport
from tests.profile_parts import InMemoryHistory
from tests.stream_parts import NOW_MS, World, virtual_of

COUNT = 2 * BLOCK + 100


@dataclass
class GivenUsers:
    """Users in memory, who fall away behind the place `ends`."""

    users: list[UserFeatures]
    starts: list[int] = field(default_factory=list)
    fails_at: int | None = None

    def __len__(self) -> int:
        return len(self.users)

    def blocks(self, start: int, size: int) -> Iterator[list[UserFeatures]]:
        self.starts.append(start)
        for first in range(start, len(self), size):
            if self.fails_at is not None and first >= self.fails_at:
                raise Unavailable("users", "chosen by the test")
            yield self.users[first : first + size]


def users(count: int = COUNT) -> GivenUsers:
    def behaviour(number: int) -> Behaviour:
        seen = number % 5
        return Behaviour([f"i{each}" for each in range(seen)], ["acted"] * seen, list(range(1, seen + 1)))

    return GivenUsers(
        [UserFeatures(f"u{each}", {"age": each}, behaviour(each), attributes_ms=NOW_MS) for each in range(count)]
    )


@dataclass
class Imported:
    world: World = field(default_factory=World)
    store: InMemoryOnlineStore = field(default_factory=InMemoryWholeUserStore)
    checkpoint: InMemoryCheckpoint = field(default_factory=InMemoryCheckpoint)

    async def run(self, given: GivenUsers) -> ImportedUsers:
        parts = replace(self.world.parts, store=self.store)
        return await UserImport(parts, self.checkpoint, "user-profiles").run(given)

    async def read(self, given: GivenUsers) -> list[UserFeatures]:
        return await self.store.read([each.user_id for each in given.users], 1)

    def profiles(self) -> dict[str, UserFeatures]:
        history = InMemoryHistory("user-profiles")
        history.add_all(self.world.events.of("user-profiles"))
        return ReadProfiles.of(history.partitions[0]).users


async def test_all_are_there_and_a_rebuild_finds_them() -> None:
    imported = Imported(await World().activate())
    given = users()
    found = await imported.run(given)
    read = await imported.read(given)
    assert [each.attributes for each in read] == [each.attributes for each in given.users]
    assert [list(each.behaviour.items) for each in read] == [list(each.behaviour.items) for each in given.users]
    assert [each.virtual is None for each in read] == [each % 5 >= 3 for each in range(COUNT)]
    assert read[1].virtual is not None
    assert read[1].virtual.vectors.tolist() == virtual_of({"age": 1}).tolist()
    profiles = imported.profiles()
    assert [profiles[each.user_id].attributes_version for each in read] == [each.attributes_version for each in read]
    assert (found.new, found.behaviours) == (COUNT, sum(len(each.behaviour) for each in given.users))


class ErasingMeanwhile(InMemoryWholeUserStore):
    """A store in which user u1 is erased just after the first write, before the profile is produced."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self._world = world

    async def write_whole(self, users: Sequence[UserFeatures]) -> list[str]:
        there = await super().write_whole(users)
        if "u1" in {user.user_id for user in users} - set(there):
            await self.erase([ErasedUser("u1", AttributesVersion(NOW_MS + 1))])
            await self._world.last_erasure.change()
        return there


async def test_who_is_erased_meanwhile_or_before_has_a_null_value_last() -> None:
    world = await World().activate()
    imported = Imported(world, ErasingMeanwhile(world))
    for nulls in (1, 2):
        await imported.run(users(5))
        assert sorted(imported.profiles()) == ["u0", "u2", "u3", "u4"]
        assert sum(each.value is None for each in world.events.of("user-profiles")) == nulls


async def test_twice_is_once() -> None:
    imported = Imported(await World().activate())
    given = users(300)
    await imported.run(given)
    once = [str(each) for each in await imported.read(given)]
    found = await imported.run(given)
    assert [str(each) for each in await imported.read(given)] == once
    assert (found.new, found.changed, found.kept) == (0, 0, 300)


async def test_what_was_cut_short_is_gone_on_with() -> None:
    imported = Imported(await World().activate())
    given = users()
    given.fails_at = BLOCK
    with pytest.raises(Unavailable, match="chosen by the test"):
        await imported.run(given)
    given.fails_at = None
    found = await imported.run(given)
    assert given.starts == [0, BLOCK]
    assert found.new == COUNT
    assert all(each.attributes is not None for each in await imported.read(given))
    assert imported.checkpoint.state is None


async def test_who_signed_up_since_keeps_that_and_says_it_again() -> None:
    imported = Imported(await World().activate())
    await imported.store.write_enriched([EnrichedUser("u2", {"age": 99}, None, NOW_MS + 1)])
    found = await imported.run(users(4))
    assert [each.attributes for each in await imported.read(users(4))] == [
        {"age": 0},
        {"age": 1},
        {"age": 99},
        {"age": 3},
    ]
    assert imported.profiles()["u2"].attributes == {"age": 99}
    assert (found.new, found.kept) == (3, 1)


async def test_nothing_is_noted_before_profiles_are_durable() -> None:
    imported = Imported(await World().activate())
    imported.world.events.outage = Unavailable("kafka", "chosen by the test")
    with pytest.raises(Unavailable, match="kafka"):
        await imported.run(users(10))
    assert imported.checkpoint.state is None
