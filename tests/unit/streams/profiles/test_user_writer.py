"""Users written as they once stood in the store: whole where nothing is, by the store's rules where something is."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from foretaste.kernel.errors import Unavailable
from foretaste.kernel.event_order import Place
from foretaste.kernel.generations import Generation
from foretaste.kernel.users import BehavedUser, Behaviour, EnrichedUser, UserFeatures
from foretaste.testing import InMemoryOnlineStore, InMemoryWholeUserStore
from streams.parts import SignUpParts
from streams.profiles.user_writer import UserWriter, WrittenUsers, append_all
from tests.stream_parts import NOW_MS, ChosenTowers, World, generation, virtual_of

FORMS = (InMemoryOnlineStore, InMemoryWholeUserStore)


@dataclass
class Written:
    """A store of one of both forms, a writer over it, and towers whose calls are counted."""

    store: InMemoryOnlineStore
    towers: ChosenTowers = field(default_factory=ChosenTowers)

    async def write(self, *users: UserFeatures, of: Generation | None = None) -> WrittenUsers:
        world = World(towers=self.towers)
        parts = SignUpParts(self.store, self.towers, world.generations, world.events)
        return await UserWriter(parts).write(users, of)

    async def read(self, user_id: str = "u1") -> UserFeatures:
        (found,) = await self.store.read([user_id], 1)
        return found


@pytest.fixture(params=FORMS)
def written(request: pytest.FixtureRequest) -> Written:
    return Written(request.param())


def user(user_id: str = "u1", age: int = 20, at_ms: int = NOW_MS, items: int = 0, first_ms: int = 1) -> UserFeatures:
    times = list(range(first_ms, first_ms + items))
    behaviour = Behaviour([f"i{each}" for each in times], ["acted"] * items, times)
    place = Place("user-registered-0", at_ms, at_ms)
    digest = f"{age:08}".encode()
    return UserFeatures(
        user_id, {"age": age}, behaviour, attributes_ms=at_ms, attributes_place=place, registrations=(digest,)
    )


async def test_a_user_of_whom_nothing_is_stored_is_there_as_given(written: Written) -> None:
    given = user(items=2)
    found = await written.write(given, of=generation(warm_after=3))
    assert await written.read() != UserFeatures("u1")
    read = await written.read()
    assert (read.attributes, read.attributes_version) == (given.attributes, given.attributes_version)
    assert read.behaviour == given.behaviour
    assert read.virtual is not None
    np.testing.assert_array_equal(read.virtual.vectors, virtual_of({"age": 20}))
    assert read.virtual_ms == NOW_MS
    assert [each.attributes_version for each in found.standing] == [given.attributes_version]


async def test_no_virtual_behaviour_is_made_for_the_warm_and_without_a_generation(written: Written) -> None:
    await written.write(user("warm", items=3), of=generation(warm_after=3))
    await written.write(user("cold"))
    assert written.towers.calls == []
    assert [(await written.read(each)).virtual for each in ("warm", "cold")] == [None, None]


async def test_what_is_not_finite_is_counted_and_the_user_is_there(written: Written) -> None:
    found = await written.write(user("bad", age=-1), user("good"), of=generation())
    assert found.non_finite == 1
    assert (await written.read("bad")).attributes == {"age": -1}
    assert (await written.read("bad")).virtual is None
    assert (await written.read("good")).virtual is not None


@pytest.mark.parametrize("later", [-1, 0, 1])
async def test_the_newer_registration_stays(written: Written, later: int) -> None:
    stored = user(age=20)
    await written.write(stored, of=generation())
    found = await written.write(user(age=30, at_ms=NOW_MS + later), of=generation())
    read = await written.read()
    expected = 30 if later > 0 else 20
    assert read.attributes == {"age": expected}
    assert read.virtual is not None
    np.testing.assert_array_equal(read.virtual.vectors, virtual_of({"age": expected}))
    assert (found.new, found.changed, found.kept) == (0, int(later > 0), int(later <= 0))
    assert [each.attributes for each in found.standing] == [{"age": expected}]
    assert [each.attributes_version for each in found.standing] == [read.attributes_version]


async def test_a_registration_that_others_write_meanwhile_is_what_stands(
    written: Written, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the read and the write, without virtual behaviour."""
    await written.write(user(age=20))
    read = written.store.read

    async def overtaken(user_ids: Sequence[str], number: int) -> list[UserFeatures]:
        found = await read(user_ids, number)
        await InMemoryOnlineStore.write_enriched(written.store, [EnrichedUser("u1", {"age": 40}, None, NOW_MS + 9)])
        return found

    with monkeypatch.context() as patched:
        patched.setattr(written.store, "read", overtaken)
        found = await written.write(user(age=30, at_ms=NOW_MS + 5), of=generation())
    now = await written.read()
    assert ([each.attributes for each in found.standing], now.attributes) == ([{"age": 40}], {"age": 40})
    assert (found.new, found.changed, found.kept) == (0, 0, 1)
    assert generation().virtual_of(now) is not None


