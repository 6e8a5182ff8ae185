"""The way of a sign-up, step by step, on parts in memory."""

import json
from collections.abc import Callable
from datetime import UTC, datetime

import numpy as np
import pytest

from foretaste.kernel.errors import BadTowerOutput, Unavailable
from foretaste.kernel.event_order import AttributesVersion, Place
from foretaste.kernel.events import Message, Origin, Reason, UserEnriched, UserProfile
from foretaste.kernel.running.erasing import ErasedUser
from foretaste.kernel.users import BehavedUser, Behaviour, EnrichedUser, ReenrichedUser, VirtualBehaviour
from foretaste.kernel.values import DAY_MS
from streams.profiles.profile import registered_user
from streams.sign_ups import SignUps
from streams.worker.dead_letters import read_dead_letter
from tests.stream_parts import NOW, NOW_MS, ChosenDisk, World, generation, message, sign_up, virtual_of

AWAY = Unavailable("a part", "chosen by the test")
HOUR_MS = 3_600_000


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


def enriched(world: World) -> list[UserEnriched]:
    return [UserEnriched.model_validate_json(each.value or b"") for each in world.events.of(world.names.enriched)]


async def made_from(world: World) -> object:
    """The stored attributes of "u1", of whom nothing but what was made from these may pass for current."""
    features = await world.features("u1")
    current = generation().virtual_of(features)
    assert current is not None
    np.testing.assert_array_equal(current.vectors, virtual_of(features.attributes or {}))
    return features.attributes


def registered_at(
    user_id: str,
    claimed_ms: int | None,
    offset: int,
    timestamp_ms: int = NOW_MS,
    event_id: str | None = None,
    age: int = 0,
) -> Message:
    claimed = None if claimed_ms is None else datetime.fromtimestamp(claimed_ms / 1000, UTC).isoformat()
    value = {"user_id": user_id, "attributes": {"age": age}, "registered_at": claimed, "event_id": event_id}
    return message(value, key=user_id.encode(), offset=offset, timestamp_ms=timestamp_ms)


def unkeyed(partition: int, offset: int, timestamp_ms: int) -> Message:
    """A sign-up of "u1" whose age is its offset."""
    value = json.dumps({"user_id": "u1", "attributes": {"age": offset}}).encode()
    return Message(None, value, Origin("user-registered", partition, offset, timestamp_ms))


async def seen(world: World, user_id: str, count: int) -> None:
    behaviour = Behaviour(["i"] * count, ["acted"] * count, list(range(count)))
    await world.store.write_behaviour([BehavedUser(user_id, behaviour)])


async def test_a_cold_user_can_be_read_with_virtual_behaviour() -> None:
    world = await World().activate()
    await way(world)([sign_up("u1", age=25)])

    features = await world.features("u1")
    assert features.attributes == {"age": 25}
    assert features.virtual is not None
    assert features.virtual.generation == 1
    np.testing.assert_array_equal(features.virtual.vectors, virtual_of({"age": 25}))
    (event,) = enriched(world)
    assert (event.user_id, event.generation, event.enriched_at.timestamp()) == ("u1", 1, NOW)
    assert world.events.sent[0].key == b"u1"
    assert world.counted("foretaste_sign_ups_total", state="cold") == 1
    assert world.counted("foretaste_enriched_total") == 1


async def test_a_batch_is_one_read_one_call_of_the_active_generation_and_one_write() -> None:
    world = await (await World().activate()).activate(generation(number=2))
    await way(world)([sign_up(f"u{each}", offset=each, age=each) for each in range(50)])

    assert world.towers.calls == [(50, 2)]
    assert (world.store.reads, world.store.writes) == (1, 1)
    assert [event.user_id for event in enriched(world)] == [f"u{each}" for each in range(50)]
    for each in range(50):
        features = await world.features(f"u{each}", number=2)
        assert features.virtual is not None
        np.testing.assert_array_equal(features.virtual.vectors, virtual_of({"age": each}))


