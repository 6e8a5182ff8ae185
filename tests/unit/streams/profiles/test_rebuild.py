"""A rebuild on parts in memory: what an emptied store holds afterwards, and where a run that was cut short goes on."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import pyarrow as pa
import pytest

from features.log.rows import behaviours_table, within
from foretaste.kernel.errors import Unavailable
from foretaste.kernel.events import Message, Origin, UserBehaved
from foretaste.kernel.running.registered_items import every_item
from foretaste.kernel.users import Behaviour, Stage, UserFeatures
from foretaste.kernel.values import DAY_MS
from foretaste.testing import InMemoryCheckpoint, InMemoryOnlineStore, InMemoryWholeUserStore
from streams.behaviours import Behaviours
from streams.profiles.rebuild import Rebuild
from streams.profiles.rebuild_parts import RebuildConfig, RebuildParts, RebuiltUsers
from streams.sign_ups import SignUps
from tests.profile_parts import InMemoryHistory, profile
from tests.stream_parts import NOW, NOW_MS, ChosenStore, World, generation, sign_up

USERS = [f"u{each}" for each in range(60)]
SMALL = RebuildConfig(log_days=3, share=4, profiles=8, behaviours=8)


@dataclass
class StoppingCheckpoint(InMemoryCheckpoint):
    """Raises at the write of that number, after it is durable; as if the process were killed there."""

    stops_at: int = -1
    writes: int = 0

    def __post_init__(self) -> None:
        super().__init__()

    async def write(self, state: str) -> None:
        await super().write(state)
        self.writes += 1
        if self.writes == self.stops_at:
            raise Unavailable("checkpoint", "chosen by the test")


@dataclass
class Emptied:
    """What Kafka and the log hold, and an empty store to be filled from it."""

    world: World = field(default_factory=World)
    store: InMemoryOnlineStore = field(default_factory=InMemoryWholeUserStore)
    profiles: InMemoryHistory = field(default_factory=lambda: InMemoryHistory("user-profiles"))
    erasures: InMemoryHistory = field(default_factory=lambda: InMemoryHistory("user-erased"))
    behaviours: InMemoryHistory = field(default_factory=lambda: InMemoryHistory("user-behaved"))
    items: InMemoryHistory = field(default_factory=lambda: InMemoryHistory("item-registered"))
    log: list[UserBehaved] = field(default_factory=list)
    checkpoint: StoppingCheckpoint = field(default_factory=StoppingCheckpoint)

    async def logged(self, since_ms: int, until_ms: int) -> pa.Table:
        return within(behaviours_table(self.log), since_ms, until_ms)

    def rebuild(self, config: RebuildConfig = SMALL) -> Rebuild:
        users = replace(self.world.parts, store=self.store)
        topics = (self.profiles, self.erasures, self.behaviours)
        parts = RebuildParts(users, *topics, self.logged, self.checkpoint, self.items)
        return Rebuild(parts, config, now=lambda: NOW)

    async def run(self, config: RebuildConfig = SMALL) -> RebuiltUsers:
        return await self.rebuild(config).run()

    async def read(self, *users: str) -> list[UserFeatures]:
        return await self.store.read(users or USERS, 1)


def behaved(user_id: str, item: str, at_ms: int, offset: int = 0, event_id: str | None = None) -> Message:
    at = datetime.fromtimestamp(at_ms / 1000, UTC).isoformat()
    event = {"user_id": user_id, "item_id": item, "at": at, "event_id": event_id}
    return Message(user_id.encode(), json.dumps(event).encode(), Origin("user-behaved", 0, offset, at_ms))


async def lived() -> tuple[Emptied, list[UserFeatures]]:
    """60 users who signed up and acted by the ways of the workers, and what was stored of them."""
    world = await World().activate()
    emptied = Emptied(world)
    sign_ups = SignUps(
        world.parts,
        world.dead_letters,
        world.metrics,
        enriched_topic=world.names.enriched,
        profiles_topic=world.names.profiles,
        max_event_bytes=2000,
        now=lambda: NOW,
    )
    behaviours = Behaviours(
        world.parts, world.dead_letters, world.metrics, unknown_items="keep", max_event_bytes=2000, now=lambda: NOW
    )
    for start in range(0, len(USERS), 16):
        await sign_ups(
            [sign_up(user, each, NOW_MS - 500 + each, age=each) for each, user in enumerate(USERS)][start:][:16]
        )
    acts = [behaved(USERS[each % 20], f"i{each % 7}", NOW_MS - 300 + each, each) for each in range(90)]
    acts += [replace(acts[-1], origin=replace(acts[-1].origin, offset=90), value=b"{")]
    await behaviours(acts)
    await sign_ups([sign_up("u3", 100, NOW_MS - 10, age=103), sign_up("u40", 101, NOW_MS - 900, age=1)])
    emptied.profiles.add_all(world.events.of(world.names.profiles))
    emptied.behaviours.partitions[0] = acts
    return emptied, await world.store.read(USERS, 1)


def told(users: Sequence[UserFeatures]) -> list[str]:
    """All that is stored, but for the count of a behaviour's writes and what is virtual of the warm."""
    plain = [
        replace(each, behaviour_version=0, behaviour=behaviour)
        if generation().stage(len(behaviour)) is not Stage.WARM
        else replace(each, behaviour_version=0, behaviour=behaviour, virtual=None, virtual_ms=0)
        for each in users
        for held in [each.behaviour]
        for behaviour in [Behaviour(list(held.items), list(held.actions), list(held.times))]
    ]
    return [str(each) for each in plain]


