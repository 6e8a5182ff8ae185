"""Single ports and ways: whatever the order, the cuts and the repeats, the same rows come out."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from foretaste.kernel.errors import Unavailable
from foretaste.kernel.event_order import AttributesVersion, Place
from foretaste.kernel.events import Message
from foretaste.kernel.generations import Generation
from foretaste.kernel.users import BehavedUser, Behaviour, EnrichedUser, ReenrichedUser, UserFeatures, VirtualBehaviour
from foretaste.kernel.values import MAX_BEHAVIOUR
from foretaste.testing import InMemoryOffsets, InMemoryOnlineStore
from streams.behaviours import Behaviours, append
from tests.stream_parts import NOW_MS, SHAPE, ChosenStore, World, generation, message

TIMES = st.integers(0, 6)
"""Few, so that many are equal."""
PLACES = st.builds(Place, st.sampled_from(("r-0", "r-1")), st.integers(0, 5), st.integers(0, 3))


def made_of(number: int) -> VirtualBehaviour:
    return VirtualBehaviour(1 + number % 2, np.full(SHAPE, number, np.float32))


@st.composite
def registrations(draw: st.DrawFn) -> list[EnrichedUser]:
    """Of one user, each at a place of its own, with a digest of its own."""
    places = draw(st.lists(PLACES, min_size=1, max_size=6, unique_by=lambda place: (place.partition, place.offset)))
    return [
        EnrichedUser(
            "u1",
            {"n": number},
            draw(st.sampled_from((None, made_of(number)))),
            draw(TIMES) + 1,
            place._replace(timestamp_ms=place.offset),
            (bytes([number]) * 8,),
        )
        for number, place in enumerate(places)
    ]


def stored(users: Sequence[EnrichedUser]) -> InMemoryOnlineStore:
    store = InMemoryOnlineStore()
    asyncio.run(store.write_enriched(users))
    return store


def read(store: InMemoryOnlineStore, number: int = 1) -> UserFeatures:
    return store._features("u1", number)


@given(registrations(), st.randoms(use_true_random=False))
def test_registrations_come_to_one_row_in_any_order_and_again(users: list[EnrichedUser], random: object) -> None:
    shuffled = [*users, *users]
    random.shuffle(shuffled)
    first, second = read(stored(users)), read(stored(shuffled))
    assert (first.attributes, first.attributes_ms, first.attributes_place) == (
        second.attributes,
        second.attributes_ms,
        second.attributes_place,
    )


@given(registrations(), st.lists(st.tuples(st.integers(0, 5), st.integers(0, 9)), max_size=4))
def test_what_passes_for_current_was_made_from_what_stands(
    users: list[EnrichedUser], repairs: list[tuple[int, int]]
) -> None:
    """Repairs are made from what stood at any time before."""
    store = InMemoryOnlineStore()
    seen: list[UserFeatures] = []
    for user in users:
        asyncio.run(store.write_enriched([user]))
        seen += [read(store, 1), read(store, 2)]
    for place, number in repairs:
        made_from = seen[place % len(seen)]
        of = int(str((made_from.attributes or {})["n"] or 0))
        virtual = replace(made_of(of), generation=1 + number % 2)
        asyncio.run(store.write_virtual([ReenrichedUser.after(made_from, virtual)]))
    for number in (1, 2):
        now = read(store, number)
        held = Generation(number, 3, {}, {}, np.zeros(SHAPE, np.float32), "").virtual_of(now)
        assert held is None or held.vectors[0, 0] == (now.attributes or {})["n"]


ACTS = st.lists(st.tuples(st.sampled_from("abc"), TIMES, st.booleans()), max_size=12)


@given(ACTS)
def test_behaviours_are_in_order_of_time_and_never_too_many(acts: list[tuple[str, int, bool]]) -> None:
    behaviour = Behaviour()
    for item, at_ms, named in acts * 12:
        longer = append(behaviour, item, "acted", at_ms, named=named)
        assert list(longer.times) == sorted(longer.times)
        assert len(longer) <= MAX_BEHAVIOUR
        assert longer is behaviour or (item, at_ms) in zip(longer.items, longer.times, strict=True)
        behaviour = longer


@given(ACTS, st.lists(st.integers(1, 4), max_size=12), st.sets(st.integers(0, 20)))
def test_behaviours_are_applied_once_however_they_are_cut_and_whatever_fails(
    acts: list[tuple[str, int, bool]], cuts: list[int], failures: set[int]
) -> None:
    """A write that fails before or behind its effect is done again with the whole batch."""
    messages = [
        message(
            {"user_id": "u1", "item_id": f"{item}{place}", "at": (NOW_MS - 10_000 + at) / 1000}
            | ({"event_id": f"e{place}"} if named else {}),
            topic="user-behaved",
            offset=place,
        )
        for place, (item, at, named) in enumerate(acts)
    ]
    whole, cut = World(), World(store=FailingStore(failures=set(failures)))
    asyncio.run(_handled(whole, [messages] if messages else []))
    batches, rest = [], list(messages)
    for size in cuts:
        batches.append(rest[:size])
        rest = rest[size:]
    asyncio.run(_handled(cut, [each for each in [*batches, rest] if each]))
    expected, found = (each.store._behaved("u1").behaviour for each in (whole, cut))
    assert (list(found.items), list(found.times)) == (list(expected.items), list(expected.times))


class FailingStore(ChosenStore):
    """Its nth call fails, before its effect where n is even, behind it where n is odd."""

    def __init__(self, failures: set[int]) -> None:
        super().__init__()
        self.failures, self.calls = failures, 0

    async def write_behaviour(self, users: Sequence[BehavedUser]) -> list[str]:
        self.calls += 1
        failing = self.calls in self.failures
        if failing and self.calls % 2 == 0:
            raise Unavailable("redis", "before the effect")
        refused = await super().write_behaviour(users)
        if failing:
            raise Unavailable("redis", "behind the effect")
        return refused


async def _handled(world: World, batches: Sequence[Sequence[Message]]) -> None:
    await world.activate(generation())
    way = Behaviours(
        world.parts,
        world.dead_letters,
        world.metrics,
        unknown_items="keep",
        max_event_bytes=2000,
        now=lambda: NOW_MS / 1000,
    )
    for batch in batches:
        for _ in range(40):
            try:
                await way(batch)
            except Unavailable:
                continue
            break


OFFSETS = st.lists(
    st.tuples(st.sampled_from(("begin", "advance")), st.integers(0, 2), st.integers(0, 9), st.integers(0, 9)),
    max_size=15,
)


@given(OFFSETS)
def test_the_word_of_the_store_moves_only_from_where_it_stands(calls: list[tuple[str, int, int, int]]) -> None:
    store, held = InMemoryOffsets(), dict[tuple[str, int], int]()
    for kind, number, first, second in calls:
        place = ("r", number)
        if kind == "begin":
            assert asyncio.run(store.begin_offsets({place: first})) == {place: held.get(place)}
            held[place] = min(first, held.get(place, first))
        else:
            moved = held.get(place) == first
            assert asyncio.run(store.advance_offsets({place: (first, second)})) == (
                {} if moved else {place: held.get(place)}
            )
            if moved:
                held[place] = second
    assert store.held == held


VERSIONS = st.builds(AttributesVersion, TIMES, st.one_of(st.none(), PLACES), st.just(()))


@given(VERSIONS, VERSIONS)
def test_of_two_registrations_one_replaces_the_other_at_most(one: AttributesVersion, other: AttributesVersion) -> None:
    if (
        one.place
        and other.place
        and one.place.partition == other.place.partition
        and one.place.offset == other.place.offset
    ):
        other = replace(other, place=one.place)
    assert not (one.replaces(other) and other.replaces(one))