async def test_cold_warming_and_warm_are_told_apart_by_the_generation() -> None:
    world = await World().activate(generation(warm_after=3))
    for user_id, count in (("cold", 0), ("warming", 2), ("warm", 3)):
        await seen(world, user_id, count)
    await way(world)([sign_up("cold", age=1), sign_up("warming", age=2), sign_up("warm", age=3)])

    assert world.towers.calls == [(2, 1)]
    assert (await world.features("warming")).virtual is not None
    warm = await world.features("warm")
    assert warm.attributes == {"age": 3}
    assert warm.virtual is None
    assert sorted(event.user_id for event in enriched(world)) == ["cold", "warming"]
    assert [world.counted("foretaste_sign_ups_total", state=each) for each in ("cold", "warming", "warm")] == [1, 1, 1]


async def test_a_batch_of_warm_users_needs_no_tower() -> None:
    world = await World().activate()
    await seen(world, "warm", 3)
    world.towers.outage = AWAY
    await way(world)([sign_up("warm", age=3)])
    assert (await world.features("warm")).attributes == {"age": 3}


async def test_bad_ones_become_dead_letters_and_the_others_go_on() -> None:
    world = await World().activate()
    bad = [message(b"{", offset=1), message(None, offset=3), message({"user_id": "u1"}, offset=4)]
    await way(world)([sign_up("a", offset=0), bad[0], sign_up("b", offset=2), *bad[1:]])

    letters = [read_dead_letter(each) for each in world.events.of(world.names.dead_letters)]
    assert [letter.message for letter in letters] == bad
    assert [letter.reason for letter in letters] == [Reason.MALFORMED, Reason.MALFORMED, Reason.INVALID]
    assert [event.user_id for event in enriched(world)] == ["a", "b"]
    assert world.counted("foretaste_dead_letters_total", reason="malformed") == 2


async def test_bad_ones_alone_need_no_generation() -> None:
    world = World()
    await way(world)([message(b"{")])
    assert len(world.events.of(world.names.dead_letters)) == 1


async def test_what_is_not_finite_becomes_a_dead_letter_and_is_never_written() -> None:
    world = await World().activate()
    poison = sign_up("poison", offset=7, age=-1)
    await way(world)([sign_up("a", age=1), poison, sign_up("b", age=2)])

    (letter,) = [read_dead_letter(each) for each in world.events.of(world.names.dead_letters)]
    assert letter.message == poison
    assert letter.reason is Reason.NON_FINITE
    assert letter.detail == "attributes: virtual behaviour of generation 1 is not finite (got {'age': -1})"
    assert (await world.features("poison")).virtual is None
    assert [event.user_id for event in enriched(world)] == ["a", "b"]


async def test_of_several_sign_ups_of_a_user_the_newest_is_written_and_announced_once() -> None:
    world = await World().activate()
    await way(world)(
        [
            sign_up("u1", timestamp_ms=NOW_MS - 20, age=1),
            sign_up("u1", timestamp_ms=NOW_MS - 10, age=3),
            sign_up("u1", timestamp_ms=NOW_MS - 30, age=2),
        ]
    )
    features = await world.features("u1")
    assert features.attributes == {"age": 3}
    assert features.virtual is not None
    np.testing.assert_array_equal(features.virtual.vectors, virtual_of({"age": 3}))
    assert len(enriched(world)) == 1


async def test_a_replay_does_not_undo_what_is_newer() -> None:
    world = await World().activate()
    old, new = sign_up("u1", timestamp_ms=NOW_MS - 20, age=1), sign_up("u1", timestamp_ms=NOW_MS - 10, age=2)
    for batch in ([old], [new], [old], [old, new]):
        await way(world)(batch)
    assert (await world.features("u1")).attributes == {"age": 2}


@pytest.mark.parametrize("how", ["registered_at", "kafka"])
async def test_a_time_in_the_future_does_not_block_later_writes(how: str) -> None:
    world = await World().activate()
    ahead = NOW_MS + DAY_MS // 2
    value: dict[str, object] = {"user_id": "u1", "attributes": {"age": 1}}
    if how == "registered_at":
        value["registered_at"] = ahead / 1000
    await way(world)([message(value, timestamp_ms=ahead if how == "kafka" else NOW_MS)])
    await way(world, now=NOW + 1)([sign_up("u1", timestamp_ms=NOW_MS + 1000, age=2)])
    assert (await world.features("u1")).attributes == {"age": 2}


async def test_the_senders_time_goes_before_the_kafka_timestamp() -> None:
    world = await World().activate()
    value = {"user_id": "u1", "attributes": {"age": 1}, "registered_at": (NOW_MS - 5000) / 1000}
    await way(world)([message(value, timestamp_ms=NOW_MS)])
    assert (await world.features("u1")).as_of_ms == NOW_MS - 5000


