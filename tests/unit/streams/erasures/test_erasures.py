"""The way of an erasure: the store and the log forget a user, nothing brings the user back, a record stays."""

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Any

import pytest

from foretaste.kernel.errors import Unavailable
from foretaste.kernel.events import Message, Reason, UserProfile
from foretaste.kernel.running.erasing import IN_FLIGHT_MS, ErasureRecord, user_digest
from foretaste.kernel.users import UserFeatures
from foretaste.testing import InMemoryEvents, InMemoryTrainingLog
from streams.behaviours import Behaviours
from streams.erasures.log_erasures import PATIENCE, LogErasures
from streams.erasures.user_erasures import Erasures
from streams.profiles.profile import registered_user
from streams.sign_ups import SignUps
from streams.topics import TopicNames
from tests.log_factory import AT_MS, at, behaved, ranked
from tests.stream_parts import NOW, NOW_MS, ChosenOneStepStore, ChosenStore, World, message, sign_up

NAMES = TopicNames()
NO_BEHAVIOUR: dict[str, Any] = dict.fromkeys(("behaviour_items", "behaviour_actions", "behaviour_times"), ())


def moment(at_ms: int) -> datetime:
    return at(ms=at_ms - AT_MS)


def behaviour_columns(user: UserFeatures) -> tuple[tuple[Any, ...], ...]:
    behaviour = user.behaviour
    return tuple(behaviour.items), tuple(behaviour.actions), tuple(behaviour.times)


def erasure(user_id: str = "u1", *, offset: int = 0, at_ms: int = NOW_MS - 1000, **fields: object) -> Message:
    value = {"user_id": user_id, **fields}
    return message(value, key=user_id.encode(), topic="user-erased", offset=offset, timestamp_ms=at_ms)


def act(item: str, at_ms: int, user_id: str = "u1", offset: int = 0) -> Message:
    value = {"user_id": user_id, "item_id": item, "at": at_ms / 1000}
    return message(value, key=user_id.encode(), topic="user-behaved", offset=offset, timestamp_ms=at_ms)


class Interrupted(InMemoryEvents):
    """Kafka, before whose next record of `user-profiles` something happens, once."""

    meanwhile: Callable[[], Awaitable[None]] | None = None

    async def send_all(self, topic: str, events: Sequence[tuple[bytes | None, bytes | None]]) -> None:
        if topic == NAMES.profiles and events and (meanwhile := self.meanwhile) is not None:
            self.meanwhile = None
            await meanwhile()
        await super().send_all(topic, events)


class Ways:
    """The three ways over one world, at `NOW`."""

    def __init__(self, store: ChosenStore | None = None) -> None:
        self.interrupted = Interrupted()
        self.world = World(store=store or ChosenStore(), events=self.interrupted)
        parts, letters, metrics = self.world.parts, self.world.dead_letters, self.world.metrics
        self.erase = Erasures(parts, letters, metrics, NAMES, max_event_bytes=2000, now=lambda: NOW)
        self.sign_up = SignUps(
            parts,
            letters,
            metrics,
            enriched_topic=NAMES.enriched,
            profiles_topic=NAMES.profiles,
            max_event_bytes=2000,
            now=lambda: NOW,
        )
        self.behave = Behaviours(parts, letters, metrics, unknown_items="keep", max_event_bytes=2000, now=lambda: NOW)

    async def known(self, user_id: str = "u1") -> tuple[object, list[str]]:
        """The attributes and the items that are stored."""
        (found,) = await self.world.store.read([user_id], 1)
        return found.attributes, list(found.behaviour.items)

    async def erase_meanwhile(self, _seconds: float) -> None:
        """What the users' way does while the log waits for it."""
        await self.erase([erasure(at_ms=NOW_MS - 1000)])

    @property
    def profiles(self) -> list[tuple[bytes | None, bool]]:
        """By key, whether there is one still, in their order."""
        return [(each.key, each.value is not None) for each in self.world.events.of(NAMES.profiles)]

    @property
    def registered(self) -> list[int | None]:
        """When users registered first, as each profile tells it."""
        sent = [each.value for each in self.world.events.of(NAMES.profiles) if each.value is not None]
        return [registered_user(UserProfile.model_validate_json(each)).registered_ms for each in sent]

    @property
    def records(self) -> list[ErasureRecord]:
        sent = self.world.events.of(NAMES.erasure_records)
        return [ErasureRecord.model_validate_json(each.value or b"") for each in sent]


@pytest.fixture(params=[ChosenStore, ChosenOneStepStore], ids=["read first", "one step"])
async def ways(request: pytest.FixtureRequest) -> Ways:
    made = Ways(request.param())
    await made.world.activate()
    return made


