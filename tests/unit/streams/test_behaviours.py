"""The way of a behaviour: order, the limit, and replays."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foretaste.kernel.errors import Unavailable
from foretaste.kernel.event_order import REMEMBERED_BEHAVIOURS, AttributesVersion
from foretaste.kernel.events import Message, Reason
from foretaste.kernel.running.erasing import ErasedUser
from foretaste.kernel.users import BehavedUser, Behaviour, EnrichedUser, LaterBehaviour
from foretaste.kernel.values import FIRST_ACTS, MAX_BEHAVIOUR, MAX_PASSED_OVER, Partition
from foretaste.testing import InMemoryOnlineStore
from streams.behaviours import ROUNDS, Behaviours, UnknownItems, append, with_passed_over
from streams.worker.dead_letters import read_dead_letter
from tests.stream_parts import NOW, NOW_MS, ChosenDisk, ChosenStore, World, message

AWAY = Unavailable("a part", "chosen by the test")
HOUR_MS = 3_600_000
START_MS = NOW_MS - HOUR_MS
"""Before all that a test does: times of acts count from it."""
FULL = Behaviour(
    [f"i{each}" for each in range(MAX_BEHAVIOUR)], ["acted"] * MAX_BEHAVIOUR, list(range(10, 10 + MAX_BEHAVIOUR))
)


def way(world: World, unknown_items: UnknownItems = "keep", now: float = NOW) -> Behaviours:
    return Behaviours(
        world.parts,
        world.dead_letters,
        world.metrics,
        unknown_items=unknown_items,
        max_event_bytes=2000,
        now=lambda: now,
    )


def act(user_id: str, item_id: str, at_ms: int, offset: int = 0, timestamp_ms: int = NOW_MS) -> Message:
    value = {"user_id": user_id, "item_id": item_id, "at": at_ms / 1000, "action": "rated"}
    return message(value, key=user_id.encode(), topic="user-behaved", offset=offset, timestamp_ms=timestamp_ms)


def rows(behaviour: Behaviour) -> list[tuple[str, str, int]]:
    return list(zip(behaviour.items, behaviour.actions, behaviour.times, strict=True))


def test_the_newest_stands_last() -> None:
    behaviour = append(append(append(Behaviour(), "b", "x", 20), "c", "x", 30), "a", "x", 10)
    assert rows(behaviour) == [("a", "x", 10), ("b", "x", 20), ("c", "x", 30)]


def test_of_equal_times_the_later_appended_is_newer() -> None:
    assert rows(append(append(Behaviour(), "b", "x", 20), "a", "x", 20)) == [("b", "x", 20), ("a", "x", 20)]


def test_the_same_item_at_another_time_or_by_another_action_is_another_behaviour() -> None:
    behaviour = append(append(append(Behaviour(), "a", "x", 1), "a", "y", 1), "a", "x", 2)
    assert len(behaviour) == 3


def test_the_same_again_changes_nothing() -> None:
    behaviour = append(Behaviour(), "a", "x", 1)
    assert append(behaviour, "a", "x", 1) is behaviour


def test_a_full_behaviour_drops_its_oldest() -> None:
    longer = append(FULL, "new", "acted", 10_000)
    assert len(longer) == MAX_BEHAVIOUR
    assert rows(longer) == [*rows(FULL)[1:], ("new", "acted", 10_000)]


def test_what_is_older_than_the_oldest_of_a_full_one_changes_nothing() -> None:
    assert append(FULL, "old", "acted", 9) is FULL


def test_of_the_oldest_time_of_a_full_one_the_later_appended_stays() -> None:
    assert rows(append(FULL, "late", "acted", 10)) == [("late", "acted", 10), *rows(FULL)[1:]]


def test_a_named_event_is_another_behaviour_than_the_same_item_action_and_time() -> None:
    behaviour = append(Behaviour(), "a", "x", 1)
    assert append(behaviour, "a", "x", 1) is behaviour
    assert rows(append(behaviour, "a", "x", 1, named=True)) == [("a", "x", 1)] * 2


def numbered(acts: list[tuple[str, str, int]]) -> list[Message]:
    """The acts of "u1", at times since `START_MS`, as records of one partition."""
    return [
        message(
            {"user_id": "u1", "item_id": item, "at": (START_MS + at_ms) / 1000, "action": action},
            topic="user-behaved",
            offset=offset,
            timestamp_ms=NOW_MS + offset,
        )
        for offset, (item, action, at_ms) in enumerate(acts)
    ]


async def applied(batches: Sequence[Sequence[Message]]) -> list[tuple[str, str, int]]:
    world = World()
    for each in batches:
        await way(world, now=NOW + 10)(each)
    return [(item, action, at - START_MS) for item, action, at in rows((await world.features("u1")).behaviour)]


acts = st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("xy"), st.integers(0, 120)), max_size=250)


@given(acts, st.integers(0, 250))
async def test_a_replay_from_anywhere_to_the_end_changes_nothing(
    events: list[tuple[str, str, int]], start: int
) -> None:
    records = numbered(events)
    assert await applied([records, records[start:]]) == await applied([records])


@given(acts, st.integers(0, 250), st.integers(0, 40))
async def test_a_replay_of_some_that_are_remembered_changes_nothing(
    events: list[tuple[str, str, int]], start: int, count: int
) -> None:
    records = numbered(events)
    start = max(start, len(events) - REMEMBERED_BEHAVIOURS)
    assert await applied([records, records[start : start + count]]) == await applied([records])


@given(acts, st.integers(1, 40))
async def test_how_they_are_batched_changes_nothing(events: list[tuple[str, str, int]], size: int) -> None:
    records = numbered(events)
    batches = [records[start : start + size] for start in range(0, len(records), size)]
    assert await applied(batches) == await applied([records])


@given(acts)
async def test_it_holds_the_newest_in_order_without_doubles(events: list[tuple[str, str, int]]) -> None:
    held = await applied([numbered(events)])
    assert [at for *_, at in held] == sorted(at for *_, at in held)
    assert len(set(held)) == len(held) == min(len(set(events)), MAX_BEHAVIOUR)
    newest = sorted((each[2] for each in set(events)), reverse=True)[:MAX_BEHAVIOUR]
    assert sorted((at for *_, at in held), reverse=True) == newest


def named(event_id: str | None, at_ms: int, offset: int, item_id: str = "a") -> Message:
    at = (START_MS + at_ms) / 1000
    value = {"user_id": "u1", "item_id": item_id, "at": at, "action": "rated", "event_id": event_id}
    return message(value, topic="user-behaved", offset=offset)


async def test_a_producers_own_retry_under_its_event_id_is_applied_once_whatever_it_says_now() -> None:
    first, other, retried = named("e1", 1000, 5), named("e2", 1000, 6), named("e1", 3000, 7)
    for batches in ([first, other, retried],), ([first], [other], [retried], [first, retried]):
        assert await applied(batches) == [("a", "rated", 1000)] * 2


async def test_an_event_id_is_the_users_own() -> None:
    world = World()
    theirs = {"user_id": "u2", "item_id": "b", "at": START_MS / 1000, "event_id": "e1"}
    await way(world)([named("e1", 1000, 5), message(theirs, key=b"u2", topic="user-behaved", offset=6)])
    assert len((await world.features("u1")).behaviour) == len((await world.features("u2")).behaviour) == 1


async def test_ids_are_remembered_to_their_bound() -> None:
    world = World()
    await way(world)([named(f"e{each}", 1000 + each, each) for each in range(300)])
    (held,) = await world.store.read_behaviour(["u1"])
    assert len(list(held.applied)) == REMEMBERED_BEHAVIOURS
    before = rows(held.behaviour)
    await way(world)([named(f"e{each}", 9000, 400 + each) for each in range(300 - REMEMBERED_BEHAVIOURS, 300)])
    assert rows((await world.features("u1")).behaviour) == before


async def test_an_unnamed_behaviour_from_a_clock_ahead_that_is_sent_again_counts_once() -> None:
    """Each record of it is as of its own time in Kafka; another act of that clock is another one."""
    world = World()
    ahead = START_MS + HOUR_MS // 2
    for offset, at_ms in enumerate((ahead, ahead, ahead + 1)):
        await way(world)([act("u1", "a", at_ms, offset, START_MS + offset)])
    behaviour = (await world.features("u1")).behaviour
    assert (list(behaviour.items), list(behaviour.times)) == (["a", "a"], [START_MS, START_MS + 2])
    assert world.counted("foretaste_events_dropped_total", way="behaviour", reason="repeated") == 1


@pytest.mark.parametrize("kafkas", [0, 20 * HOUR_MS], ids=["the sender's clock", "the producer's clock too"])
async def test_behaviours_from_a_clock_ahead_keep_no_real_one_out(kafkas: int) -> None:
    ahead = [
        message(
            {"user_id": "u1", "item_id": f"ahead {each}", "at": NOW + 20 * 3600 + each},
            topic="user-behaved",
            offset=each,
            timestamp_ms=NOW_MS + kafkas,
        )
        for each in range(95)
    ]
    real = [act("u1", f"real {each}", NOW_MS, offset=200 + each) for each in range(30)]
    later = act("u1", "later", NOW_MS + 60_000, offset=300, timestamp_ms=NOW_MS + 60_000)
    world = World()
    await way(world)(ahead)
    await way(world)(real)
    await way(world, now=NOW + 60)([later])
    await way(world, now=NOW + 30 * 3600)([*ahead, *real])
    behaviour = (await world.features("u1")).behaviour
    assert list(behaviour.items[-31:]) == [f"real {each}" for each in range(30)] + ["later"]
    assert len(behaviour) == len(set(behaviour.items)) == MAX_BEHAVIOUR
    assert max(behaviour.times) == NOW_MS + 60_000
    assert world.counted("foretaste_clock_ahead_total", way="behaviour") >= 95


async def test_a_zombies_batch_that_its_successor_went_beyond_changes_nothing() -> None:
    """The same events reach both, and a clock that steps between them gives an event from a clock ahead two times."""
    world = World()
    batch = [
        message(
            {"user_id": "u1", "item_id": f"i{each}", "at": NOW + 3600},
            topic="user-behaved",
            offset=each,
            timestamp_ms=0,
        )
        for each in range(20)
    ]
    await way(world, now=NOW + 1)([*batch, act("u1", "after", NOW_MS + 1500, offset=30, timestamp_ms=NOW_MS + 2000)])
    before = await world.features("u1")
    await way(world, now=NOW + 3)(batch[:10])
    assert await world.features("u1") == before


async def test_behaviours_of_several_users_are_one_read_and_one_write() -> None:
    world = World()
    await way(world)(
        [
            act("u1", "a", START_MS + 1000),
            act("u2", "b", START_MS + 1000),
            act("u1", "c", START_MS + 500),
            act("u1", "d", START_MS + 2000),
        ]
    )
    assert (world.store.reads, world.store.writes) == (1, 1)
    assert list((await world.features("u1")).behaviour.items) == ["c", "a", "d"]
    assert list((await world.features("u2")).behaviour.items) == ["b"]
    assert world.counted("foretaste_behaviours_total") == 4


@pytest.mark.parametrize("ahead", [0, 86_400 * 365], ids=["a right clock", "one a year ahead"])
async def test_the_version_is_one_above_the_read_one_whatever_the_clock_says(ahead: float) -> None:
    world = World()
    await way(world, now=NOW + ahead)([act("u1", "a", START_MS + 1000)])
    assert (await world.features("u1")).behaviour_version == 1
    await way(world, now=NOW)([act("u1", "b", START_MS + 2000)])
    features = await world.features("u1")
    assert (features.behaviour_version, list(features.behaviour.items)) == (2, ["a", "b"])


@dataclass
class Rivals(ChosenStore):
    """Before each of the first `times` writes, another worker writes for the user too."""

    times: int = 1
    written: list[list[str]] = field(default_factory=list)

    async def write_behaviour(self, users: Sequence[BehavedUser]) -> list[str]:
        self.written.append([user.user_id for user in users])
        if len(self.written) <= self.times:
            (stored,) = await self.read(["u1"], 1)
            theirs = append(stored.behaviour, f"theirs {len(self.written)}", "rated", 500 + len(self.written))
            await super().write_behaviour([BehavedUser.after(stored, theirs)])
        return await super().write_behaviour(users)


async def test_what_a_successor_wrote_meanwhile_is_kept_and_the_worker_that_froze_appends_to_it() -> None:
    store = Rivals()
    world = World(store=store)
    await way(world)(
        [act("u1", "a", START_MS + 1000), act("u2", "b", START_MS + 1000), act("u1", "c", START_MS + 2000)]
    )
    assert list((await world.features("u1")).behaviour.items) == ["theirs 1", "a", "c"]
    assert list((await world.features("u2")).behaviour.items) == ["b"]
    assert store.written == [["u1", "u2"], ["u1"]], "nothing is written again for a user whom nobody else wrote for"


async def test_a_frozen_workers_events_that_the_successor_handled_too_stand_there_once() -> None:
    store = Rivals()
    world = World(store=store)
    successors = BehavedUser("u1", append(Behaviour(), "a", "rated", START_MS + 1000))
    await InMemoryOnlineStore.write_behaviour(store, [successors])
    await way(world)([act("u1", "a", START_MS + 1000), act("u1", "b", START_MS + 2000)])
    assert list((await world.features("u1")).behaviour.items) == ["theirs 1", "a", "b"]


async def test_a_batch_that_others_keep_writing_against_waits_and_is_tried_again() -> None:
    store = Rivals(times=ROUNDS)
    world = World(store=store)
    with pytest.raises(Unavailable, match="others write for 1 users of this batch at the same time"):
        await way(world)([act("u1", "a", START_MS + 1000)])
    assert len(store.written) == ROUNDS
    await way(world)([act("u1", "a", START_MS + 1000)])
    items = (await world.features("u1")).behaviour.items
    assert sorted(items) == ["a", *(f"theirs {each + 1}" for each in range(ROUNDS))]


@dataclass
class NotingStore(ChosenStore):
    """Notes which partitions the behaviours were read from."""

    noted: list[tuple[Partition, ...]] = field(default_factory=list)

    async def append_behaviour(self, users: Sequence[LaterBehaviour]) -> list[str]:
        self.noted += [user.read_from for user in users]
        return [user.user_id for user in users]

    async def write_new(self, users: Sequence[EnrichedUser]) -> list[str]:
        return [user.user_id for user in users]

    async def write_behaviour(self, users: Sequence[BehavedUser]) -> list[str]:
        self.noted += [user.read_from for user in users]
        return await super().write_behaviour(users)


async def test_what_is_written_names_the_partitions_that_it_was_read_from() -> None:
    store = NotingStore()
    world = World(store=store)
    await way(world)([act("u1", "a", START_MS + 1000)])
    await way(world)([act("u1", "b", START_MS + 1000)])
    (partition,) = {(each.topic, each.partition) for each in [act("u1", "a", START_MS).origin]}
    assert store.noted == [(partition,)] * 4, "two appends that are left out, and two writes"
    store.noted.clear()
    await way(world)([replace(act("u1", "c", START_MS + 2000), attempts=1)])
    assert store.noted == [(), ()], "of a replayed dead letter the origin is where it was read first"


@dataclass
class ErasingMeanwhile(ChosenStore):
    """Before its `at`-th write of behaviour u1 is erased."""

    at: int = 1

    async def write_behaviour(self, users: Sequence[BehavedUser]) -> list[str]:
        if self.writes + 1 == self.at:
            await self.erase([ErasedUser("u1", AttributesVersion(START_MS + 5000))])
        return await super().write_behaviour(users)


async def test_an_erasure_between_reading_and_writing_is_no_loss_of_the_store() -> None:
    world = World(store=ErasingMeanwhile(at=2))
    await way(world)([act("u1", "a", START_MS + 1000), act("u2", "b", START_MS + 1000)])
    await way(world)([act("u1", "c", START_MS + 2000), act("u2", "d", START_MS + 2000)])
    assert list((await world.features("u1")).behaviour.items) == []
    assert list((await world.features("u2")).behaviour.items) == ["b", "d"]
    assert world.counted("foretaste_events_dropped_total", way="behaviour", reason="erased") == 1


async def test_a_replay_writes_nothing() -> None:
    world = World()
    batch = [act("u1", "a", START_MS + 1000), act("u1", "b", START_MS + 2000)]
    await way(world)(batch)
    before = await world.features("u1")
    await way(world, now=NOW + 60)(batch)
    assert world.store.writes == 1
    assert await world.features("u1") == before


async def test_more_than_fits_in_one_batch_keeps_the_newest() -> None:
    world = World()
    await way(world)([act("u1", f"i{each}", START_MS + 1000 + each, offset=each) for each in range(150)])
    behaviour = (await world.features("u1")).behaviour
    assert list(behaviour.items) == [f"i{each}" for each in range(50, 150)]


async def test_bad_ones_become_dead_letters_and_the_others_go_on() -> None:
    world = World()
    bad = message({"user_id": "u1", "item_id": "i", "at": "yesterday"}, topic="user-behaved", offset=1)
    await way(world)([act("u1", "a", START_MS + 1000), bad, act("u1", "b", START_MS + 2000)])
    (letter,) = [read_dead_letter(each) for each in world.events.of(world.names.dead_letters)]
    assert letter.message == bad
    assert letter.detail.startswith("at: ")
    assert len((await world.features("u1")).behaviour) == 2


async def test_an_unknown_item_is_kept_by_default() -> None:
    world = await World().activate()
    await way(world)([act("u1", "unheard-of", START_MS + 1000)])
    assert list((await world.features("u1")).behaviour.items) == ["unheard-of"]


async def test_an_unknown_item_is_a_dead_letter_where_that_is_chosen() -> None:
    world = await World().activate()
    unknown = act("u1", "unheard-of", START_MS + 2000, offset=1)
    await way(world, "dead_letter")([act("u1", "known", START_MS + 1000), unknown])
    assert list((await world.features("u1")).behaviour.items) == ["known"]
    (letter,) = [read_dead_letter(each) for each in world.events.of(world.names.dead_letters)]
    assert (letter.message, letter.reason) == (unknown, Reason.UNKNOWN_ITEM)
    assert letter.detail == "item_id: generation 1 does not know it (got 'unheard-of')"


async def test_before_the_first_generation_no_item_is_unknown() -> None:
    world = World()
    await way(world, "dead_letter")([act("u1", "any", START_MS + 1000)])
    assert list((await world.features("u1")).behaviour.items) == ["any"]


def at_the_read(world: World) -> None:
    world.store.read_outage = AWAY


def at_the_write(world: World) -> None:
    world.store.write_outage = AWAY


def at_the_dead_letters(world: World) -> None:
    world.events.outage = AWAY


@pytest.mark.parametrize("stop", [at_the_read, at_the_write, at_the_dead_letters], ids=lambda stop: stop.__name__)
async def test_stopping_at_any_step_is_retriable_and_repeating_is_harmless(stop: Callable[[World], None]) -> None:
    world = World()
    await world.store.write_behaviour([BehavedUser("u1", Behaviour(["before"], ["x"], [NOW_MS - 10]))])
    batch = [act("u1", "a", NOW_MS), message(b"{", topic="user-behaved", offset=1)]
    stop(world)
    with pytest.raises(Unavailable):
        await way(world)(batch)
    assert world.events.sent == []

    world.store.read_outage = world.store.write_outage = world.events.outage = None
    await way(world)(batch)
    await way(world)(batch)
    assert list((await world.features("u1")).behaviour.items) == ["before", "a"]


async def test_a_batch_is_done_once_the_disk_has_it() -> None:
    disk = ChosenDisk(outage=AWAY)
    world = await World(synced=disk).activate()
    batch = [act("u1", "a", NOW_MS), act("u2", "b", NOW_MS, offset=1)]
    with pytest.raises(Unavailable):
        await way(world)(batch)
    assert world.counted("foretaste_behaviours_total") == 0
    disk.outage, disk.waits = None, 0
    await way(world)(batch)
    assert (disk.waits, world.counted("foretaste_behaviours_total")) == (1, 2)


async def test_what_has_no_effect_is_counted_with_why() -> None:
    world = World()

    def dropped(why: str) -> float:
        return world.counted("foretaste_events_dropped_total", way="behaviour", reason=why)

    full = [act("u1", f"i{each}", START_MS + 1000 + each, offset=each) for each in range(MAX_BEHAVIOUR)]
    await way(world)([*full, act("u1", "i5", START_MS + 1005, offset=200), act("u1", "old", START_MS + 1, offset=201)])
    assert (dropped("repeated"), dropped("too_old")) == (1, 1)
    await way(world)([full[3], act("u1", "new", START_MS + 5000, offset=202), named("e1", 6000, 203)])
    assert (dropped("repeated"), dropped("too_old")) == (2, 1)
    await way(world)([named("e1", 6000, 204), named("e2", 2, 205)])
    assert (dropped("repeated"), dropped("too_old")) == (3, 2)
    assert world.counted("foretaste_behaviours_total") == MAX_BEHAVIOUR + 7


async def test_what_another_worker_applied_meanwhile_is_counted_once() -> None:
    store = Rivals(times=2)
    world = World(store=store)
    await way(world)([act("u1", "a", START_MS + 1000), act("u1", "a", START_MS + 1000, offset=1)])
    assert world.counted("foretaste_events_dropped_total", way="behaviour", reason="repeated") == 1


def listed(item_id: str, at_ms: int, passed_over: Sequence[str], offset: int = 0) -> Message:
    at = (START_MS + at_ms) / 1000
    value = {"user_id": "u1", "item_id": item_id, "at": at, "action": "rated", "passed_over": list(passed_over)}
    return message(value, topic="user-behaved", offset=offset)


async def test_what_was_passed_over_stands_beside_the_act_and_once() -> None:
    first, second = listed("a", 1000, ["x", "y", "x"]), listed("b", 2000, ["y"], 1)
    expected = [
        ("a", "rated", 1000),
        ("x", "passed_over", 1000),
        ("b", "rated", 2000),
        ("y", "passed_over", 2000),  # as of the last time
    ]
    for batches in ([first, second],), ([first], [second]), ([second], [first]), ([first, second], [first, second]):
        found = await applied(batches)
        assert [at for _, _, at in found] == [1000, 1000, 2000, 2000]
        assert sorted(found) == sorted(expected)


async def test_of_what_was_passed_over_the_newest_is_kept_and_no_act_is_lost_for_it() -> None:
    batch = [listed(f"i{act}", act, [f"p{act}.{number}" for number in range(8)], act) for act in range(FIRST_ACTS - 1)]
    found = await applied([batch])
    passed = [item for item, action, _ in found if action == "passed_over"]
    assert sum(action == "rated" for _, action, _ in found) == FIRST_ACTS - 1
    assert len(passed) == MAX_PASSED_OVER
    assert passed[-1] == f"p{FIRST_ACTS - 2}.7"
    assert [at for _, _, at in found] == sorted(at for _, _, at in found)
    (long,) = {len(await applied([[listed("a", 1, [f"p{number}" for number in range(100)])]]))}
    assert long == 1 + MAX_PASSED_OVER


async def test_from_many_acts_on_nothing_that_was_passed_over_is_kept() -> None:
    batch = [listed(f"i{act}", act, [f"p{act}"], act) for act in range(MAX_BEHAVIOUR)]
    assert [action for _, action, _ in await applied([batch])] == ["rated"] * MAX_BEHAVIOUR


async def test_what_was_passed_over_makes_room_for_acts() -> None:
    shown = [listed(f"i{act}", act, [f"p{act}"], act) for act in range(FIRST_ACTS - 1)]
    plain = [
        message(
            {"user_id": "u1", "item_id": f"i{act}", "at": (START_MS + act) / 1000}, topic="user-behaved", offset=act
        )
        for act in range(FIRST_ACTS - 1, MAX_BEHAVIOUR - 5)
    ]
    found = await applied([shown, plain[:40], plain[40:]])
    assert [item for item, action, _ in found if action != "passed_over"] == [f"i{act}" for act in range(95)]
    assert [item for item, action, _ in found if action == "passed_over"] == [f"p{act}" for act in range(14, 19)]
    assert await applied([shown, plain, [*shown, *plain]]) == found
    last = listed("i95", 95, ["late"], 95)
    assert [action != "passed_over" for _, action, _ in await applied([shown, plain, [last]])] == [True] * 96


def test_in_a_full_behaviour_what_was_passed_over_has_the_room_that_is_left() -> None:
    answers = Behaviour([f"q{number}" for number in range(95)], ["answered_no"] * 95, range(95))
    found = with_passed_over(answers.then("a", "rated", 95), [(item, 95) for item in "vwxyz"])
    assert list(found.passed_over) == ["w", "x", "y", "z"]
    assert len(found) == MAX_BEHAVIOUR
    assert len(found.acts) == 1


async def test_one_who_names_what_was_passed_over_is_read_and_written_whole() -> None:
    store = NotingStore()
    world = World(store=store)
    await way(world)([listed("a", 1000, ["x"])])
    assert len(store.noted) == 1, "no append that is left out"
    assert list((await world.features("u1")).behaviour.passed_over) == ["x"]