async def test_an_emptied_store_holds_what_it_held() -> None:
    emptied, before = await lived()
    found = await emptied.run()
    assert told(await emptied.read()) == told(before)
    assert (await emptied.read("u3"))[0].attributes == {"age": 103}
    assert (found.new, found.kept, found.behaviours, found.bad_behaviours) == (60, 1, 91, 1)
    applied = await emptied.store.read_behaviour(USERS)
    assert [each.applied for each in applied] == [
        each.applied for each in await emptied.world.store.read_behaviour(USERS)
    ]


async def test_a_store_that_takes_no_user_whole_is_filled_too() -> None:
    emptied, before = await lived()
    emptied.store = ChosenStore()
    await emptied.run()
    assert told(await emptied.read()) == told(before)


async def test_done_again_it_changes_nothing_and_sends_nothing() -> None:
    emptied, _ = await lived()
    await emptied.run()
    once, sent = [str(each) for each in await emptied.read()], len(emptied.world.events.sent)
    found = await emptied.run()
    assert [str(each) for each in await emptied.read()] == once
    assert (found.new, found.changed, found.kept) == (0, 0, 62)
    assert len(emptied.world.events.sent) == sent


async def test_a_run_that_was_cut_short_is_gone_on_with_wherever_that_was() -> None:
    emptied, before = await lived()
    whole = Emptied(emptied.world, profiles=emptied.profiles, behaviours=emptied.behaviours)
    expected = await whole.run()
    for stops_at in range(1, whole.checkpoint.writes + 1):
        cut = Emptied(emptied.world, profiles=emptied.profiles, behaviours=emptied.behaviours)
        cut.checkpoint.stops_at = stops_at
        with pytest.raises(Unavailable, match="chosen by the test"):
            await cut.run()
        assert cut.checkpoint.state is not None
        found = await cut.run()
        assert told(await cut.read()) == told(before), stops_at
        assert (found.new, found.behaviours) == (expected.new, expected.behaviours), stops_at
        assert cut.checkpoint.state is None


async def test_a_resumed_run_reads_no_batch_twice() -> None:
    emptied, _ = await lived()
    emptied.checkpoint.stops_at = 4
    with pytest.raises(Unavailable, match="chosen by the test"):
        await emptied.run()
    emptied.profiles.reads.clear()
    await emptied.run()
    assert emptied.profiles.reads[0] == ({0: 16}, {0: 62})