async def test_stored_attributes_without_virtual_behaviour_get_that_of_their_own(written: Written) -> None:
    await written.store.write_enriched([EnrichedUser("u1", {"age": 40}, None, NOW_MS + 5)])
    await written.write(user(age=20), of=generation())
    read = await written.read()
    assert generation().virtual_of(read) is not None
    assert read.virtual is not None
    np.testing.assert_array_equal(read.virtual.vectors, virtual_of({"age": 40}))


async def test_behaviour_is_put_into_what_is_stored_by_time_and_each_once(written: Written) -> None:
    stored = Behaviour(["i2", "i9"], ["acted"] * 2, [2, 9])
    await written.store.write_behaviour([BehavedUser("u1", stored)])
    for _ in range(2):
        await written.write(user(items=3), of=generation())
        read = await written.read()
        assert (list(read.behaviour.items), list(read.behaviour.times)) == (["i1", "i2", "i3", "i9"], [1, 2, 3, 9])
        assert read.attributes == {"age": 20}


async def test_an_act_that_the_log_has_twice_is_there_once_as_a_worker_would_have_it(written: Written) -> None:
    """Two rows of one act, which their identities tell apart in the log: a sender's retry without an `event_id`."""
    twice = Behaviour(["i1", "i1", "i2"], ["acted"] * 3, [1, 1, 2])
    for _ in range(2):
        await append_all(written.store, {"u1": twice})
        read = await written.read()
        assert (list(read.behaviour.items), list(read.behaviour.times)) == (["i1", "i2"], [1, 2])


async def test_done_again_it_changes_nothing(written: Written) -> None:
    users = [user(f"u{each}", age=each, items=each % 4) for each in range(1, 20)]
    await written.write(*users, of=generation())
    before = await written.store.read([each.user_id for each in users], 1)
    found = await written.write(*users, of=generation())
    after = await written.store.read([each.user_id for each in users], 1)
    assert [str(each) for each in after] == [str(each) for each in before]
    assert (found.new, found.changed, found.kept) == (0, 0, len(users))


async def test_a_tower_that_is_away_is_told(written: Written) -> None:
    written.towers.outage = Unavailable("triton", "chosen by the test")
    with pytest.raises(Unavailable, match="triton"):
        await written.write(user(), of=generation())
    assert await written.read() == UserFeatures("u1")


async def test_a_first_registration_is_written_and_is_not_lost_to_a_later_one(written: Written) -> None:
    told = replace(user(), first_ms=NOW_MS - 900)
    await written.write(told, of=generation())
    assert (await written.read()).registered_ms == NOW_MS - 900
    found = await written.write(user(age=30, at_ms=NOW_MS + 10), of=generation())
    assert (await written.read()).registered_ms == NOW_MS - 900
    assert [each.registered_ms for each in found.standing] == [NOW_MS - 900], "what is recorded of it tells so too"


@pytest.mark.parametrize("copied", [True, False], ids=["of the same registration", "of an older one"])
async def test_a_first_registration_reaches_a_user_whose_stored_one_is_as_new(written: Written, copied: bool) -> None:
    """A store that was emptied has the newest sign-up again, before what is known of the first one is written back."""
    standing = user(age=30, at_ms=NOW_MS + 10)
    await written.write(standing, of=generation())
    told = replace(standing if copied else user(), first_ms=NOW_MS - 900)
    for _ in range(2):
        found = await written.write(told, of=generation())
        read = await written.read()
        assert (read.attributes, read.attributes_ms, read.registered_ms) == ({"age": 30}, NOW_MS + 10, NOW_MS - 900)
        assert (found.new, found.changed, found.kept) == (0, 0, 1)
        assert [each.registered_ms for each in found.standing] == [NOW_MS - 900]


async def test_what_else_came_before_a_stored_registration_is_remembered_with_it(written: Written) -> None:
    standing = user()
    await written.write(standing, of=generation())
    more = replace(standing, registrations=(b"outdone.", *standing.registrations))
    for _ in range(2):
        found = await written.write(more, of=generation())
        read = await written.read()
        assert (read.attributes, read.attributes_version) == (standing.attributes, more.attributes_version)
        assert generation().virtual_of(read) is not None
        assert (found.new, found.changed, found.kept) == (0, 0, 1)
