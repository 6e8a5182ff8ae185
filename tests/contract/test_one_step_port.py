"""What every `OneStepStore` does, in memory and in Redis: the same as reading and writing, or nothing."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias
from uuid import uuid4

import numpy as np
import pytest
from redis.asyncio import Redis

from features.online.keys import Keys
from features.online.layout import BEHAVIOUR, stamp_of
from features.online.redis_store import RedisStore
from features.redis.address import RedisAddress
from features.repo_config import apply_features, repo_config
from foretaste.kernel.event_order import (
    REMEMBERED_BEHAVIOURS,
    REMEMBERED_REGISTRATIONS,
    AppliedEvents,
    AttributesVersion,
    Place,
)
from foretaste.kernel.running.durability import OneStepStore
from foretaste.kernel.running.erasing import ErasedUser
from foretaste.kernel.users import (
    BehavedUser,
    Behaviour,
    EnrichedUser,
    LaterBehaviour,
    ReenrichedUser,
    VirtualBehaviour,
)
from foretaste.kernel.values import MAX_BEHAVIOUR
from foretaste.testing import InMemoryOneStepStore

AT = 1_767_225_600_000
Store: TypeAlias = InMemoryOneStepStore | RedisStore


def redis_store(url: str, folder: Path) -> tuple[RedisStore, str]:
    config = repo_config(RedisAddress.parse(url), str(folder / "registry.db"), f"test_{uuid4().hex}")
    apply_features(config)
    return RedisStore(config, timeout=10), config.project


@pytest.fixture(params=["memory", "redis"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    if request.param == "memory":
        opened: Store = InMemoryOneStepStore()
    else:
        opened, _ = redis_store(request.getfixturevalue("redis_url"), tmp_path)
    assert isinstance(opened, OneStepStore)
    yield opened
    await opened.close()


def later(*acts: tuple[str, int], user_id: str = "u1", first: int = 0) -> LaterBehaviour:
    """Acts as items and milliseconds after `AT`; the digests are numbered from `first` on."""
    behaviour = Behaviour([item for item, _ in acts], ["liked"] * len(acts), [AT + after for _, after in acts])
    return LaterBehaviour(user_id, behaviour, b"".join(b"%08d" % (first + each) for each in range(len(acts))))


async def grown(store: Store, user: LaterBehaviour) -> None:
    """The same by a read and a write."""
    (held,) = await store.read_behaviour([user.user_id])
    behaviour, applied = held.behaviour, held.applied
    columns = user.behaviour.items, user.behaviour.actions, user.behaviour.times, AppliedEvents(user.digests)
    for item, action, at_ms, digest in zip(*columns, strict=True):
        behaviour, applied = behaviour.then(item, action, at_ms), applied.with_applied(digest)
    assert await store.write_behaviour([BehavedUser.after(held, behaviour, applied)]) == []


async def state(store: Store, user_id: str = "u1") -> tuple[Any, ...]:
    """All that a reader can tell."""
    (held,) = await store.read_behaviour([user_id])
    columns = list(held.behaviour.items), list(held.behaviour.actions), list(held.behaviour.times)
    return (*columns, held.behaviour_version, held.behaviour_us, list(held.applied), held.damaged)


def histories() -> Sequence[Sequence[LaterBehaviour]]:
    long = "ä" * 200
    steps = [later((f"i{each}", each * 10), first=each) for each in range(1, MAX_BEHAVIOUR + 40)]
    return [
        [later(("a", 5))],
        [later(("a", 5), ("b", 6)), later(("c", 7), ("d", 90_000), first=2)],
        [later((long, 5)), later((long, 6), (long, 7), first=1), later(("", 8), first=3)],
        steps,
        [later(*((f"i{each}", each + 1) for each in range(MAX_BEHAVIOUR))), later(("x", 5000), ("y", 5001), first=500)],
    ]


@pytest.mark.parametrize("history", histories(), ids=["new", "some", "long texts", "one by one", "full at once"])
async def test_what_is_appended_stands_as_if_it_were_read_and_written(
    store: Store, history: Sequence[LaterBehaviour]
) -> None:
    for place, row in enumerate(history):
        twin = LaterBehaviour("twin", row.behaviour, row.digests)
        assert await store.append_behaviour([row]) == []
        await grown(store, twin)
        if place % 7 == 3:  # a row that was written whole is appended to as well
            await grown(store, extra := later((f"whole {place}", place * 10 + 15), first=1000 + place))
            await grown(store, LaterBehaviour("twin", extra.behaviour, extra.digests))
    assert await state(store) == await state(store, "twin")
    (read,) = await store.read(["u1"], 1)
    assert (len(read.behaviour), read.damaged) == (len((await state(store))[0]), ())


@pytest.mark.parametrize(
    "row",
    [
        pytest.param(later(("b", 100), first=9), id="of the newest time"),
        pytest.param(later(("b", 50), first=9), id="older"),
        pytest.param(later(("b", 200)), id="applied before"),
        pytest.param(later(("b", 200), ("c", 300), first=-1), id="one of two applied before"),
    ],
)
async def test_what_is_not_later_or_was_applied_leaves_everything_as_it_was(store: Store, row: LaterBehaviour) -> None:
    await store.append_behaviour([later(("a", 100))])
    before = await state(store)
    assert await store.append_behaviour([row, later(("z", 1), user_id="u2")]) == ["u1"]
    assert await state(store) == before
    assert (await state(store, "u2"))[0] == ["z"]


async def test_of_a_full_row_what_was_passed_over_goes_first_so_it_is_to_be_read(store: Store) -> None:
    columns = [f"i{each}" for each in range(99)], ["passed_over", *["liked"] * 98], range(AT, AT + 99)
    assert await store.write_behaviour([BehavedUser("u1", Behaviour(*columns))]) == []
    assert await store.append_behaviour([later(("a", 1000))]) == []
    before = await state(store)
    assert await store.append_behaviour([later(("b", 2000), first=1)]) == ["u1"]
    assert await state(store) == before


async def test_what_was_applied_is_remembered_to_its_bound(store: Store) -> None:
    for each in range(1, REMEMBERED_BEHAVIOURS + 20):
        assert await store.append_behaviour([later((f"i{each}", each), first=each)]) == []
    assert (await state(store))[5] == [b"%08d" % each for each in range(20, REMEMBERED_BEHAVIOURS + 20)]


async def test_a_writer_who_read_before_an_append_is_refused(store: Store) -> None:
    await store.append_behaviour([later(("a", 100))])
    (held,) = await store.read_behaviour(["u1"])
    await store.append_behaviour([later(("b", 200), first=1)])
    assert await store.write_behaviour([BehavedUser.after(held, held.behaviour.then("c", "x", AT + 300))]) == ["u1"]
    assert (await state(store))[0] == ["a", "b"]


def erasure(after: int) -> ErasedUser:
    """Milliseconds after `AT`."""
    return ErasedUser("u1", AttributesVersion(AT + after, Place("e-0", 3, AT + after), (b"erasure1",)))


async def is_back(store: Store) -> bool:
    (found,) = await store.read(["u1"], 2)
    return found.attributes is not None


@pytest.mark.parametrize("known", [True, False], ids=["known before", "never seen"])
async def test_behaviour_of_an_erased_user_is_left_to_who_reads(store: Store, *, known: bool) -> None:
    if known:
        assert await store.write_new([enriched()]) == []
        assert await store.append_behaviour([later(("a", 100))]) == []
    await store.erase([erasure(1000)])
    before = await state(store)
    assert before[0] == []
    for row in (later(("b", 500), first=9), later(("c", 5000), first=10)):
        assert await store.append_behaviour([row]) == ["u1"]
    assert await state(store) == before
    assert not await is_back(store)


async def test_once_an_erased_user_registered_anew_who_reads_still_decides(store: Store) -> None:
    await store.write_new([enriched()])
    await store.append_behaviour([later(("a", 100))])
    await store.erase([erasure(1000)])
    await store.write_enriched([replace(enriched(), at_ms=AT + 2000, digests=(b"anew....",))])
    assert await is_back(store)
    for row in (later(("b", 500), first=9), later(("c", 5000), first=10)):
        assert await store.append_behaviour([row]) == ["u1"]
    await grown(store, later(("c", 5000), first=10))
    assert await store.append_behaviour([later(("d", 6000), first=11)]) == ["u1"]
    assert (await state(store))[0] == ["c"]


async def test_no_late_behaviour_follows_an_erasure_that_came_after_the_new_registration(store: Store) -> None:
    """What was done before is taken away, so that the row tells no time by which it could be refused."""
    await store.write_new([replace(enriched(), at_ms=AT + 2000)])
    await store.append_behaviour([later(("a", 100))])
    assert await store.erase([erasure(1000)]) == ["u1"]
    before = await state(store)
    assert before[0] == []
    assert await store.append_behaviour([later(("b", 500), first=9)]) == ["u1"]
    assert await state(store) == before


@pytest.mark.parametrize("known", [True, False], ids=["known before", "never seen"])
async def test_who_was_erased_is_no_new_user(store: Store, *, known: bool) -> None:
    """The older registration stays out, the later one starts anew: who reads tells them apart."""
    if known:
        await store.write_new([enriched()])
    await store.erase([erasure(1000)])
    older, anew = (replace(enriched(), at_ms=AT + after, digests=(b"%08d" % after,)) for after in (500, 2000))
    for row in (older, anew):
        assert await store.write_new([row]) == ["u1"]
        assert not await is_back(store)
    await store.write_enriched([older])
    assert not await is_back(store)
    await store.write_enriched([anew])
    assert await is_back(store)
    assert await store.write_new([anew]) == ["u1"]


async def test_nobody_is_no_work(store: Store) -> None:
    assert (await store.append_behaviour([]), await store.write_new([])) == ([], [])


def enriched(user_id: str = "u1", fill: float = 0.5, generation: int | None = 2, digests: int = 1) -> EnrichedUser:
    virtual = None if generation is None else VirtualBehaviour(generation, np.full((3, 2), fill, np.float32))
    known = tuple(b"%08d" % each for each in range(digests))
    return EnrichedUser(user_id, {"age": 25, "city": "Zürich"}, virtual, AT, Place("r-3", 17, AT + 5), known)


@pytest.mark.parametrize("generation", [1, 2, None])
@pytest.mark.parametrize("digests", [0, 1, REMEMBERED_REGISTRATIONS + 3])
async def test_a_new_user_stands_as_if_written_the_other_way(
    store: Store, generation: int | None, digests: int
) -> None:
    assert await store.write_new([enriched(generation=generation, digests=digests)]) == []
    await store.write_enriched([enriched("twin", generation=generation, digests=digests)])
    for number in (1, 2):
        own, other = await store.read(["u1", "twin"], number)
        assert own.attributes == other.attributes == {"age": 25, "city": "Zürich"}
        assert (own.attributes_version, own.virtual_ms, own.behaviour_version, own.damaged) == (
            other.attributes_version,
            other.virtual_ms,
            other.behaviour_version,
            (),
        )
        assert (own.virtual is None) == (other.virtual is None) == (generation != number)
        if own.virtual is not None and other.virtual is not None:
            np.testing.assert_array_equal(own.virtual.vectors, other.virtual.vectors)


@pytest.mark.parametrize("known_by", ["attributes", "virtual behaviour", "behaviour"])
async def test_a_user_of_whom_anything_is_stored_is_no_new_one(store: Store, known_by: str) -> None:
    if known_by == "attributes":
        await store.write_enriched([enriched(fill=1.0)])
    elif known_by == "behaviour":
        await store.append_behaviour([later(("a", 1))])
    else:
        await store.write_virtual([ReenrichedUser("u1", VirtualBehaviour(2, np.ones((3, 2), np.float32)), AT)])
    before = await store.read(["u1"], 2)
    rows = [enriched("u2"), enriched(fill=3.0), enriched("u2", fill=4.0)]
    assert await store.write_new(rows) == ["u1", "u2"]
    assert [each.virtual is None for each in before] == [known_by == "behaviour"]
    held, other = await store.read(["u1", "u2"], 2)
    assert held.attributes == before[0].attributes
    if held.virtual is not None:
        assert held.virtual.vectors[0, 0] == 1.0
    assert other.virtual is not None
    assert other.virtual.vectors[0, 0] == 0.5


@pytest.mark.parametrize(
    ("field", "value"),
    [
        pytest.param(BEHAVIOUR[0], b"rubbish", id="items"),
        pytest.param(BEHAVIOUR[2], b"", id="times"),
        pytest.param(BEHAVIOUR[3], b"\x20\x07", id="version"),
        pytest.param(stamp_of("user_behaviour"), b"\x08\x01", id="event time"),
        pytest.param(b"_applied:user_behaviour", b"no whole digest", id="what was applied"),
        pytest.param(b"_tail:user_behaviour", b"rubbish", id="tail"),
    ],
)
async def test_a_row_that_another_writer_left_is_not_appended_to(
    redis_url: str, tmp_path: Path, field: bytes, value: bytes
) -> None:
    store, project = redis_store(redis_url, tmp_path)
    client, key = Redis.from_url(redis_url), Keys(project).of("u1")
    await store.append_behaviour([later(("a", 1), ("b", 2))])
    await client.execute_command("HSET", key, field, value)
    before = await client.execute_command("HGETALL", key)
    assert await store.append_behaviour([later(("c", 3), first=2)]) == ["u1"]
    assert await client.execute_command("HGETALL", key) == before
    await client.set(Keys(project).of("text"), b"no hash")
    texts = later(("c", 3), user_id="text"), enriched("text")
    assert (await store.append_behaviour([texts[0]]), await store.write_new([texts[1]])) == (["text"], ["text"])
    await client.aclose()
    await store.close()


async def test_a_new_user_of_several_registrations_is_as_old_as_the_first(store: Store) -> None:
    virtual = VirtualBehaviour(1, np.zeros((3, 2), np.float32))
    rows = [EnrichedUser(user, {"age": 1}, virtual, AT, first_ms=first) for user, first in (("u1", AT - 9), ("u2", 0))]
    warm = EnrichedUser("u3", {"age": 1}, None, AT, first_ms=AT - 5)
    assert await store.write_new([*rows, warm]) == []
    found = await store.read(["u1", "u2", "u3"], 1)
    assert [each.registered_ms for each in found] == [AT - 9, AT, AT - 5]
    assert [each.virtual is None for each in found] == [False, False, True]