async def test_a_partly_lost_store_gets_what_it_lacks_and_keeps_what_is_newer() -> None:
    emptied, before = await lived()
    await emptied.run()
    kept, left = await emptied.store.read(USERS[1::2], 1), InMemoryWholeUserStore()
    assert await left.write_whole(kept) == []
    emptied.store = left
    signed_up = SignUps(
        replace(emptied.world.parts, store=emptied.store),
        emptied.world.dead_letters,
        emptied.world.metrics,
        enriched_topic="e",
        profiles_topic="p",
        max_event_bytes=2000,
        now=lambda: NOW,
    )
    await signed_up([sign_up("u5", 200, NOW_MS, age=205), sign_up("u6", 201, NOW_MS, age=206)])
    found = await emptied.run()
    after = {each.user_id: each for each in await emptied.read()}
    assert (after["u5"].attributes, after["u6"].attributes) == ({"age": 205}, {"age": 206})
    assert [list(after[each.user_id].behaviour.items) for each in before] == [
        list(each.behaviour.items) for each in before
    ]
    assert found.new == 29


def is_nobody(user: UserFeatures) -> bool:
    return (user.attributes, user.virtual, len(user.behaviour)) == (None, None, 0)


async def test_who_was_erased_is_taken_out_and_not_brought_back() -> None:
    emptied, _ = await lived()
    await emptied.run()
    emptied.profiles.add(b"u1", None, timestamp_ms=NOW_MS)
    emptied.profiles.add(b"u2", None, timestamp_ms=NOW_MS)
    emptied.profiles.add(*profile("u2", 7, NOW_MS + 1))
    for store in (emptied.store, InMemoryWholeUserStore()):  # one that still holds them, and an emptied one
        emptied.store = store
        found = await emptied.run()
        gone, back = await emptied.read("u1", "u2")
        assert is_nobody(gone)
        assert (back.attributes, len(back.behaviour)) == ({"age": 7}, 0)
        assert found.erased == 2


async def test_who_registered_again_since_keeps_what_is_stored() -> None:
    emptied, _ = await lived()
    await emptied.run()
    emptied.profiles.add(b"u1", None, timestamp_ms=NOW_MS - 600)
    (before,) = await emptied.read("u1")
    await emptied.run()
    (after,) = await emptied.read("u1")
    assert (after.attributes_version, after.attributes) == (before.attributes_version, before.attributes)
    assert list(after.behaviour.times) == list(before.behaviour.times), "u1 registered 499 ms before now"
    assert after.virtual is not None


async def test_who_goes_on_knows_whom_another_process_read_as_erased() -> None:
    emptied, _ = await lived()
    emptied.profiles.add(b"u1", None, timestamp_ms=NOW_MS)
    for stops_at in range(1, 14):
        cut = Emptied(emptied.world, profiles=emptied.profiles, behaviours=emptied.behaviours)
        cut.checkpoint.stops_at = stops_at
        with pytest.raises(Unavailable, match="chosen by the test"):
            await cut.run()
        await cut.run()
        assert is_nobody(*await cut.read("u1")), stops_at


def erasure(user_id: str, at_ms: int) -> bytes:
    return json.dumps({"user_id": user_id, "occurred_at": at_ms / 1000}).encode()


async def test_who_registered_anew_before_the_erasure_was_handled_gets_no_behaviour_of_before() -> None:
    """There is no null value for such a user."""
    emptied, before = await lived()
    emptied.erasures.add(b"u3", erasure("u3", NOW_MS - 250), timestamp_ms=NOW_MS)
    emptied.erasures.add(b"u3", b"{", timestamp_ms=NOW_MS)
    for store in (emptied.store, InMemoryWholeUserStore()):
        emptied.store = store
        await emptied.run()
        (user,) = await emptied.read("u3")
        assert user.attributes == {"age": 103}, "registered 10 ms before now"
        assert 0 < len(user.behaviour) < len(before[3].behaviour)
        assert min(user.behaviour.times) > NOW_MS - 250


MINUTE_MS = 60_000


async def test_who_registered_anew_while_workers_were_away_stays() -> None:
    """Erased 10 minutes ago, back 5 minutes ago, and both handled only now: the null value is of now."""
    emptied, _ = await lived()
    emptied.erasures.add(b"back", erasure("back", NOW_MS - 10 * MINUTE_MS), timestamp_ms=NOW_MS - 10 * MINUTE_MS)
    emptied.profiles.add(*profile("back", 6, NOW_MS - 20 * MINUTE_MS))
    emptied.profiles.add(b"back", None, timestamp_ms=NOW_MS)
    emptied.profiles.add(*profile("back", 7, NOW_MS - 5 * MINUTE_MS, 1))
    for item, minutes in (("old", 15), ("new", 4)):
        act = behaved("back", item, NOW_MS - minutes * MINUTE_MS)
        emptied.behaviours.add(act.key, act.value, timestamp_ms=act.origin.timestamp_ms)
    for _ in range(2):
        await emptied.run()
        (back,) = await emptied.read("back")
        assert (back.attributes, list(back.behaviour.items)) == ({"age": 7}, ["new"])


