"""What every `OnlineStore` does: in memory, in Redis, and through Feast's API on Redis, SQLite and PostgreSQL.

A form that keeps less than the whole promise is named with what it keeps in `tests.store_forms.PROMISES`.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from features.feast_api import FeatureStore
from features.online.redis_store import RedisStore
from features.repo_config import close_connections
from foretaste.kernel.event_order import REMEMBERED_BEHAVIOURS, REMEMBERED_REGISTRATIONS, AppliedEvents, Place
from foretaste.kernel.generations import Generation
from foretaste.kernel.ports import OnlineStore
from foretaste.kernel.retrying import until_it_succeeds
from foretaste.kernel.users import BehavedUser, Behaviour, EnrichedUser, ReenrichedUser, UserFeatures, VirtualBehaviour
from foretaste.kernel.values import Attributes
from tests.store_forms import PROMISES, form_config, open_configured, open_form

AT = 1_767_225_600_000


@pytest.fixture
async def store(store_form: str, request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[OnlineStore]:
    opened = open_form(store_form, request, tmp_path)
    yield opened
    await opened.close()


@pytest.fixture
def step(store_form: str) -> int:
    """Milliseconds by which this form tells one row newer than another."""
    return PROMISES[store_form].step_ms


ATTRIBUTES: Attributes = {
    "age": 25,
    "city": "Zürich",
    "vip": True,
    "score": 1.5,
    "gone": None,
    "likes": ["jazz", 3],
    "portrait": [0.25, -1.0],
}


def enriched(user_id: str = "u1", at_ms: int = AT, generation: int | None = 1, fill: float = 0.5) -> EnrichedUser:
    virtual = None if generation is None else VirtualBehaviour(generation, np.full((3, 2), fill, np.float32))
    return EnrichedUser(user_id, ATTRIBUTES, virtual, at_ms)


def reenriched(at_ms: int, generation: int = 1, fill: float = 3.0, user_id: str = "u1") -> ReenrichedUser:
    return ReenrichedUser(user_id, VirtualBehaviour(generation, np.full((3, 2), fill, np.float32)), at_ms)


def behaved(*items: str, user_id: str = "u1", after: UserFeatures | None = None) -> BehavedUser:
    behaviour = Behaviour(items, ["liked"] * len(items), [AT + n for n in range(len(items))])
    return BehavedUser.after(after or UserFeatures(user_id), behaviour)


async def read(store: OnlineStore, user_id: str = "u1", generation: int = 1) -> UserFeatures:
    (features,) = await store.read([user_id], generation)
    return features


async def test_a_user_never_written_is_empty(store: OnlineStore) -> None:
    features = await read(store, "nobody")
    assert features == UserFeatures("nobody")
    assert len(features.behaviour) == 0


async def test_what_was_enriched_is_read_back_whole(store: OnlineStore) -> None:
    vectors = np.array([[0.1, -2.5], [3e-8, 1e20], [0.0, 7.25]], np.float32)
    await store.write_enriched([EnrichedUser("u1", {"age": 25, "city": "Zürich"}, VirtualBehaviour(1, vectors), AT)])
    features = await read(store)
    assert features.attributes == {"age": 25, "city": "Zürich"}
    assert features.virtual is not None
    assert features.virtual.generation == 1
    assert features.virtual.vectors.dtype == np.float32
    np.testing.assert_array_equal(features.virtual.vectors, vectors)
    assert features.as_of_ms == AT


async def test_attribute_values_keep_their_types(store: OnlineStore) -> None:
    await store.write_enriched([enriched()])
    attributes = (await read(store)).attributes
    assert attributes == ATTRIBUTES
    assert attributes is not None
    assert type(attributes["vip"]) is bool
    assert type(attributes["age"]) is int


async def test_no_attributes_are_not_unknown_attributes(store: OnlineStore) -> None:
    await store.write_enriched([EnrichedUser("u1", {}, None, AT)])
    assert (await read(store)).attributes == {}


async def test_a_warm_user_has_attributes_alone(store: OnlineStore) -> None:
    await store.write_enriched([enriched(generation=None)])
    features = await read(store)
    assert features.attributes is not None
    assert features.virtual is None


async def test_behaviour_is_read_back_in_order(store: OnlineStore) -> None:
    assert await store.write_behaviour([behaved("b", "a", "ünï")]) == []
    features = await read(store)
    assert list(features.behaviour.items) == ["b", "a", "ünï"]
    assert list(features.behaviour.actions) == ["liked"] * 3
    assert list(features.behaviour.times) == [AT, AT + 1, AT + 2]
    assert features.behaviour_version == 1
    assert features.attributes is None


async def test_many_users_come_in_the_order_asked_and_repeats_too(store: OnlineStore) -> None:
    users = [enriched(f"u{n}", fill=float(n)) for n in range(50)]
    await store.write_enriched(users)
    await store.write_behaviour([behaved(f"i{n}", user_id=f"u{n}") for n in range(0, 50, 2)])
    wanted = ["u7", "nobody", "u48", "u7"]
    features = await store.read(wanted, 1)
    assert [one.user_id for one in features] == wanted
    first = [None if one.virtual is None else float(one.virtual.vectors[0, 0]) for one in features]
    assert first == [7.0, None, 48.0, 7.0]
    assert [list(one.behaviour.items) for one in features] == [[], [], ["i48"], []]


async def test_no_users_is_no_work(store: OnlineStore) -> None:
    assert await store.write_enriched([]) == []
    assert await store.write_behaviour([]) == []
    assert await store.write_virtual([]) == []
    assert await store.read([], 1) == []


async def test_a_replay_and_an_older_write_change_nothing(store: OnlineStore) -> None:
    await store.write_enriched([enriched(fill=1.0)])
    await store.write_enriched([enriched(fill=2.0), enriched(at_ms=AT - 1, fill=3.0)])
    features = await read(store)
    assert features.virtual is not None
    assert features.virtual.vectors[0, 0] == 1.0
    assert features.as_of_ms == AT


async def test_a_newer_write_replaces(store: OnlineStore, step: int) -> None:
    await store.write_enriched([enriched(fill=1.0)])
    await store.write_enriched([enriched(at_ms=AT + step, fill=2.0)])
    features = await read(store)
    assert features.virtual is not None
    assert features.virtual.vectors[0, 0] == 2.0
    assert features.as_of_ms == AT + step


async def test_within_the_time_that_a_form_tells_apart_the_last_written_stays(store: OnlineStore, step: int) -> None:
    """In milliseconds an older row is dropped; a store of whole seconds takes it, and a replay changes nothing."""
    await store.write_enriched([enriched(at_ms=AT + 500, fill=1.0)])
    await store.write_enriched([enriched(at_ms=AT + 400, fill=2.0)])
    expected = 1.0 if step == 1 else 2.0
    for _ in range(2):
        features = await read(store)
        assert features.virtual is not None
        assert features.virtual.vectors[0, 0] == expected
        await store.write_enriched([enriched(at_ms=AT + 400, fill=2.0)])


async def test_the_newest_of_a_batch_wins_whatever_its_place(store: OnlineStore) -> None:
    await store.write_enriched([enriched(at_ms=AT + 1, fill=2.0), enriched(fill=1.0)])
    features = await read(store)
    assert features.virtual is not None
    assert features.virtual.vectors[0, 0] == 2.0


def filled(value: float) -> VirtualBehaviour:
    return VirtualBehaviour(1, np.full((3, 2), value, np.float32))


def registered(offset: int, fill: float, at_ms: int = AT, partition: int = 0, timestamp_ms: int = AT) -> EnrichedUser:
    """A registration at this place of Kafka, whose attributes and virtual behaviour hold `fill`."""
    virtual = filled(fill)
    place = Place(f"user-registered-{partition}", offset, timestamp_ms)
    digest = f"{partition:04}{offset:04}".encode()
    return EnrichedUser("u1", {"fill": fill}, virtual, at_ms, place, (digest,))


async def fill_of(store: OnlineStore) -> float | None:
    """What the attributes of "u1" hold, and the virtual behaviour that passes for theirs; None where none does."""
    generation = Generation(1, 1, {}, {}, np.zeros((3, 2), np.float32), "2026-01-01T00:00:00Z")
    features = await read(store)
    current = generation.virtual_of(features)
    assert features.attributes is not None
    assert current is None or (current.vectors == features.attributes["fill"]).all()
    return None if current is None else float(current.vectors[0, 0])


@pytest.mark.parametrize("order", ["first to last", "last to first"])
@pytest.mark.parametrize(
    "later",
    [
        pytest.param(registered(8, 2.0), id="by the offset"),
        pytest.param(registered(70, 2.0, timestamp_ms=AT - 5), id="by the offset though Kafka's timestamp is lower"),
        pytest.param(registered(3, 2.0, partition=1, timestamp_ms=AT + 1), id="of another partition, by the timestamp"),
    ],
)
async def test_of_two_registrations_of_one_time_the_later_in_the_topic_stays(
    store: OnlineStore, store_form: str, later: EnrichedUser, order: str
) -> None:
    """However they are batched, and written again in any order. A form that keeps no places keeps the last written."""
    earlier = registered(7, 1.0)
    both = [earlier, later] if order == "first to last" else [later, earlier]
    for each in both:
        await store.write_enriched([each])
    last = 2.0 if PROMISES[store_form].keeps_places or order == "first to last" else 1.0
    assert await fill_of(store) == last
    await store.write_enriched(both)
    for each in (earlier, later):
        await store.write_enriched([each])
    assert await fill_of(store) == 2.0


async def test_a_registration_that_was_applied_does_not_win_again_with_a_later_time(
    store: OnlineStore, store_form: str, step: int
) -> None:
    await store.write_enriched([registered(7, 1.0)])
    await store.write_enriched([registered(8, 2.0, at_ms=AT + step)])
    await store.write_enriched([registered(7, 1.0, at_ms=AT + 5 * step)])
    remembers = PROMISES[store_form].keeps_places
    assert await fill_of(store) == (2.0 if remembers else 1.0)
    assert len((await read(store)).registrations) == (2 if remembers else 0)
    for each in range(REMEMBERED_REGISTRATIONS):
        await store.write_enriched([registered(100 + each, 3.0, at_ms=AT + (10 + each) * step)])
    assert len((await read(store)).registrations) == (REMEMBERED_REGISTRATIONS if remembers else 0)


async def test_who_is_refused_is_told(store: OnlineStore, store_form: str, step: int) -> None:
    """Attributes by an older registration, virtual behaviour by a slot as new, or by attributes that are others."""
    remembers = PROMISES[store_form].keeps_places
    first, later = registered(7, 1.0), registered(8, 2.0, at_ms=AT + step)
    other = replace(later, user_id="u2")
    assert await store.write_enriched([later]) == []
    assert await store.write_enriched([first, other]) == ["u1"]
    assert await store.write_enriched([later]) == (["u1"] if remembers else [])
    read_before = await read(store)
    repair = replace(ReenrichedUser.after(read_before, filled(2.0)), at_ms=AT + 2 * step)
    fills = replace(repair, virtual=VirtualBehaviour(2, filled(2.0).vectors))
    assert await store.write_virtual([repair, replace(fills, user_id="u2")]) == []
    assert await store.write_virtual([repair, fills]) == ["u1"]
    assert (await read(store, generation=2)).virtual is not None, "the other slot's row is taken"
    assert await store.write_enriched([registered(9, 3.0, at_ms=AT + 3 * step)]) == []
    late = replace(ReenrichedUser.after(read_before, filled(2.0)), at_ms=AT + 9 * step)
    assert await store.write_virtual([replace(late, user_id="u2"), late]) == ["u1"]
    assert await fill_of(store) == 3.0


async def test_a_registration_that_was_outdone_when_it_came_does_not_win_with_a_later_time(
    store: OnlineStore, store_form: str, step: int
) -> None:
    """Nor do those of its batch that it was chosen before, where they are told to be older."""
    if not PROMISES[store_form].keeps_places:
        return  # it keeps no digests: told in its documentation, and by the test of what was applied above
    standing, outdone = registered(8, 2.0, at_ms=AT + 5 * step), registered(7, 1.0, at_ms=AT + step)
    assert await store.write_enriched([standing]) == []
    before = await read(store)
    assert await store.write_enriched([replace(outdone, digests=(b"chosen..", *outdone.digests))]) == ["u1"]
    after = await read(store)
    assert after.registrations == (b"chosen..", *outdone.digests, *standing.digests)
    assert (before.first_ms, after.first_ms) == (0, AT + step), "it was before"
    assert replace(after, registrations=before.registrations, first_ms=0, virtual=None) == replace(before, virtual=None)
    for digest in (b"chosen..", *outdone.digests):
        again = replace(outdone, at_ms=AT + 9 * step, digests=(digest,))
        assert await store.write_enriched([again]) == ["u1"]
    assert (await read(store)).registrations == after.registrations
    assert await fill_of(store) == 2.0
    for each in range(REMEMBERED_REGISTRATIONS):
        assert await store.write_enriched([registered(20 + each, 3.0, partition=1)]) == ["u1"]
    remembered = (await read(store)).registrations
    assert (len(remembered), remembered[-1]) == (REMEMBERED_REGISTRATIONS, standing.digests[-1])


async def test_a_copy_that_is_known_leaves_those_it_was_chosen_before_uncounted(
    store: OnlineStore, store_form: str, step: int
) -> None:
    """They may be later than what stands: whoever wrote reads again, and writes them."""
    if not PROMISES[store_form].keeps_places:
        return  # a copy is not known there, but written
    copied, other = registered(7, 1.0), registered(8, 2.0, at_ms=AT + step)
    assert await store.write_enriched([copied]) == []
    later_copy = replace(copied, at_ms=AT + 2 * step, digests=(*other.digests, *copied.digests))
    assert await store.write_enriched([later_copy]) == ["u1"]
    assert (await read(store)).registrations == copied.digests
    assert await store.write_enriched([other]) == []
    assert await fill_of(store) == 2.0


async def test_a_registration_without_a_mark_remembers_what_it_outdid(
    store: OnlineStore, store_form: str, step: int
) -> None:
    if not PROMISES[store_form].keeps_places:
        return  # it keeps no digests
    await store.write_enriched([enriched(at_ms=AT + 5 * step)])
    outdone = registered(7, 1.0)
    for at_ms in (AT, AT + 9 * step):
        assert await store.write_enriched([replace(outdone, at_ms=at_ms)]) == ["u1"]
    held = await read(store)
    assert (held.attributes_ms, held.attributes_place, held.registrations) == (AT + 5 * step, None, outdone.digests)


async def test_what_is_remembered_twice_is_remembered_once(store: OnlineStore, store_form: str, step: int) -> None:
    if not PROMISES[store_form].keeps_places:
        return  # it keeps no digests
    await store.write_enriched([registered(7, 1.0)])
    later = registered(8, 2.0, at_ms=AT + step)
    await store.write_enriched([replace(later, digests=(*registered(7, 1.0).digests, b"another.", *later.digests))])
    assert (await read(store)).registrations == (*registered(7, 1.0).digests, b"another.", *later.digests)


async def test_a_row_made_over_what_was_read_takes_its_place_and_none_that_is_newer(
    store: OnlineStore, step: int
) -> None:
    await store.write_enriched([registered(7, 1.0)])
    await store.write_virtual([reenriched(AT + step)])
    made = ReenrichedUser.after(await read(store), VirtualBehaviour(1, np.full((3, 2), 2.0, np.float32)))
    assert made.read_ms == AT + step
    assert await store.write_virtual([made]) == []
    written = await read(store)
    assert written.virtual is not None
    assert (written.virtual.vectors == 2.0).all()
    await store.write_virtual([reenriched(AT + 7 * step, fill=4.0)])
    assert await store.write_virtual([made]) == ["u1"]
    newer = await read(store)
    assert newer.virtual is not None
    assert (newer.virtual.vectors == 4.0).all()


async def test_virtual_behaviour_is_written_with_its_attributes_however_new_the_slot_is(
    store: OnlineStore, step: int
) -> None:
    await store.write_enriched([registered(7, 1.0)])
    await store.write_virtual(
        [ReenrichedUser.after(await read(store), VirtualBehaviour(1, np.ones((3, 2), np.float32)))]
    )
    await store.write_virtual([reenriched(AT + 7 * step)])
    await store.write_enriched([registered(8, 2.0, at_ms=AT + step)])
    assert await fill_of(store) == 2.0


async def test_attributes_that_are_written_alone_leave_no_virtual_behaviour_that_passes_for_theirs(
    store: OnlineStore, step: int
) -> None:
    await store.write_enriched([registered(7, 1.0)])
    await store.write_virtual([reenriched(AT + 7 * step), reenriched(AT + 7 * step, generation=2)])
    await store.write_enriched([EnrichedUser("u1", {"fill": 2.0}, None, AT + step)])
    assert await fill_of(store) is None
    second = await read(store, generation=2)
    assert second.virtual is None or second.virtual_ms < second.attributes_ms
    await store.write_virtual(
        [ReenrichedUser.after(await read(store), VirtualBehaviour(1, np.full((3, 2), 2.0, np.float32)))]
    )
    assert await fill_of(store) == 2.0


async def test_virtual_behaviour_made_from_attributes_that_were_replaced_is_not_taken(
    store: OnlineStore, store_form: str, step: int
) -> None:
    await store.write_enriched([registered(7, 1.0)])
    seen = await read(store)
    of_the_first = filled(1.0)
    if PROMISES[store_form].keeps_places:
        await store.write_enriched([registered(8, 2.0)])
        await store.write_virtual([ReenrichedUser.after(seen, of_the_first)])
        assert await fill_of(store) == 2.0
    await store.write_enriched([registered(9, 3.0, at_ms=AT + step)])
    await store.write_virtual([replace(ReenrichedUser.after(seen, of_the_first), at_ms=AT + 9 * step)])
    assert await fill_of(store) == 3.0


async def test_what_was_applied_is_written_with_the_behaviour_and_read_with_it(store: OnlineStore) -> None:
    (nobody,) = await store.read_behaviour(["u1"])
    assert nobody == UserFeatures("u1")
    one, two, three = (AppliedEvents(name.encode() * 8) for name in "abc")
    assert await store.write_behaviour([replace(behaved("a"), applied=one)]) == []
    (first,) = await store.read_behaviour(["u1"])
    assert (list(first.behaviour.items), first.applied, first.behaviour_version) == (["a"], one, 1)
    assert await store.write_behaviour([BehavedUser.after(first, first.behaviour, two)]) == []
    assert await store.write_behaviour([BehavedUser.after(first, first.behaviour, three)]) == ["u1"]
    held = await store.read_behaviour(["nobody", "u1"])
    assert [list(each.applied) for each in held] == [[], [b"b" * 8]], "what was refused was not applied"
    assert (await read(store)).behaviour == held[1].behaviour


async def test_as_many_digests_are_kept_as_are_remembered(store: OnlineStore) -> None:
    applied = AppliedEvents()
    for number in range(REMEMBERED_BEHAVIOURS + 50):
        applied = applied.with_applied(b"%08d" % number)
    await store.write_behaviour([replace(behaved("a"), applied=applied)])
    (held,) = await store.read_behaviour(["u1"])
    assert list(held.applied) == [b"%08d" % number for number in range(50, REMEMBERED_BEHAVIOURS + 50)]


TEXTS = {
    "no JSON": "country=NO",
    "a list": "[1,2]",
    "a text": '"NO"',
    "null": "null",
    "single quotes": "{'country': 'NO'}",
    "half a character": '{"country": "N\\ud83d"}',
}


async def test_rows_that_cannot_be_read_hurt_nobody_else_and_the_next_write_mends_them(
    shared_form: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """As a team's own Feast client can write them."""
    config = form_config(shared_form, request, tmp_path)
    feast = FeatureStore(config=config)
    later = datetime.fromtimestamp(AT / 1000 + 60, UTC)

    def push(view: str, users: Sequence[str], **features: Sequence[object]) -> None:
        frame = pd.DataFrame({"user_id": users, **features, "event_timestamp": [later] * len(users)})
        feast.write_to_online_store(view, frame)

    push("user_attributes", list(TEXTS), attributes=list(TEXTS.values()))
    columns: dict[str, Sequence[object]] = {"items": [["a", "b", "c"]], "actions": [["x", "x"]], "times": [[1, 2, 3]]}
    push("user_behaviour", ["uneven"], **columns, version=[1])
    push("virtual_behaviour_odd", ["odd"], vectors=[[0.1] * 7], dimension=[3], generation=[1])
    close_connections(feast)
    users = [*TEXTS, "uneven", "odd", "good"]
    store = open_configured(shared_form, config)
    await store.write_enriched([enriched("good")])
    await store.write_behaviour([behaved("i1", user_id="good")])

    found = await store.read(users, 1)
    views = [*["user_attributes"] * len(TEXTS), "user_behaviour", "virtual_behaviour_odd"]
    assert [each.damaged for each in found] == [*((view,) for view in views), ()]
    assert [each.attributes for each in found[:-1]] == [None] * len(views)
    assert (found[-1].attributes, len(found[-1].behaviour)) == (enriched("good").attributes, 1)
    read = await store.read_behaviour(users)
    assert [each.damaged for each in read] == [("user_behaviour",) if each == "uneven" else () for each in users]

    await store.write_enriched([enriched(user, at_ms=AT + 1000) for user in users])
    appended = [BehavedUser.after(each, Behaviour(["i2"], ["liked"], [AT]), AppliedEvents(b"x" * 8)) for each in read]
    assert await store.write_behaviour(appended) == []
    mended = await store.read(users, 1)
    assert [each.damaged for each in mended] == [()] * len(users)
    assert [each.attributes for each in mended] == [enriched("good").attributes] * len(users)
    assert all(each.virtual is not None for each in mended)
    held = await store.read_behaviour(users)
    assert [(list(each.behaviour.items), list(each.applied)) for each in held] == [(["i2"], [b"x" * 8])] * len(users)
    await store.close()