async def test_a_user_is_erased_and_a_record_without_the_person_stays(ways: Ways) -> None:
    await ways.sign_up([sign_up("u1", timestamp_ms=NOW_MS - 5000, age=30)])
    await ways.behave([act("i1", NOW_MS - 4000), act("i2", NOW_MS - 3000, offset=1)])
    await ways.erase([erasure(offset=7)])
    assert await ways.known() == (None, [])
    assert ways.profiles[-1] == (b"u1", False)
    (record,) = ways.records
    assert (record.erasure, record.behaviours, record.had_attributes) == ("user-erased/0@7", 2, True)
    assert not record.registered_anew
    (kept,) = ways.world.events.of(NAMES.erasure_records)
    assert kept.key is None
    assert b"u1" not in (kept.value or b"")


async def test_a_record_does_not_hold_the_name_that_the_sender_gave(ways: Ways) -> None:
    await ways.erase([erasure(event_id="please forget u1")])
    (record,) = ways.records
    assert len(record.erasure) == 16
    assert "u1" not in record.model_dump_json()


async def test_what_happened_before_does_not_bring_the_user_back(ways: Ways) -> None:
    old = [sign_up("u1", timestamp_ms=NOW_MS - 5000, age=30)]
    acts = [act("i1", NOW_MS - 4000), act("i2", NOW_MS - 3000, offset=1)]
    await ways.sign_up(old)
    await ways.behave(acts)
    await ways.erase([erasure()])
    announced = len(ways.world.events.of(NAMES.enriched))
    await ways.sign_up(old)
    await ways.behave(acts)
    await ways.behave([act("i3", NOW_MS - 10, offset=2)])
    assert await ways.known() == (None, [])
    assert len(ways.world.events.of(NAMES.enriched)) == announced
    dropped = "foretaste_events_dropped_total"
    assert ways.world.counted(dropped, way="behaviour", reason="erased") == 3
    assert ways.world.counted(dropped, way="sign-up", reason="not_newer") == 1


async def test_a_later_registration_begins_anew_without_what_was_done_before(ways: Ways) -> None:
    await ways.sign_up([sign_up("u1", timestamp_ms=NOW_MS - 5000, age=30)])
    await ways.erase([erasure()])
    await ways.sign_up([sign_up("u1", 1, NOW_MS - 500, age=31)])
    await ways.behave([act("old", NOW_MS - 4000), act("new", NOW_MS - 100, offset=1)])
    assert await ways.known() == ({"age": 31}, ["new"])
    await ways.erase([erasure()])
    assert await ways.known() == ({"age": 31}, ["new"])
    assert [record.registered_anew for record in ways.records] == [False, True]
    assert ways.profiles == [(b"u1", True), (b"u1", False), (b"u1", True), (b"u1", True)], "the later registration"


async def test_one_that_is_read_after_the_later_registration_takes_only_what_was_before(ways: Ways) -> None:
    await ways.sign_up([sign_up("u1", timestamp_ms=NOW_MS - 5000, age=30)])
    await ways.behave([act("old", NOW_MS - 4000)])
    await ways.sign_up([sign_up("u1", 1, NOW_MS - 500, age=31)])
    await ways.behave([act("new", NOW_MS - 100, offset=1)])
    await ways.erase([erasure()])
    assert await ways.known() == ({"age": 31}, ["new"])


async def test_one_that_is_read_after_the_later_registration_forgets_the_first_one_and_a_profile_tells_so(
    ways: Ways,
) -> None:
    """Else a rebuild from `user-profiles` would bring it back."""
    for offset, ago_ms in enumerate((5000, 500)):
        await ways.sign_up([sign_up("u1", offset, NOW_MS - ago_ms, age=30)])
    assert ways.registered == [NOW_MS - 5000, NOW_MS - 5000]
    await ways.erase([erasure()])
    assert ways.registered[2:] == [NOW_MS - 500]


async def test_one_that_is_read_after_the_later_registration_lets_no_late_act_in(ways: Ways) -> None:
    """All that was stored is from before, and an act from before that comes late is later than that."""
    await ways.sign_up([sign_up("u1", 1, NOW_MS - 500, age=31)])
    await ways.behave([act("old", NOW_MS - 4000)])
    await ways.erase([erasure()])
    await ways.behave([act("late", NOW_MS - 3000, offset=1)])
    assert await ways.known() == ({"age": 31}, [])
    await ways.behave([act("later", NOW_MS - 2500, offset=2), act("new", NOW_MS - 100, offset=3)])
    assert await ways.known() == ({"age": 31}, ["new"])
    assert ways.world.counted("foretaste_events_dropped_total", way="behaviour", reason="erased") == 2