async def test_who_registered_anew_before_a_null_value_that_nobody_else_tells_of_stays() -> None:
    """`user-erased` has lost the erasure, and the null value was produced late."""
    emptied, _ = await lived()
    emptied.profiles.add(b"back", None, timestamp_ms=NOW_MS)
    emptied.profiles.add(*profile("back", 7, NOW_MS - 5 * MINUTE_MS))
    for _ in range(2):
        await emptied.run()
        assert [each.attributes for each in await emptied.read("back")] == [{"age": 7}]


@pytest.mark.parametrize("null_first", [False, True])
@pytest.mark.parametrize("told_of", [False, True])
async def test_in_partitions_that_the_topic_gained_a_null_value_ends_what_was_before(
    *, null_first: bool, told_of: bool
) -> None:
    emptied = Emptied(await World().activate())
    if told_of:
        emptied.erasures.add(b"u1", erasure("u1", NOW_MS - 1), timestamp_ms=NOW_MS)
    old, new = (1, 0) if null_first else (0, 1)
    emptied.profiles.partitions = {0: [], 1: []}
    emptied.profiles.add(*profile("u1", 7, NOW_MS - MINUTE_MS), partition=old)
    emptied.profiles.add(b"u1", None, new, NOW_MS)
    for user in ("u2", "u3"):  # so that each partition is a batch of its own
        emptied.profiles.add(*profile(user, 1), partition=0)
    await emptied.run(replace(SMALL, profiles=2))
    gone, *others = await emptied.read("u1", "u2", "u3")
    assert is_nobody(gone)
    assert [each.attributes for each in others] == [{"age": 1}] * 2


async def test_a_profile_that_came_behind_its_erasure_does_not_stay() -> None:
    """Of a worker that stood still between its write and its produce; the store was emptied since."""
    emptied, _ = await lived()
    emptied.erasures.add(b"u5", erasure("u5", NOW_MS - 1), timestamp_ms=NOW_MS)
    emptied.profiles.add(b"u5", None, timestamp_ms=NOW_MS)
    emptied.profiles.add(*profile("u5", 5, NOW_MS - 495))
    await emptied.run()
    assert is_nobody(*await emptied.read("u5"))


async def test_the_log_brings_nothing_of_before_an_erasure() -> None:
    emptied, _ = await lived()
    emptied.behaviours.lost = 91
    emptied.erasures.add(b"u3", erasure("u3", NOW_MS - 200), timestamp_ms=NOW_MS)
    emptied.erasures.add(b"u5", erasure("u5", NOW_MS - 200), timestamp_ms=NOW_MS)
    acts = [(user, NOW_MS + after) for user in ("u3", "u5") for after in (-250, -150)]
    emptied.log = [
        UserBehaved(user_id=user, item_id="i", at=datetime.fromtimestamp(at_ms / 1000, UTC)) for user, at_ms in acts
    ]
    await emptied.run()
    anew, gone = await emptied.read("u3", "u5")
    assert list(anew.behaviour.times) == [NOW_MS - 150]
    assert is_nobody(gone)


async def test_who_is_erased_meanwhile_is_not_brought_back() -> None:
    emptied, _ = await lived()
    emptied.checkpoint.stops_at = 2
    with pytest.raises(Unavailable, match="chosen by the test"):
        await emptied.run()
    emptied.profiles.add(b"u59", None, timestamp_ms=NOW_MS)
    emptied.profiles.add(*profile("u60", 60, NOW_MS))
    await emptied.run()
    gone, late = await emptied.read("u59", "u60")
    assert is_nobody(gone)
    assert late.attributes == {"age": 60}