def at_the_generation(world: World) -> None:
    world.generations._active = None


def at_the_read(world: World) -> None:
    world.store.read_outage = AWAY


def at_the_tower(world: World) -> None:
    world.towers.outage = AWAY


def at_the_shape(world: World) -> None:
    world.towers.outage = BadTowerOutput("got (1, 2, 3), expected (1, 2, 4)")


def at_the_write(world: World) -> None:
    world.store.write_outage = AWAY


def at_the_events(world: World) -> None:
    world.events.outage = AWAY


STOPS = [at_the_generation, at_the_read, at_the_tower, at_the_shape, at_the_write, at_the_events]


@pytest.mark.parametrize("stop", STOPS, ids=lambda stop: stop.__name__)
async def test_stopping_at_any_step_is_retriable_and_repeating_is_harmless(stop: Callable[[World], None]) -> None:
    batch = [
        sign_up("a", age=1),
        message(b"{", offset=1),
        sign_up("b", offset=2, age=-1),
        sign_up("c", offset=3, age=3),
    ]
    world = await World().activate()
    stop(world)
    with pytest.raises(Unavailable):
        await way(world)(batch)
    assert world.events.sent == []

    world.store.read_outage = world.store.write_outage = world.towers.outage = world.events.outage = None
    world.generations._active = 1
    await way(world)(batch)
    once = await outcome(world, batch)
    assert [event.user_id for event in enriched(world)] == ["a", "c"]
    assert len(world.events.of(world.names.dead_letters)) == 2

    await way(world)(batch)
    assert await outcome(world, batch) == once


async def test_a_shape_that_the_record_does_not_tell_stops_the_batch() -> None:
    world = await World().activate()
    world.towers.shape = (1, 2, 4)
    with pytest.raises(Unavailable, match=r"generation 1 .*answered \(1, 2, 4\), its record says \(1, 2, 3\)"):
        await way(world)([sign_up("u1", age=25)])
    assert world.events.sent == []
    assert (await world.features("u1")).attributes is None


@pytest.mark.parametrize("again", [0, -10], ids=["the same", "an older one"])
async def test_a_sign_up_sent_again_is_enriched_for_the_generation_that_is_announced(again: int) -> None:
    world = await World().activate()
    await way(world)([sign_up("u1", age=25)])
    await (await world.activate(generation(2))).activate(generation(3))
    await way(world)([sign_up("u1", timestamp_ms=NOW_MS + again, age=25 + again)])

    features = await world.features("u1", number=3)
    assert features.attributes == {"age": 25}
    assert generation(3).virtual_of(features) is not None
    assert features.virtual is not None
    np.testing.assert_array_equal(features.virtual.vectors, virtual_of({"age": 25}))
    assert (features.attributes_ms, features.virtual_ms) == (NOW_MS, NOW_MS + 1)
    assert [(event.user_id, event.generation) for event in enriched(world)] == [("u1", 1), ("u1", 3)]


async def test_a_slot_of_another_shape_is_written_again() -> None:
    world = await World().activate()
    wider = VirtualBehaviour(1, np.ones((2, 8), np.float32))
    await world.store.write_enriched([EnrichedUser("u1", {"age": 25}, wider, NOW_MS)])
    await way(world)([sign_up("u1", age=25)])
    assert generation().virtual_of(await world.features("u1")) is not None
    assert len(enriched(world)) == 1


async def test_a_replay_that_changes_nothing_asks_no_tower_and_writes_nothing_but_announces() -> None:
    world = await World().activate()
    await way(world)([sign_up("u1", 5, NOW_MS - 9, age=3), sign_up("u1", age=25)])
    world.towers.outage = world.store.write_outage = AWAY
    await way(world)([sign_up("u1", age=25), sign_up("u1", timestamp_ms=NOW_MS - 1, age=1)])
    assert [event.user_id for event in enriched(world)] == ["u1", "u1"]