async def test_several_of_one_user_in_a_batch_are_as_the_latest(ways: Ways) -> None:
    await ways.sign_up([sign_up("u1", timestamp_ms=NOW_MS - 2000, age=30)])
    await ways.erase([erasure(at_ms=NOW_MS - 1000, offset=1), erasure(at_ms=NOW_MS - 3000)])
    assert await ways.known() == (None, [])
    assert len(ways.records) == 2


async def test_one_that_is_sent_again_under_its_id_does_not_erase_who_registered_anew(ways: Ways) -> None:
    first = erasure(at_ms=NOW_MS - 3000, event_id="e1")
    outdone = erasure(at_ms=NOW_MS - 3500, offset=1, event_id="e0")
    await ways.erase([first, outdone])
    await ways.sign_up([sign_up("u1", 1, NOW_MS - 2000, age=31)])
    await ways.behave([act("i1", NOW_MS - 1500)])
    for name in ("e1", "e0"):
        await ways.erase([erasure(at_ms=NOW_MS - 1000, offset=2, event_id=name)])
        assert await ways.known() == ({"age": 31}, ["i1"])


async def test_one_that_is_sent_again_hides_no_other_of_its_batch(ways: Ways) -> None:
    await ways.erase([erasure(at_ms=NOW_MS - 9000, event_id="e1")])
    await ways.sign_up([sign_up("u1", 1, NOW_MS - 8000, age=31)])
    other, again = erasure(at_ms=NOW_MS - 5000, offset=1), erasure(at_ms=NOW_MS - 1000, offset=2, event_id="e1")
    await ways.erase([other, again])
    assert await ways.known() == (None, [])
    await ways.sign_up([sign_up("u1", 2, NOW_MS - 3000, age=32)])
    assert (await ways.known())[0] == {"age": 32}


async def test_one_of_a_clock_ahead_that_is_read_again_later_does_not_erase_who_registered_anew() -> None:
    """Kafka's time of it is ahead of the reader's clock, so that it is as of that, each time another one."""
    ways, log = Ways(), InMemoryTrainingLog()
    await ways.world.activate()
    ahead = erasure(at_ms=NOW_MS + 600_000)
    await ways.erase([ahead])
    way = LogErasures(log, ways.world.store, max_event_bytes=2000, now=lambda: NOW + 700, sleep=ways.erase_meanwhile)
    late = SignUps(
        ways.world.parts,
        ways.world.dead_letters,
        ways.world.metrics,
        enriched_topic=NAMES.enriched,
        profiles_topic=NAMES.profiles,
        max_event_bytes=2000,
        now=lambda: NOW + 60,
    )
    await late([sign_up("u1", 1, NOW_MS + 60_000, age=31)])
    for name, seconds in (("before", -1), ("after", 100)):
        when, since = moment(NOW_MS + 1000 * seconds), {"registered_at": moment(NOW_MS + 60_000), **NO_BEHAVIOUR}
        await log.write_rankings([ranked(name, when, **since)])
    await way([ahead])
    assert (await ways.known())[0] == {"age": 31}
    assert (await log.read(0, 2 * NOW_MS)).rankings["ranking_id"].to_pylist() == ["after"]


@pytest.mark.parametrize(
    ("value", "key", "reason"),
    [
        (b"{", b"u1", Reason.MALFORMED),
        ({"occurred_at": 1_700_000_000}, b"u1", Reason.INVALID),
        ({"user_id": "u2"}, b"u1", Reason.INVALID),
        ({"user_id": "u1", "occurred_at": "2999-01-01T00:00:00Z"}, b"u1", Reason.INVALID),
        ({"user_id": "u1", "pad": "x" * 3000}, b"u1", Reason.TOO_LARGE),
    ],
)
async def test_one_that_is_none_is_a_dead_letter(ways: Ways, value: object, key: bytes, reason: Reason) -> None:
    await ways.sign_up([sign_up("u1", timestamp_ms=NOW_MS - 5000, age=30)])
    await ways.erase([message(value, key=key, topic="user-erased"), erasure("u3")])
    (letter,) = ways.world.events.of(NAMES.dead_letters)
    assert dict(letter.headers)["foretaste-reason"] == reason.encode()
    assert (await ways.known())[0] == {"age": 30}
    assert len(ways.records) == 1


