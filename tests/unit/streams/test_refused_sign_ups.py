"""Sign-ups for whose users another worker writes between the read and the write of their batch."""

import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import pytest

from foretaste.kernel.errors import Unavailable
from foretaste.kernel.events import Message, Origin, event_digest
from foretaste.kernel.users import EnrichedUser, UserFeatures, VirtualBehaviour
from foretaste.testing import InMemoryOnlineStore
from streams.profiles.profile import registered_user
from streams.sign_ups.way import ROUNDS
from tests.stream_parts import NOW_MS, ChosenStore, World, sign_up, virtual_of
from tests.unit.streams.test_sign_ups import enriched, made_from, profiles, registered_at, way


@dataclass
class Overtaken(ChosenStore):
    """A store in which another worker comes between a read and the next write, with each of `overtaking` once."""

    overtaking: list[Callable[["Overtaken"], Awaitable[object]]] = field(default_factory=list)

    async def read(self, user_ids: Sequence[str], generation: int) -> list[UserFeatures]:
        found = await super().read(user_ids, generation)
        if self.overtaking:
            await self.overtaking.pop(0)(self)
        return found


def another(row: EnrichedUser) -> Callable[[Overtaken], Awaitable[object]]:
    """Another worker that writes this row."""
    return partial(InMemoryOnlineStore.write_enriched, users=[row])


async def overtaken(*rows: EnrichedUser) -> World:
    """A world in which the rows come, one behind each read."""
    return await replace(World(), store=Overtaken(overtaking=[another(row) for row in rows])).activate()


def applied(message: Message, age: int, virtual: VirtualBehaviour | None) -> EnrichedUser:
    """The row by which another worker applied a sign-up."""
    place, event_id = message.origin.place, json.loads(message.value or b"").get("event_id")
    digest = event_digest(event_id, message)
    return EnrichedUser("u1", {"age": age}, virtual, message.origin.timestamp_ms, place, (digest,))


async def test_a_users_other_sign_ups_count_where_the_latest_turns_out_to_be_a_copy() -> None:
    """Another worker applies the first copy, of another partition, between the read and the write of this batch."""
    first = Message(b"u1", b'{"event_id": "e1"}', Origin("user-registered", 5, 2, NOW_MS - 3))
    other = registered_at("u1", None, 7, NOW_MS - 2, age=2)
    copy = registered_at("u1", None, 9, NOW_MS - 1, event_id="e1", age=1)
    world = await overtaken(applied(first, 1, VirtualBehaviour(1, virtual_of({"age": 1}))))
    await way(world)([other, copy])
    assert await made_from(world) == {"age": 2}
    assert [event.user_id for event in enriched(world)] == ["u1"]
    assert [(profile.attributes, profile.place) for _, profile in profiles(world)] == [({"age": 2}, other.origin.place)]


@pytest.mark.parametrize("virtual", [None, VirtualBehaviour(3, virtual_of({"age": 9}))], ids=["none", "before a swap"])
async def test_a_refused_sign_up_is_announced_once_what_stands_can_be_read(virtual: VirtualBehaviour | None) -> None:
    """The later one was handled by a worker that knows no such generation; its row is what is told."""
    later = Message(b"u1", b'{"event_id": "e9"}', Origin("user-registered", 5, 2, NOW_MS))
    world = await overtaken(applied(later, 9, virtual))
    await way(world)([registered_at("u1", None, 7, NOW_MS - 2, age=2)])
    assert await made_from(world) == {"age": 9}
    assert [event.user_id for event in enriched(world)] == ["u1"]
    assert {profile.place for _, profile in profiles(world)} <= {later.origin.place}
    assert (await world.features("u1")).registered_ms == NOW_MS - 2, "it was before that one"
    assert {registered_user(profile).registered_ms for _, profile in profiles(world)} <= {NOW_MS - 2}
    assert world.counted("foretaste_events_dropped_total", way="sign-up", reason="not_newer") == 1


async def test_nothing_is_announced_of_virtual_behaviour_that_the_store_refused() -> None:
    """Made for a replay, from attributes that another worker replaced meanwhile, without it."""
    replayed = registered_at("u1", None, 7, NOW_MS - 2, age=2)
    later = Message(b"u1", b'{"event_id": "e9"}', Origin("user-registered", 5, 2, NOW_MS))
    world = await overtaken(applied(later, 9, None))
    await world.store.write_enriched([applied(replayed, 2, None)])
    await way(world)([replayed])
    assert await made_from(world) == {"age": 9}
    assert [event.user_id for event in enriched(world)] == ["u1"]


async def test_a_batch_waits_while_others_write_for_its_users_each_time() -> None:
    later = [
        Message(b"u1", b'{"event_id": "e%d"}' % number, Origin("user-registered", 5, number, NOW_MS + number))
        for number in range(ROUNDS)
    ]
    world = await overtaken(*(applied(each, 9, None) for each in later))
    with pytest.raises(Unavailable, match="others write for 1 users"):
        await way(world)([registered_at("u1", None, 7, NOW_MS - 2, age=2)])
    assert enriched(world) == []
    await way(world)([registered_at("u1", None, 7, NOW_MS - 2, age=2)])
    assert len(enriched(world)) == 1


async def test_a_row_that_the_store_refuses_twice_though_nothing_changed_holds_nobody_up() -> None:
    """A store may tell finer than its reader: what it holds stays, and who is beside goes on."""

    class Finer(ChosenStore):
        async def write_enriched(self, users: Sequence[EnrichedUser]) -> list[str]:
            await super().write_enriched([user for user in users if user.user_id != "u1"])
            return [user.user_id for user in users if user.user_id == "u1"]

    world = await replace(World(), store=Finer()).activate()
    await way(world)([sign_up("u1", age=1), sign_up("u2", 8, age=2)])
    assert [event.user_id for event in enriched(world)] == ["u2"]
    assert (await world.features("u1")).attributes is None