async def test_attributes_without_their_virtual_behaviour_get_it_from_a_replay() -> None:
    """Stopped between the two views of one write: the slot holds what belongs to the attributes before."""
    world = await World().activate()
    await way(world)([sign_up("u1", timestamp_ms=NOW_MS - 10, age=1)])
    await world.store.write_enriched([EnrichedUser("u1", {"age": 2}, None, NOW_MS)])
    await way(world)([sign_up("u1", age=2)])
    features = await world.features("u1")
    assert features.virtual is not None
    np.testing.assert_array_equal(features.virtual.vectors, virtual_of({"age": 2}))


async def test_a_newer_sign_up_no_newer_than_a_repair_writes_both() -> None:
    world = await World().activate()
    await world.store.write_enriched([EnrichedUser("u1", {"age": 1}, None, NOW_MS - 1)])
    await world.store.write_virtual([ReenrichedUser("u1", VirtualBehaviour(1, virtual_of({"age": 1})), NOW_MS)])
    await way(world)([sign_up("u1", age=2)])
    features = await world.features("u1")
    assert (features.attributes, features.attributes_ms, features.virtual_ms) == ({"age": 2}, NOW_MS, NOW_MS)
    assert features.virtual is not None
    np.testing.assert_array_equal(features.virtual.vectors, virtual_of({"age": 2}))


async def test_of_two_sign_ups_of_one_time_the_later_in_the_topic_wins_however_they_are_batched() -> None:
    first, second = sign_up("u1", 7, age=1), sign_up("u1", 8, age=2)
    for batches in ([first, second],), ([first], [second]), ([first], [second], [first]), ([second], [first]):
        world = await World().activate()
        for batch in batches:
            await way(world)(batch)
        assert await made_from(world) == {"age": 2}, batches


async def test_the_later_of_one_time_wins_over_a_repair_of_the_earlier() -> None:
    world = await World().activate()
    await way(world)([sign_up("u1", 7, age=1)])
    read = await world.features("u1")
    await world.store.write_virtual([ReenrichedUser.after(read, VirtualBehaviour(1, virtual_of({"age": 1})))])
    await way(world)([sign_up("u1", 8, age=2)])
    assert await made_from(world) == {"age": 2}


async def test_a_repair_made_from_attributes_that_were_replaced_is_not_taken() -> None:
    world = await World().activate()
    await way(world)([sign_up("u1", 7, age=1)])
    read = await world.features("u1")
    await way(world)([sign_up("u1", 8, age=2)])
    await world.store.write_virtual([ReenrichedUser.after(read, VirtualBehaviour(1, virtual_of({"age": 1})))])
    assert await made_from(world) == {"age": 2}


@pytest.mark.parametrize("kafkas", [0, 20 * HOUR_MS], ids=["the sender's clock", "the producer's clock too"])
async def test_a_sign_up_from_a_clock_ahead_wins_over_no_later_one_though_it_is_read_again(kafkas: int) -> None:
    world = await World().activate()
    ahead = registered_at("u1", NOW_MS + 20 * HOUR_MS, 7, NOW_MS + kafkas, age=1)
    await way(world)([ahead])
    assert await made_from(world) == {"age": 1}
    await way(world, now=NOW + 1)([sign_up("u1", 8, NOW_MS + 1000, age=2)])
    for later in (2, 3600, 30 * 3600):
        await way(world, now=NOW + later)([ahead])
        assert await made_from(world) == {"age": 2}
    await way(world, now=NOW + 30 * 3600)([ahead, sign_up("u1", 9, NOW_MS + 2000, age=3)])
    assert await made_from(world) == {"age": 3}, "in one batch too"


async def test_a_time_after_kafkas_is_taken_as_kafkas_and_counted_where_clocks_do_not_differ_so_much() -> None:
    world = await World().activate()
    await way(world)(
        [registered_at("u1", NOW_MS - 1000, 7, NOW_MS - 2000), registered_at("u2", NOW_MS, 8, NOW_MS - 9000)]
    )
    assert (await world.features("u1")).attributes_ms == NOW_MS - 2000
    assert (await world.features("u2")).attributes_ms == NOW_MS - 9000
    assert world.counted("foretaste_clock_ahead_total", way="sign-up") == 1