async def test_with_a_part_away_it_is_done_again(ways: Ways) -> None:
    await ways.sign_up([sign_up("u1", timestamp_ms=NOW_MS - 5000, age=30)])
    ways.world.events.outage = Unavailable("kafka", "away")
    with pytest.raises(Unavailable):
        await ways.erase([erasure()])
    ways.world.events.outage = None
    await ways.erase([erasure()])
    assert await ways.known() == (None, [])
    assert ways.profiles == [(b"u1", True), (b"u1", False)]
    assert len(ways.records) == 1


async def test_the_log_forgets_until_the_last_answer_in_flight() -> None:
    world, log = World(), InMemoryTrainingLog()
    now_ms = AT_MS + 60_000
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    way = LogErasures(log, world.store, max_event_bytes=2000, now=lambda: now_ms / 1000, sleep=sleep)
    in_flight = now_ms + IN_FLIGHT_MS
    await log.write_rankings([ranked("old"), ranked("in flight", at(ms=in_flight - AT_MS))])
    await log.write_rankings([ranked("other", user_id="u2")])
    await log.write_behaviours([behaved("i1"), behaved("i2", user_id="u2")])
    await way([erasure(at_ms=AT_MS + 50_000), message(b"{", topic="user-erased")])
    read = await log.read(0, 2 * AT_MS)
    assert read.rankings["ranking_id"].to_pylist() == ["other"]
    assert read.behaviours["item_id"].to_pylist() == ["i2"]
    await log.write_behaviours([behaved("i3", at(days=1))])
    assert (await log.read(0, 2 * AT_MS)).behaviours["item_id"].to_pylist() == ["i2"], "nobody registered anew"
    await log.write_rankings([ranked("new", at(days=1), registered_at=at(days=0.5), **NO_BEHAVIOUR)])
    again = await log.read(0, 2 * AT_MS)
    assert again.rankings["ranking_id"].to_pylist() == ["other", "new"]
    assert again.behaviours["item_id"].to_pylist() == ["i2", "i3"]
    assert set(await log.erased()) == {user_digest("u1")}
    assert sum(slept) == pytest.approx(PATIENCE), "the users' way did not come"


async def test_of_who_registered_anew_the_log_forgets_what_was_before_that() -> None:
    ways, log = Ways(), InMemoryTrainingLog()
    await ways.world.activate()
    way = LogErasures(log, ways.world.store, max_event_bytes=2000, now=lambda: NOW, sleep=ways.erase_meanwhile)
    for offset, ago_ms in enumerate((500, 300)):
        await ways.sign_up([sign_up("u1", offset, NOW_MS - ago_ms, age=31)])
    since = {"registered_at": moment(NOW_MS - 500), **NO_BEHAVIOUR}
    for name, ago_ms in (("old", 2000), ("between", 800), ("new", 400), ("newer", 100)):
        await log.write_rankings([ranked(name, moment(NOW_MS - ago_ms), **since)])
        await log.write_behaviours([behaved(name, moment(NOW_MS - ago_ms))])
    await way([erasure(at_ms=NOW_MS - 1000)])
    read = await log.read(0, 2 * NOW_MS)
    assert read.rankings["ranking_id"].to_pylist() == ["new", "newer"]
    assert read.behaviours["item_id"].to_pylist() == ["new", "newer"]
    assert len(ways.records) == 1


async def test_of_who_registered_anew_the_log_forgets_what_was_answered_before_the_erasure_was_handled() -> None:
    """The store had the behaviours, the attributes or the first registration of before until then."""
    ways, log = Ways(), InMemoryTrainingLog()
    await ways.world.activate()
    way = LogErasures(log, ways.world.store, max_event_bytes=2000, now=lambda: NOW, sleep=ways.erase_meanwhile)

    async def answered(name: str, ago_ms: int) -> None:
        (user,) = await ways.world.store.read(["u1"], 1)
        shown = ("attributes", dict(user.attributes or {})), ("registered_at", moment(user.registered_ms or 0))
        columns = zip(("behaviour_items", "behaviour_actions", "behaviour_times"), behaviour_columns(user), strict=True)
        await log.write_rankings([ranked(name, moment(NOW_MS - ago_ms), **dict(shown), **dict(columns))])

    await ways.sign_up([sign_up("u1", timestamp_ms=NOW_MS - 5000, age=30)])
    await ways.behave([act("erased", NOW_MS - 4000)])
    await answered("before the registration was stored", 400)
    await ways.sign_up([sign_up("u1", 1, NOW_MS - 500, age=31)])
    await answered("before the erasure was handled", 300)
    await way([erasure(at_ms=NOW_MS - 1000)])
    assert (await log.read(0, 2 * NOW_MS)).rankings["ranking_id"].to_pylist() == []
    await ways.behave([act("since", NOW_MS - 200, offset=1)])
    await answered("since", 100)
    assert (await log.read(0, 2 * NOW_MS)).rankings["ranking_id"].to_pylist() == ["since"]