async def test_attributes_that_another_client_writes_make_nobody_new(
    shared_form: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """As a team's nightly job does, of everybody, as of the night; one row of it cannot be read."""
    config = form_config(shared_form, request, tmp_path)
    store, feast = open_configured(shared_form, config), FeatureStore(config=config)
    texts = {"u1": '{"age": 30}', "rotten": "no json", "one step": '{"age": 31}', "whole": '{"age": 32}'}
    rows = {user: enriched(user) for user in texts}
    if isinstance(store, RedisStore):
        assert await store.write_new([rows.pop("one step")]) == []
        assert await store.write_whole([UserFeatures("whole", {"age": 25}, attributes_ms=AT)]) == []
        del rows["whole"]
    await store.write_enriched(list(rows.values()))
    night = [datetime.fromtimestamp(AT / 1000 + 60, UTC)] * len(texts)
    frame = {"user_id": list(texts), "attributes": list(texts.values()), "event_timestamp": night}
    feast.write_to_online_store("user_attributes", pd.DataFrame(frame))
    close_connections(feast)
    assert [each.registered_ms for each in await store.read(list(texts), 1)] == [AT, None, AT, AT]
    assert await store.write_enriched([enriched(user, AT + 120_000) for user in texts]) == []
    found = await store.read(list(texts), 1)
    assert [(each.attributes_ms, each.registered_ms) for each in found] == [(AT + 120_000, AT)] * len(texts)
    await store.close()


async def test_each_write_of_a_behaviour_raises_its_version_by_one_and_its_event_time(store: OnlineStore) -> None:
    await store.write_behaviour([behaved("a")])
    first = await read(store)
    assert await store.write_behaviour([behaved("a", after=first)]) == [], "no later behaviour, and a newer row"
    second = await read(store)
    assert (first.behaviour_version, second.behaviour_version) == (1, 2)
    assert second.behaviour_us >= first.behaviour_us > 0


async def test_of_two_writers_who_read_the_same_version_the_second_is_refused(store: OnlineStore) -> None:
    await store.write_behaviour([behaved("a")])
    seen = await read(store)
    assert await store.write_behaviour([behaved("a", "b", after=seen)]) == []
    assert await store.write_behaviour([behaved("a", "c", after=seen)]) == ["u1"]
    again = await read(store)
    assert list(again.behaviour.items) == ["a", "b"], "nothing of the first is lost"
    assert await store.write_behaviour([behaved("a", "b", "c", after=again)]) == []
    assert list((await read(store)).behaviour.items) == ["a", "b", "c"]


async def test_of_two_writers_who_read_nothing_the_second_is_refused(store: OnlineStore) -> None:
    assert await store.write_behaviour([behaved("a")]) == []
    assert await store.write_behaviour([behaved("b")]) == ["u1"]
    assert list((await read(store)).behaviour.items) == ["a"]


async def test_writers_at_the_same_moment(store: OnlineStore, store_form: str) -> None:
    """Each reads, appends and writes until it is not refused. Where comparing and writing are two steps, one that came
    between them can be lost, though never a whole behaviour: what stands there is what some writer made of a read one.
    """

    async def write(item: str) -> None:
        refused = ["u1"]
        while refused:
            seen = await read(store)
            refused = await store.write_behaviour([behaved(*seen.behaviour.items, item, after=seen)])

    items = [f"i{each}" for each in range(8)]
    await asyncio.gather(*map(write, items))
    features = await read(store)
    assert features.behaviour_version == len(features.behaviour)
    if PROMISES[store_form].compares_in_one_step:
        assert sorted(features.behaviour.items) == items
    else:
        assert set(features.behaviour.items) <= set(items)


async def test_a_refusal_is_for_one_user_alone(store: OnlineStore) -> None:
    await store.write_behaviour([behaved("a", user_id="u2")])
    rows = [behaved("b", user_id=user_id) for user_id in ("u1", "u2", "u3")]
    assert await store.write_behaviour(rows) == ["u2"]
    found = await store.read(["u1", "u2", "u3"], 1)
    assert [list(each.behaviour.items) for each in found] == [["b"], ["a"], ["b"]]


async def test_of_a_user_who_stands_twice_in_a_batch_the_first_is_written(store: OnlineStore) -> None:
    assert await store.write_behaviour([behaved("a"), behaved("b")]) == ["u1"]
    assert list((await read(store)).behaviour.items) == ["a"]


async def test_one_generation_serves_while_the_next_fills(store: OnlineStore) -> None:
    await store.write_enriched([enriched(generation=1, fill=1.0)])
    await store.write_enriched([enriched(generation=2, fill=2.0, at_ms=AT + 1)])
    old, new = await read(store, generation=1), await read(store, generation=2)
    assert old.virtual is not None
    assert new.virtual is not None
    assert (old.virtual.generation, float(old.virtual.vectors[0, 0])) == (1, 1.0)
    assert (new.virtual.generation, float(new.virtual.vectors[0, 0])) == (2, 2.0)


async def test_the_slot_tells_whose_virtual_behaviour_it_holds(store: OnlineStore) -> None:
    await store.write_enriched([enriched(generation=1)])
    features = await read(store, generation=3)
    assert features.virtual is not None
    assert features.virtual.generation == 1


async def test_a_slot_can_hold_a_generation_of_another_shape(store: OnlineStore) -> None:
    await store.write_enriched([enriched(generation=1)])
    wider = VirtualBehaviour(3, np.ones((2, 8), np.float32))
    await store.write_enriched([EnrichedUser("u1", {}, wider, AT + 1)])
    features = await read(store, generation=3)
    assert features.virtual is not None
    assert features.virtual.vectors.shape == (2, 8)


async def test_a_repair_as_of_the_next_millisecond_holds_and_yields_to_a_registration(store: OnlineStore) -> None:
    await store.write_enriched([enriched(generation=1, fill=1.0)])
    seen = await read(store, generation=3)
    await store.write_virtual([reenriched(seen.as_of_ms + 1, generation=3)])
    repaired = await read(store, generation=3)
    assert repaired.virtual is not None
    assert repaired.virtual.generation == 3
    again = EnrichedUser("u1", {"city": "Oslo"}, VirtualBehaviour(3, np.full((3, 2), 9.0, np.float32)), AT + 2)
    await store.write_enriched([again])
    features = await read(store, generation=3)
    assert features.attributes == {"city": "Oslo"}
    assert features.virtual is not None
    assert features.virtual.vectors[0, 0] == 9.0


async def test_virtual_behaviour_written_alone_touches_nothing_else(store: OnlineStore, step: int) -> None:
    await store.write_enriched([enriched(fill=1.0), enriched("u2", generation=None)])
    await store.write_behaviour([behaved("a")])
    before = await read(store)
    await store.write_virtual([reenriched(AT + step), reenriched(AT + step, generation=2, fill=4.0, user_id="u2")])
    after = await read(store)
    assert after.attributes == before.attributes
    assert (list(after.behaviour.items), after.behaviour_version) == (["a"], 1)
    assert (after.attributes_ms, after.virtual_ms, after.as_of_ms) == (AT, AT + step, AT + step)
    assert after.virtual is not None
    assert (after.virtual.vectors == 3.0).all()
    other = await read(store, "u2", generation=2)
    assert other.virtual is not None
    assert (other.virtual.vectors == 4.0).all()
    assert (other.attributes_ms, other.virtual_ms) == (AT, AT + step)


@pytest.mark.parametrize("at_ms", [AT, AT - 1])
async def test_virtual_behaviour_no_newer_than_its_slot_changes_nothing(store: OnlineStore, at_ms: int) -> None:
    await store.write_enriched([enriched(fill=1.0)])
    await store.write_virtual([reenriched(at_ms, generation=3)])
    features = await read(store)
    assert features.virtual is not None
    assert (features.virtual.generation, float(features.virtual.vectors[0, 0])) == (1, 1.0)


async def test_a_repair_does_not_keep_a_registration_still_on_its_way_from_its_attributes(
    store: OnlineStore, step: int
) -> None:
    await store.write_enriched([enriched(generation=None)])
    await store.write_virtual([reenriched(AT + step)])
    await store.write_enriched([EnrichedUser("u1", {"city": "Oslo"}, None, AT + step)])
    features = await read(store)
    assert features.attributes == {"city": "Oslo"}
    assert features.attributes_ms == AT + step


async def test_virtual_behaviour_can_be_written_of_a_user_without_attributes(store: OnlineStore) -> None:
    await store.write_virtual([reenriched(AT)])
    features = await read(store)
    assert features.attributes is None
    assert (features.attributes_ms, features.virtual_ms) == (0, AT)


async def test_virtual_behaviour_older_than_the_attributes_is_not_current(store: OnlineStore, step: int) -> None:
    generation = Generation(1, 1, {}, {}, np.zeros((3, 2), np.float32), "2026-01-01T00:00:00Z")
    await store.write_enriched([enriched()])
    assert generation.virtual_of(await read(store)) is not None
    await store.write_enriched([enriched(generation=None, at_ms=AT + step)])
    assert generation.virtual_of(await read(store)) is None
    await store.write_virtual([reenriched(AT + 2 * step)])
    assert generation.virtual_of(await read(store)) is not None


async def walked(
    store: OnlineStore, count: int, between: Callable[[int], Awaitable[None]] | None = None, cursor: str | None = ""
) -> list[str]:
    """All users from the cursor on, each as often as it came; `between` is called with the number of the page."""
    found: list[str] = []
    pages = 0
    while cursor is not None:
        page, cursor = await store.users(cursor, count)
        found += page
        pages += 1
        if between is not None:
            await between(pages)
    return found


async def signed_up(store: OnlineStore, users: Sequence[str]) -> None:
    """A write is tried again, as a worker does: on a full machine, Feast's form may refuse one as too late."""
    for start in range(0, len(users), 500):
        several = [enriched(user, generation=None) for user in users[start : start + 500]]
        await until_it_succeeds(longest=1)(store.write_enriched, several)


async def test_a_walk_finds_whoever_has_attributes_and_nobody_else(store: OnlineStore) -> None:
    users = [f"u{each}" for each in range(700)] + ["Zürich ☕", " ", "*", "a[b]?"]
    await signed_up(store, users)
    await store.write_behaviour([behaved("a", user_id="behaviour alone")])
    await store.write_virtual([reenriched(AT, user_id="virtual behaviour alone")])
    assert set(await walked(store, 100)) == set(users)


async def test_a_walk_over_nobody_ends(store: OnlineStore) -> None:
    assert await walked(store, 1000) == []


async def test_no_page_is_much_larger_than_asked(store: OnlineStore) -> None:
    """Smaller it may be: a server may hold the keys of others too."""
    await signed_up(store, [f"u{each}" for each in range(2000)])
    page, cursor = await store.users("", 200)
    sizes = [len(page)]
    while cursor is not None:
        page, cursor = await store.users(cursor, 200)
        sizes.append(len(page))
    assert max(sizes) <= 300
    assert sum(sizes) >= 2000


async def test_a_cursor_is_good_for_anybody_and_again(store: OnlineStore) -> None:
    """What a page holds may differ: Redis moves keys while its table grows."""
    users = {f"u{each}" for each in range(1000)}
    await signed_up(store, sorted(users))
    page, cursor = await store.users("", 100)
    assert cursor is not None
    for _ in range(2):
        rest = await walked(store, 100, cursor=cursor)
        assert set(page) | set(rest) == users
        assert len(rest) < len(users)


async def test_whoever_was_there_throughout_comes_whoever_signs_up_meanwhile(store: OnlineStore) -> None:
    """The table behind the walk grows more than tenfold during it."""
    there = [f"u{each}" for each in range(500)]
    await signed_up(store, there)

    async def more(page: int) -> None:
        await signed_up(store, [f"a{page}-{each}" for each in range(500)] if page < 15 else [])

    assert set(there) <= set(await walked(store, 50, more))


async def test_the_first_registration_outlives_those_that_replace_it(store: OnlineStore, step: int) -> None:
    await store.write_enriched([enriched()])
    only = await read(store)
    assert (only.first_ms, only.registered_ms) == (0, AT)
    for later in (10, 20):
        await store.write_enriched([enriched(at_ms=AT + later * step)])
        found = await read(store)
        assert (found.attributes_ms, found.first_ms, found.registered_ms) == (AT + later * step, AT, AT)
    await store.write_enriched([enriched(at_ms=AT + 15 * step)])  # no newer: nothing changes
    assert (await read(store)).registered_ms == AT


async def test_the_earliest_of_what_is_stored_and_what_is_told_is_the_first_registration(
    store: OnlineStore, step: int
) -> None:
    told = [
        replace(enriched(user, AT + 10 * step), first_ms=AT + first * step) for user, first in (("u1", 3), ("u2", 7))
    ]
    await store.write_enriched([enriched("u2", AT + 5 * step)])
    await store.write_enriched(told)
    assert [(await read(store, user)).registered_ms for user in ("u1", "u2")] == [AT + 3 * step, AT + 5 * step]
    assert (await read(store, "nobody")).registered_ms is None


async def test_a_registration_that_comes_late_is_the_first_where_it_was_before_that(
    store: OnlineStore, store_form: str, step: int
) -> None:
    """The stored attributes stay; of a copy of what came before, only what it tells of others counts."""
    assert await store.write_enriched([registered(9, 1.0, at_ms=AT + 20 * step)]) == []
    standing = await read(store)

    async def first_after(row: EnrichedUser) -> int | None:
        assert await store.write_enriched([row]) == ["u1"]
        found = await read(store)
        assert (found.attributes, found.attributes_ms) == (standing.attributes, AT + 20 * step)
        assert await fill_of(store) == 1.0
        return found.registered_ms

    assert await first_after(registered(8, 2.0, at_ms=AT + 15 * step)) == AT + 15 * step
    assert await first_after(registered(7, 2.0, at_ms=AT + 17 * step)) == AT + 15 * step
    told = replace(registered(6, 2.0, at_ms=AT + 19 * step), first_ms=AT + 12 * step)
    assert await first_after(told) == AT + 12 * step
    if PROMISES[store_form].keeps_places:
        copied = registered(9, 1.0, at_ms=AT + 3 * step)
        assert await first_after(copied) == AT + 12 * step
        assert await first_after(replace(copied, first_ms=AT + 2 * step)) == AT + 2 * step
    await store.write_enriched([registered(10, 3.0, at_ms=AT + 30 * step)])
    assert (await read(store)).registered_ms == AT + (2 if PROMISES[store_form].keeps_places else 12) * step