async def test_the_log_tells_what_the_topic_has_lost() -> None:
    emptied, before = await lived()
    events = [json.loads(each.value or b"") for each in emptied.behaviours.partitions[0][:-1]]
    emptied.log = [UserBehaved.model_validate(each) for each in events]
    old = NOW_MS - 2 * DAY_MS
    at = datetime.fromtimestamp(old / 1000, UTC)
    emptied.log.append(UserBehaved(user_id="u59", item_id="old", at=at, passed_over=("x", "y")))
    too_old = datetime.fromtimestamp((NOW_MS - 4 * DAY_MS) / 1000, UTC)
    emptied.log.append(UserBehaved(user_id="u59", item_id="older", at=too_old))
    emptied.behaviours.lost = 30
    found = await emptied.run()
    after = await emptied.read()
    assert [list(each.behaviour.items) for each in after[:-1]] == [list(each.behaviour.items) for each in before[:-1]]
    assert (list(after[-1].behaviour.items), list(after[-1].behaviour.times)) == (["old", "x", "y"], [old] * 3)
    assert list(after[-1].behaviour.passed_over) == ["x", "y"]
    assert found.logged == 91


async def test_the_log_is_left_alone_where_the_topic_holds_all() -> None:
    emptied, _ = await lived()
    emptied.log = [UserBehaved(user_id="u1", item_id="nowhere else", at=datetime.fromtimestamp(NOW - 60, UTC))]
    assert (await emptied.run()).logged == 0


async def test_the_log_of_who_was_erased_stays_there() -> None:
    emptied, _ = await lived()
    emptied.behaviours.lost = 91
    for user in (b"u1", b"u2"):
        emptied.profiles.add(user, None, timestamp_ms=NOW_MS)
    emptied.profiles.add(*profile("u1", 7, NOW_MS + 30_000))
    before, after = (datetime.fromtimestamp(NOW + each, UTC) for each in (-60, 60))
    emptied.log = [UserBehaved(user_id=user, item_id=str(at), at=at) for user in ("u1", "u2") for at in (before, after)]
    await emptied.run()
    anew, gone = await emptied.read("u1", "u2")
    assert list(anew.behaviour.items) == [str(after)]
    assert is_nobody(gone), "who did not register anew"


async def test_without_a_generation_attributes_and_behaviour_come_back() -> None:
    emptied, before = await lived()
    emptied.world = World()
    await emptied.run()
    after = await emptied.read()
    assert [each.attributes for each in after] == [each.attributes for each in before]
    assert {each.virtual for each in after} == {None}


async def test_topics_that_nobody_created_are_empty() -> None:
    emptied = Emptied(await World().activate(generation()))
    assert await emptied.run() == RebuiltUsers()


async def test_a_topic_that_was_made_anew_meanwhile_is_read_as_it_is() -> None:
    emptied, _ = await lived()
    emptied.checkpoint.stops_at = 5
    with pytest.raises(Unavailable, match="chosen by the test"):
        await emptied.run()
    emptied.profiles.partitions = {0: emptied.profiles.partitions[0][:3]}
    await emptied.run()
    assert emptied.checkpoint.state is None


async def test_what_it_does_is_reported_to_its_end() -> None:
    emptied, _ = await lived()
    emptied.behaviours.lost = 1
    told_: dict[str, list[tuple[int, int | None]]] = {}
    await emptied.rebuild().run(lambda step, done, total: told_.setdefault(step, []).append((done, total)))
    assert list(told_) == ["items", "erasures", "profiles", "behaviours", "log", "late profiles"]
    assert told_["profiles"][:2] == [(8, 62), (16, 62)]
    assert [each[-1][0] == each[-1][1] for each in told_.values()] == [True] * 6


async def test_registered_items_come_back_the_latest_of_each() -> None:
    emptied = Emptied()
    for place, (item, genre) in enumerate([("i1", "drama"), ("i2", "opera"), ("i1", "comedy"), ("", "none")]):
        value = json.dumps({"item_id": item, "attributes": {"genre": genre}}).encode()
        emptied.items.add(item.encode(), value, timestamp_ms=NOW_MS - 100 + place)
    assert (await emptied.run()).items == 4
    found = {each.item_id: each.attributes for each in await every_item(emptied.world.items)}
    assert found == {"i1": {"genre": "comedy"}, "i2": {"genre": "opera"}}