async def test_a_sign_up_of_before_the_erasure_says_null_again(ways: Ways) -> None:
    before = sign_up("u1", timestamp_ms=NOW_MS - 5000, age=30)
    await ways.sign_up([before])
    await ways.erase([erasure()])
    await ways.sign_up([before])
    await ways.sign_up([sign_up("u1", 1, NOW_MS - 4000, age=31)])
    assert ways.profiles == [(b"u1", True), *[(b"u1", False)] * 3]


async def test_of_who_is_erased_before_the_profile_is_produced_null_is_the_last_record(ways: Ways) -> None:
    async def erase() -> None:
        await ways.erase([erasure()])

    await ways.sign_up([sign_up("before", timestamp_ms=NOW_MS - 6000, age=30)])
    ways.interrupted.meanwhile = erase
    both = [sign_up("u1", 1, NOW_MS - 5000, age=30), sign_up("u2", 2, NOW_MS - 5000, age=30)]
    await ways.sign_up(both)
    assert ways.profiles[1:] == [(b"u1", False), (b"u1", True), (b"u2", True), (b"u1", False)]
    await ways.sign_up([sign_up("after", 3, NOW_MS - 5000, age=30)])
    assert ways.profiles[5:] == [(b"after", True)]


async def test_of_who_is_erased_and_back_before_the_profile_is_produced_the_last_record_tells(ways: Ways) -> None:
    """A worker that stood still produces the erased registration behind that of who is back."""

    async def erase() -> None:
        await ways.erase([erasure()])
        await ways.sign_up([sign_up("u1", 1, NOW_MS - 500, age=31)])

    ways.interrupted.meanwhile = erase
    await ways.sign_up([sign_up("u1", timestamp_ms=NOW_MS - 5000, age=30)])
    assert ways.registered == [NOW_MS - 500, NOW_MS - 5000, NOW_MS - 500]


async def test_of_whose_first_registration_is_erased_before_the_profile_is_produced_the_last_record_tells(
    ways: Ways,
) -> None:
    async def erase() -> None:
        await ways.erase([erasure()])

    await ways.sign_up([sign_up("u1", timestamp_ms=NOW_MS - 5000, age=30)])
    ways.interrupted.meanwhile = erase
    await ways.sign_up([sign_up("u1", 1, NOW_MS - 500, age=31)])
    assert ways.registered[-2:] == [NOW_MS - 5000, NOW_MS - 500]


async def test_a_worker_that_dies_between_profile_and_null_leaves_that_to_the_next(ways: Ways) -> None:
    async def erase() -> None:
        await ways.erase([erasure()])
        ways.world.store.read_outage = Unavailable("redis", "the worker is killed")

    before = sign_up("u1", timestamp_ms=NOW_MS - 5000, age=30)
    ways.interrupted.meanwhile = erase
    with pytest.raises(Unavailable, match="is killed"):
        await ways.sign_up([before])
    assert ways.profiles == [(b"u1", False), (b"u1", True)]
    ways.world.store.read_outage = None
    await ways.sign_up([before])
    assert ways.profiles[-1] == (b"u1", False)


async def test_of_who_registers_anew_before_the_null_value_is_produced_the_profile_is_the_last_record(
    ways: Ways,
) -> None:
    async def register() -> None:
        await ways.sign_up([sign_up("u1", 1, NOW_MS - 500, age=31)])

    await ways.sign_up([sign_up("u1", timestamp_ms=NOW_MS - 5000, age=30)])
    ways.interrupted.meanwhile = register
    await ways.erase([erasure(), erasure("nobody", offset=1)])
    assert [known for user, known in ways.profiles if user == b"u1"] == [True, True, False, True]
    assert [known for user, known in ways.profiles if user == b"nobody"] == [False]
    (last,) = ways.world.events.of(NAMES.profiles)[-1:]
    assert UserProfile.model_validate_json(last.value or b"").attributes == {"age": 31}


async def test_that_nobody_was_erased_costs_one_look_a_batch(ways: Ways) -> None:
    await ways.sign_up([sign_up("u1", timestamp_ms=NOW_MS - 5000, age=30)])
    looks, reads = ways.world.last_erasure.reads, ways.world.store.reads
    await ways.sign_up([sign_up(f"u{each}", each, NOW_MS - 5000, age=30) for each in range(2, 9)])
    assert ways.world.last_erasure.reads == looks + 1
    assert ways.world.store.reads == reads + (0 if isinstance(ways.world.store, ChosenOneStepStore) else 1)
