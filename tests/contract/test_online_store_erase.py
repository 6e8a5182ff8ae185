"""What every `ErasingStore` does: who is erased is gone, and nothing that happened before brings the user back."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from foretaste.kernel.event_order import AppliedEvents, AttributesVersion, Place
from foretaste.kernel.running.erasing import ErasedUser, ErasingStore
from foretaste.kernel.users import (
    BehavedUser,
    Behaviour,
    EnrichedUser,
    Erasure,
    ReenrichedUser,
    UserFeatures,
    VirtualBehaviour,
)
from tests.store_forms import PROMISES, open_form

AT = 1_767_225_600_000
VECTORS = np.full((3, 2), 0.5, np.float32)


@pytest.fixture
async def store(store_form: str, request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[ErasingStore]:
    opened = open_form(store_form, request, tmp_path)
    yield opened
    await opened.close()


@pytest.fixture
def step(store_form: str) -> int:
    """Milliseconds by which this form tells one row newer than another."""
    return PROMISES[store_form].step_ms


def digest(name: str) -> bytes:
    return name.encode().ljust(8, b".")


def registered(
    at_ms: int = AT, user_id: str = "u1", offset: int = 1, generation: int = 1, age: int = 25
) -> EnrichedUser:
    place = Place("user-registered-0", offset, at_ms)
    virtual = VirtualBehaviour(generation, VECTORS)
    return EnrichedUser(user_id, {"age": age}, virtual, at_ms, place, (digest(f"r{offset}"),))


def erased(at_ms: int, user_id: str = "u1", offset: int = 1) -> ErasedUser:
    place = Place("user-erased-0", offset, at_ms)
    return ErasedUser(user_id, AttributesVersion(at_ms, place, (digest(f"e{offset}"),)))


def acts(*times: int) -> Behaviour:
    return Behaviour([f"i{each}" for each in times], ["liked"] * len(times), [AT + each for each in times])


async def behave(store: ErasingStore, behaviour: Behaviour, user_id: str = "u1") -> list[str]:
    (read,) = await store.read_behaviour([user_id])
    return await store.write_behaviour([BehavedUser.after(read, behaviour, AppliedEvents(digest("b1")))])


async def read(store: ErasingStore, user_id: str = "u1", generation: int = 1) -> UserFeatures:
    (features,) = await store.read([user_id], generation)
    return features


async def erasure_of(store: ErasingStore, user_id: str = "u1") -> Erasure | None:
    (features,) = await store.read_behaviour([user_id])
    return features.erasure


async def walked(store: ErasingStore) -> set[str]:
    found: set[str] = set()
    cursor: str | None = ""
    while cursor is not None:
        page, cursor = await store.users(cursor)
        found.update(page)
    return found


async def test_everything_of_an_erased_user_is_gone_and_nobody_else_is_touched(store: ErasingStore) -> None:
    await store.write_enriched([registered(), registered(user_id="u2")])
    await store.write_virtual([ReenrichedUser("u1", VirtualBehaviour(2, VECTORS), AT + 1)])
    await behave(store, acts(1, 2))
    await behave(store, acts(1), "u2")
    assert await store.erase([erased(AT + 1000)]) == []
    for generation in (1, 2):
        gone = await read(store, generation=generation)
        assert (gone.attributes, len(gone.behaviour), gone.virtual, gone.damaged) == (None, 0, None, ())
        assert gone.is_erased
    assert await erasure_of(store) == Erasure(AT + 1000, is_over=False)
    other = await read(store, "u2")
    assert (other.attributes, len(other.behaviour), other.virtual is not None) == ({"age": 25}, 1, True)
    assert await erasure_of(store, "u2") is None
    assert await walked(store) == {"u2"}


async def test_a_user_of_whom_nothing_was_known_can_be_erased_and_nobody_is_no_work(store: ErasingStore) -> None:
    assert await store.erase([erased(AT, "nobody")]) == []
    assert (await read(store, "nobody")).attributes is None
    assert await store.erase([]) == []


async def test_an_older_registration_that_comes_again_does_not_bring_the_user_back(
    store: ErasingStore, step: int
) -> None:
    await store.write_enriched([registered()])
    await store.erase([erased(AT + 10 * step)])
    await store.write_enriched([registered()])
    assert await store.write_enriched([registered(AT + 5 * step, offset=2)]) == ["u1"]
    assert (await read(store)).attributes is None
    assert await walked(store) == set()


async def test_a_registration_that_the_erasure_outdid_does_not_bring_the_user_back_with_a_later_time(
    store: ErasingStore, store_form: str, step: int
) -> None:
    await store.erase([erased(AT + 10 * step)])
    outdone = replace(registered(), digests=(b"outdone.",))
    assert await store.write_enriched([outdone]) == ["u1"]
    again = await store.write_enriched([replace(outdone, at_ms=AT + 20 * step)])
    remembers = PROMISES[store_form].keeps_places
    assert again == (["u1"] if remembers else [])
    assert (await read(store)).is_erased is remembers


async def test_a_later_registration_begins_anew(store: ErasingStore, step: int) -> None:
    await store.write_enriched([registered()])
    await behave(store, acts(1))
    await store.erase([erased(AT + 10 * step)])
    await store.write_enriched([registered(AT + 20 * step, offset=2, age=50)])
    back = await read(store)
    assert (back.attributes, len(back.behaviour), back.is_erased) == ({"age": 50}, 0, False)
    assert back.virtual is not None
    assert await erasure_of(store) == Erasure(AT + 10 * step, is_over=True)
    assert await walked(store) == {"u1"}
    later = Behaviour(["i9"], ["liked"], [AT + 30 * step])
    assert await behave(store, later) == []
    assert (await read(store)).behaviour == later


async def test_a_writer_that_had_read_the_user_before_is_refused(store: ErasingStore) -> None:
    await store.write_enriched([registered()])
    (nothing_done,) = await store.read_behaviour(["u1"])
    await store.erase([erased(AT + 1000)])
    assert await store.write_behaviour([BehavedUser.after(nothing_done, acts(1))]) == ["u1"]
    await store.write_enriched([registered(AT + 20_000, offset=2)])
    await behave(store, acts(30_000))
    (something_done,) = await store.read_behaviour(["u1"])
    await store.erase([erased(AT + 40_000, offset=2)])
    assert await store.write_behaviour([BehavedUser.after(something_done, acts(30_000, 30_001))]) == ["u1"]
    assert not len((await read(store)).behaviour)


async def test_virtual_behaviour_made_before_is_not_written_after(store: ErasingStore) -> None:
    await store.write_enriched([registered()])
    before = await read(store)
    await store.erase([erased(AT + 1000)])
    repair = ReenrichedUser.after(before, VirtualBehaviour(1, VECTORS))
    await store.write_virtual([repair])
    await store.write_virtual([replace(repair, at_ms=AT + 5000, made_from=None)])
    await store.write_virtual([ReenrichedUser.after(await read(store), VirtualBehaviour(1, VECTORS))])
    assert (await read(store)).virtual is None


async def test_done_again_it_changes_nothing(store: ErasingStore, step: int) -> None:
    await store.write_enriched([registered()])
    erasure = erased(AT + 10 * step)
    assert await store.erase([erasure]) == []
    assert await store.erase([erasure]) == []
    await store.write_enriched([registered(AT + 20 * step, offset=2)])
    later = Behaviour(["i9"], ["liked"], [AT + 30 * step])
    await behave(store, later)
    for _ in range(2):
        assert await store.erase([erasure]) == ["u1"]
        back = await read(store)
        assert (back.attributes, back.behaviour) == ({"age": 25}, later)


async def test_of_who_registered_anew_it_is_remembered_what_was_applied(store: ErasingStore, step: int) -> None:
    """Else a behaviour that is sent again under its id would count once more."""
    await store.write_enriched([registered(AT + 20 * step)])
    later = Behaviour(["i9"], ["liked"], [AT + 30 * step])
    await behave(store, later)
    assert await store.erase([erased(AT + 10 * step)]) == ["u1"]
    (found,) = await store.read_behaviour(["u1"])
    assert (list(found.behaviour.items), list(found.applied)) == (["i9"], [digest("b1")])


@pytest.mark.parametrize("too_late", [False, True], ids=["that erased the user", "that came too late to"])
async def test_one_that_comes_again_under_a_later_time_changes_nothing(
    store: ErasingStore, store_form: str, step: int, *, too_late: bool
) -> None:
    """An `event_id` that is sent again, or a record of a clock ahead that is read again, has another time."""
    await store.write_enriched([registered()])
    first = erased(AT + 10 * step)
    again = ErasedUser("u1", replace(erased(AT + 30 * step, offset=2).version, digests=first.version.digests))
    if not too_late:
        assert await store.erase([first]) == []
    await store.write_enriched([registered(AT + 20 * step, offset=2, age=50)])
    if too_late:
        assert await store.erase([first]) == ["u1"]
    between, since = AT + 25 * step, AT + 40 * step
    await behave(store, Behaviour(["between", "since"], ["liked"] * 2, [between, since]))
    remembers = PROMISES[store_form].keeps_places
    assert await store.erase([again]) == (["u1"] if remembers else [])
    left = await read(store)
    if remembers:
        assert (left.attributes, list(left.behaviour.items)) == ({"age": 50}, ["between", "since"])
        assert await erasure_of(store) == Erasure(AT + 10 * step, is_over=True)
    else:
        assert left.is_erased


async def test_one_that_comes_again_moves_no_fence(store: ErasingStore, store_form: str, step: int) -> None:
    first = erased(AT + 10 * step)
    again = ErasedUser("u1", replace(erased(AT + 30 * step, offset=2).version, digests=first.version.digests))
    assert await store.erase([first]) == []
    assert await store.erase([again]) == []
    remembers = PROMISES[store_form].keeps_places
    assert await erasure_of(store) == Erasure(AT + (10 if remembers else 30) * step, is_over=False)
    refused = await store.write_enriched([registered(AT + 20 * step, offset=2)])
    assert refused == ([] if remembers else ["u1"])


@pytest.mark.parametrize("later_first", [False, True])
async def test_each_of_two_erasures_is_remembered(
    store: ErasingStore, store_form: str, step: int, *, later_first: bool
) -> None:
    both = [erased(AT + 10 * step), erased(AT + 12 * step, offset=2)]
    for each in both[::-1] if later_first else both:
        await store.erase([each])
    await store.write_enriched([registered(AT + 20 * step, offset=3)])
    for each in both:
        again = ErasedUser("u1", replace(erased(AT + 30 * step, offset=4).version, digests=each.version.digests))
        assert await store.erase([again]) == (["u1"] if PROMISES[store_form].keeps_places else [])


async def test_of_who_registered_anew_before_it_was_handled_what_was_done_before_goes(
    store: ErasingStore, step: int
) -> None:
    """The topics of registrations, behaviours and erasures have no order between them."""
    await store.write_enriched([registered()])
    await store.write_enriched([registered(AT + 20 * step, offset=2, age=50)])
    before, since = AT + step, AT + 30 * step
    await behave(store, Behaviour(["old", "new"], ["liked"] * 2, [before, since]))
    (in_flight,) = await store.read_behaviour(["u1"])
    assert await store.erase([erased(AT + 10 * step)]) == ["u1"]
    left = await read(store)
    assert (left.attributes, list(left.behaviour.items), list(left.behaviour.times)) == ({"age": 50}, ["new"], [since])
    assert left.virtual is not None
    assert await erasure_of(store) == Erasure(AT + 10 * step, is_over=True)
    assert await store.write_behaviour([BehavedUser.after(in_flight, acts(1, 2, 3))]) == ["u1"]


async def test_a_second_erasure_is_one_more(store: ErasingStore, step: int) -> None:
    await store.write_enriched([registered()])
    await store.erase([erased(AT + 10 * step)])
    await store.write_enriched([registered(AT + 20 * step, offset=2)])
    assert await store.erase([erased(AT + 30 * step, offset=2)]) == []
    assert await erasure_of(store) == Erasure(AT + 30 * step, is_over=False)
    await store.write_enriched([registered(AT + 20 * step, offset=2)])
    assert (await read(store)).attributes is None
    assert await store.erase([erased(AT + 10 * step)]) == []
    assert await erasure_of(store) == Erasure(AT + 30 * step, is_over=False)


@pytest.mark.parametrize("later", [True, False])
async def test_of_one_time_the_place_tells(store: ErasingStore, store_form: str, *, later: bool) -> None:
    if not PROMISES[store_form].keeps_places:
        later = False  # told by time alone: a registration of the same millisecond is erased
    place = Place("user-registered-0", 7, AT + 1 if later else AT - 1)
    await store.write_enriched([replace(registered(), place=place)])
    assert await store.erase([erased(AT)]) == (["u1"] if later else [])
    assert (await read(store)).attributes == ({"age": 25} if later else None)


async def test_an_erasure_forgets_the_first_registration(store: ErasingStore, step: int) -> None:
    for at, offset in ((0, 1), (10, 2)):
        await store.write_enriched([registered(AT + at * step, offset=offset)])
    assert (await read(store)).registered_ms == AT
    assert await store.erase([erased(AT + 20 * step)]) == []
    assert (await read(store)).registered_ms is None
    await store.write_enriched([registered(AT + 30 * step, offset=3)])
    assert (await read(store)).registered_ms == AT + 30 * step
    await store.write_enriched([registered(AT + 40 * step, offset=4)])
    assert (await read(store)).registered_ms == AT + 30 * step


async def test_who_registered_anew_before_the_erasure_was_handled_began_with_the_newest(
    store: ErasingStore, step: int
) -> None:
    for at, offset in ((0, 1), (30, 2)):
        await store.write_enriched([registered(AT + at * step, offset=offset)])
    for _ in range(2):
        assert await store.erase([erased(AT + 20 * step)]) == ["u1"]
        assert (await read(store)).registered_ms == AT + 30 * step
    await store.write_enriched([registered(AT + 40 * step, offset=3)])
    assert await store.erase([erased(AT + 20 * step)]) == ["u1"]
    assert (await read(store)).registered_ms == AT + 30 * step, "known by then: what came since stays"


async def test_of_who_registered_twice_before_the_erasure_was_handled_the_first_one_since_stays(
    store: ErasingStore, step: int
) -> None:
    for at, offset in ((30, 1), (40, 2)):
        await store.write_enriched([registered(AT + at * step, offset=offset)])
    assert await store.erase([erased(AT + 20 * step)]) == ["u1"]
    assert (await read(store)).registered_ms == AT + 30 * step


async def test_a_registration_from_before_the_erasure_is_no_first_one(store: ErasingStore, step: int) -> None:
    """Whether it comes late by itself, or is told with a later one."""
    await store.write_enriched([registered(AT, offset=1)])
    await store.erase([erased(AT + 20 * step)])
    await store.write_enriched([registered(AT + 40 * step, offset=4)])
    assert await store.write_enriched([registered(AT + 10 * step, offset=2)]) == ["u1"]
    assert (await read(store)).registered_ms == AT + 40 * step
    assert await store.write_enriched([registered(AT + 30 * step, offset=3)]) == ["u1"]
    assert (await read(store)).registered_ms == AT + 30 * step
    assert await store.write_enriched([replace(registered(AT + 50 * step, offset=5), first_ms=AT + 10 * step)]) == []
    assert (await read(store)).registered_ms == AT + 30 * step