async def test_a_producers_own_retry_under_its_event_id_does_not_win_over_what_came_between() -> None:
    world = await World().activate()
    retried = registered_at("u1", None, 9, NOW_MS + 500, event_id="e1", age=1)
    await way(world)([registered_at("u1", None, 7, NOW_MS - 10, event_id="e1", age=1)])
    await way(world)([sign_up("u1", 8, age=2)])
    await way(world, now=NOW + 1)([retried])
    assert await made_from(world) == {"age": 2}
    other = await World().activate()
    await way(other, now=NOW + 1)(
        [registered_at("u1", None, 7, event_id="e1", age=1), sign_up("u1", 8, age=2), retried]
    )
    assert await made_from(other) == {"age": 2}, "in one batch too"


@pytest.mark.parametrize("claimed_ms", [None, NOW_MS + 5000], ids=["no time", "a time ahead"])
@pytest.mark.parametrize("batches", [1, 2])
async def test_a_sign_up_that_was_outdone_when_it_was_read_first_does_not_count_when_it_is_sent_again(
    claimed_ms: int | None, batches: int
) -> None:
    """Though its copy counts as of its own place in Kafka, which is later; no other reader of it changes that."""
    world = await World().activate()
    older = registered_at("u1", claimed_ms, 7, NOW_MS - 10, event_id="e1", age=1)
    again = registered_at("u1", claimed_ms, 9, NOW_MS + 500, event_id="e1", age=1)
    await way(world)([unkeyed(1, 3, NOW_MS - 5)])
    for batch in ([older, again],) if batches == 1 else ([older], [again]):
        await way(world, now=NOW + 1)(batch)
    assert await made_from(world) == {"age": 3}
    assert [event.user_id for event in enriched(world)] == ["u1"] * (1 + batches)


async def test_an_outdone_sign_up_that_would_be_outdone_again_costs_no_write() -> None:
    world = await World().activate()
    await way(world)([sign_up("u1", 5, NOW_MS - 100, age=3), sign_up("u1", age=2)])
    world.store.write_outage = AWAY
    named = registered_at("u1", NOW_MS - 20, 7, NOW_MS - 10, event_id="e1", age=1)
    await way(world)([sign_up("u1", timestamp_ms=NOW_MS - 1, age=1), named])
    assert await made_from(world) == {"age": 2}


async def test_a_sign_up_older_than_the_erasure_does_not_bring_the_user_back_when_it_is_sent_again() -> None:
    world = await World().activate()
    version = AttributesVersion(NOW_MS - 5, Place("user-erased-0", 1, NOW_MS - 5), (b"erasure1",))
    await world.store.erase([ErasedUser("u1", version)])
    for timestamp_ms in (NOW_MS - 10, NOW_MS):
        await way(world)([registered_at("u1", None, 7, timestamp_ms, event_id="e1", age=1)])
    assert (await world.features("u1")).is_erased
    assert enriched(world) == []


async def test_sign_ups_without_a_key_in_two_partitions_are_ordered_by_time_whoever_is_first() -> None:
    older, newer = unkeyed(0, 900, NOW_MS - 2), unkeyed(1, 3, NOW_MS - 1)
    for batches in ([older], [newer]), ([newer], [older]):
        world = await World().activate()
        for batch in batches:
            await way(world)(batch)
        assert await made_from(world) == {"age": 3}


async def test_stopped_at_the_write_the_replay_leaves_what_belongs_together(monkeypatch: pytest.MonkeyPatch) -> None:
    world = await World().activate()
    await world.store.write_enriched([EnrichedUser("u1", {"age": 1}, None, NOW_MS - 1)])
    await world.store.write_virtual([ReenrichedUser("u1", VirtualBehaviour(1, virtual_of({"age": 1})), NOW_MS)])

    async def away(*_: object) -> None:
        raise AWAY

    with monkeypatch.context() as patched:
        patched.setattr(world.store, "write_enriched", away)
        with pytest.raises(Unavailable):
            await way(world)([sign_up("u1", age=2)])
    await way(world)([sign_up("u1", age=2)])
    assert await made_from(world) == {"age": 2}


async def test_an_older_sign_up_of_a_warm_user_undoes_nothing_and_is_not_announced() -> None:
    world = await World().activate()
    await seen(world, "u1", 3)
    await way(world)([sign_up("u1", age=2)])
    await way(world)([sign_up("u1", timestamp_ms=NOW_MS - 1, age=1)])
    features = await world.features("u1")
    assert (features.attributes, features.virtual) == ({"age": 2}, None)
    assert enriched(world) == []


async def test_stored_attributes_that_a_new_generation_cannot_take_are_the_ones_named() -> None:
    world = await World().activate()
    await world.store.write_enriched([EnrichedUser("u1", {"age": -1}, None, NOW_MS)])
    await way(world)([sign_up("u1", timestamp_ms=NOW_MS - 1, age=5)])
    (letter,) = [read_dead_letter(each) for each in world.events.of(world.names.dead_letters)]
    assert letter.detail.endswith("(got {'age': -1})")
    assert (await world.features("u1")).virtual is None
    assert enriched(world) == []


async def outcome(world: World, batch: list[Message]) -> list[object]:
    users = [await world.features(user_id) for user_id in ("a", "b", "c")]
    return [
        (each.attributes, each.as_of_ms, None if each.virtual is None else each.virtual.vectors.tolist())
        for each in users
    ]


async def test_nobody_is_announced_before_the_disk_has_it_and_a_batch_waits_once() -> None:
    disk = ChosenDisk(outage=AWAY)
    world = await World(synced=disk).activate()
    batch = [sign_up(f"u{each}", each, age=20) for each in range(40)]
    with pytest.raises(Unavailable):
        await way(world)(batch)
    assert (enriched(world), world.store.writes) == ([], 1)
    disk.outage, disk.waits = None, 0
    await way(world)(batch)  # all of it stands already, and is waited for again
    assert (len(enriched(world)), disk.waits) == (40, 1)


def profiles(world: World) -> list[tuple[bytes | None, UserProfile]]:
    """Without null values."""
    sent = world.events.of(world.names.profiles)
    return [(each.key, UserProfile.model_validate_json(each.value)) for each in sent if each.value is not None]


async def test_a_profile_tells_what_is_stored_of_a_registration() -> None:
    world = await World().activate()
    await way(world)([registered_at("u1", NOW_MS - 7, 5, age=25)])
    ((key, profile),) = profiles(world)
    stored = await world.features("u1")
    assert (key, profile.user_id, profile.attributes) == (b"u1", "u1", {"age": 25})
    assert registered_user(profile).attributes_version == stored.attributes_version
    assert profile.registered_at.timestamp() * 1000 == NOW_MS - 7


async def test_a_warm_user_has_a_profile_though_nothing_is_announced() -> None:
    world = await World().activate()
    await seen(world, "u1", 3)
    await way(world)([sign_up("u1", age=25)])
    assert enriched(world) == []
    assert [profile.attributes for _, profile in profiles(world)] == [{"age": 25}]


async def test_of_several_sign_ups_of_a_user_one_profile_tells_all_digests() -> None:
    world = await World().activate()
    await way(world)([sign_up("u1", 0, age=1), sign_up("u1", 1, age=2)])
    await way(world)([sign_up("u1", 2, NOW_MS + 1, age=3)])
    stored = await world.features("u1")
    assert [len(profile.registrations) for _, profile in profiles(world)] == [2, 3]
    assert profiles(world)[-1][1].registrations == stored.registrations


async def test_a_sign_up_that_is_read_again_says_its_profile_again() -> None:
    """Whoever stored it may have died before the profile was durable."""
    world = await World().activate()
    world.events.outage = AWAY
    with pytest.raises(Unavailable):
        await way(world)([sign_up("u1", age=25)])
    assert (await world.features("u1")).attributes == {"age": 25}
    world.events.outage = None
    await way(world)([sign_up("u1", age=25)])
    assert [profile.attributes for _, profile in profiles(world)] == [{"age": 25}]


async def test_an_older_sign_up_says_no_profile() -> None:
    world = await World().activate()
    await way(world)([sign_up("u1", 1, NOW_MS, age=25), sign_up("u1", 2, NOW_MS - 7, age=21)])
    await way(world)([sign_up("u1", 0, NOW_MS - 5, age=20)])
    assert [profile.attributes for _, profile in profiles(world)] == [{"age": 25}]


async def test_stored_attributes_that_no_sign_up_can_have_hold_nothing_up() -> None:
    world = await World().activate()
    await world.store.write_enriched([EnrichedUser("u1", {"age": [[1]]}, None, NOW_MS + 1)])  # type: ignore[list-item]
    await way(world)([sign_up("u1", age=25), sign_up("u2", 1, age=26)])
    assert [key for key, _ in profiles(world)] == [b"u2"]
