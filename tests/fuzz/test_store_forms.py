"""The store in memory and the one in Redis, side by side: whatever is written to both, the same is read from both.

What the simulation finds with the first form holds for the second by this.
"""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate, count
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from features.online.redis_store import RedisStore
from foretaste.kernel.event_order import AppliedEvents, AttributesVersion, Place
from foretaste.kernel.running.erasing import ErasedUser, ErasingStore
from foretaste.kernel.users import (
    BehavedUser,
    Behaviour,
    EnrichedUser,
    LaterBehaviour,
    ReenrichedUser,
    UserFeatures,
    VirtualBehaviour,
)
from foretaste.testing import InMemoryOffsets, InMemoryWholeUserStore
from tests.store_forms import feast_config

AT = 1_767_225_600_000
SHAPE = (1, 2)
FEW = st.integers(0, 3)
PLACES = st.one_of(st.none(), st.builds(Place, st.sampled_from(("r-0", "r-1")), FEW, FEW))


@dataclass(frozen=True, slots=True)
class Enrich:
    number: int
    at: int
    place: Place | None
    digest: int
    generation: int | None
    before: int
    """Milliseconds since an earlier registration that it tells of; 0 for none."""


@dataclass(frozen=True, slots=True)
class Repair:
    """Made from the features that were read last for the generation, or whichever; so many milliseconds later."""

    number: int
    generation: int
    later: int
    named: bool


@dataclass(frozen=True, slots=True)
class Behave:
    """In place of what was read last, or of an older version."""

    number: int
    at: int
    older: bool


@dataclass(frozen=True, slots=True)
class Erase:
    at: int
    place: Place | None
    digest: int


@dataclass(frozen=True, slots=True)
class Append:
    """Behind what is stored; milliseconds from one to the next."""

    number: int
    at: int
    pauses: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class WriteNew:
    """Where nothing is stored: attributes and what was made from them."""

    enrich: Enrich


@dataclass(frozen=True, slots=True)
class WriteWhole:
    """Where nothing is stored: all that there is of a user, with a behaviour or without."""

    enrich: Enrich
    behaves: bool


Step = Enrich | Repair | Behave | Erase | Append | WriteNew | WriteWhole
ENRICH = st.builds(Enrich, FEW, FEW, PLACES, FEW, st.one_of(st.none(), st.integers(1, 3)), FEW)
STEPS = st.lists(
    st.one_of(
        ENRICH,
        st.builds(Repair, FEW, st.integers(1, 3), st.integers(-1, 2), st.booleans()),
        st.builds(Behave, FEW, FEW, st.booleans()),
        st.builds(Erase, FEW, PLACES, FEW),
        st.builds(Append, FEW, FEW, st.lists(st.integers(1, 2), max_size=2).map(tuple)),
        st.builds(WriteNew, ENRICH),
        st.builds(WriteWhole, ENRICH, st.booleans()),
    ),
    min_size=1,
    max_size=8,
)


@dataclass(frozen=True, slots=True)
class Forms:
    runner: asyncio.Runner
    memory: InMemoryWholeUserStore
    redis: RedisStore
    users: "count[int]"


@pytest.fixture(scope="module")
def forms(redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forms]:
    folder: Path = tmp_path_factory.mktemp("forms")
    with asyncio.Runner() as runner:
        redis = RedisStore(feast_config(None, redis_url, folder), timeout=10)
        yield Forms(runner, InMemoryWholeUserStore(), redis, count())
        runner.run(redis.close())


def row_of(step: Step, user_id: str, read: dict[int, UserFeatures], behaved: UserFeatures) -> object:  # noqa: PLR0911  # one a kind
    match step:
        case Enrich():
            return enriched(step, user_id)
        case Erase():
            digests = (bytes([step.digest + 101]) * 8,)
            return ErasedUser(user_id, AttributesVersion(AT + step.at, step.place, digests))
        case Append():
            return later(step, user_id)
        case WriteWhole():
            return whole(step, user_id)
        case Repair():
            before = read[step.generation]
            made_from = before.attributes_version if step.named else None
            at_ms = max(before.as_of_ms + step.later, AT)
            return ReenrichedUser(user_id, _virtual(step.generation, step.number), at_ms, made_from)
        case Behave():
            behaviour = Behaviour((f"i{step.number}",), ("acted",), (AT + step.at,))
            made_from_read = UserFeatures(user_id) if step.older else behaved
            return BehavedUser.after(made_from_read, behaviour, AppliedEvents(bytes([step.number]) * 8))
    return step


def enriched(step: Enrich, user_id: str) -> EnrichedUser:
    virtual = None if step.generation is None else _virtual(step.generation, step.number)
    digests = (bytes([step.digest + 1]) * 8,)  # that of zeros is an erasure's
    at_ms = AT + step.at
    first_ms = at_ms - step.before if step.before else 0
    return EnrichedUser(user_id, {"n": step.number}, virtual, at_ms, step.place, digests, first_ms)


def later(step: Append, user_id: str) -> LaterBehaviour:
    times = [*accumulate((AT + step.at, *step.pauses))]
    items, actions = [f"a{step.number}"] * len(times), ["acted"] * len(times)
    digests = (bytes([step.number, place, *[77] * 6]) for place in range(len(times)))
    return LaterBehaviour(user_id, Behaviour(items, actions, times), b"".join(digests))


def whole(step: WriteWhole, user_id: str) -> UserFeatures:
    row = enriched(step.enrich, user_id)
    behaviour, applied = Behaviour(), AppliedEvents()
    if step.behaves:
        behaviour, applied = Behaviour(("w",), ("acted",), (AT + step.enrich.number,)), AppliedEvents(bytes([99]) * 8)
    return UserFeatures(
        user_id,
        row.attributes,
        behaviour,
        virtual=row.virtual,
        attributes_ms=row.at_ms,
        virtual_ms=0 if row.virtual is None else row.at_ms,
        attributes_place=row.place,
        first_ms=row.first_ms,
        registrations=row.digests,
        applied=applied,
    )


def _virtual(generation: int, number: int) -> VirtualBehaviour:
    return VirtualBehaviour(generation, np.full(SHAPE, number, np.float32))


async def written(store: InMemoryWholeUserStore | RedisStore, user_id: str, row: object) -> object:  # noqa: PLR0911  # one a kind
    match row:
        case EnrichedUser():
            return await store.write_enriched([row])
        case ReenrichedUser():
            return await store.write_virtual([row])
        case BehavedUser():
            return await store.write_behaviour([row])
        case ErasedUser():
            return await store.erase([row])
        case LaterBehaviour():
            return await store.append_behaviour([row])
        case WriteNew():
            return await store.write_new([enriched(row.enrich, user_id)])
        case UserFeatures():
            return await store.write_whole([row])
    raise AssertionError(row)


async def shown(store: ErasingStore, user_id: str) -> list[object]:
    """All that a reader of any generation sees."""
    found: list[object] = []
    for generation in (1, 2):
        (user,) = await store.read([user_id], generation)
        virtual = None
        if user.virtual is not None and user.virtual_ms >= user.attributes_ms:  # what is older is read by nobody
            virtual = (user.virtual.generation, user.virtual.vectors.tolist(), user.virtual_ms)
        behaviour = user.behaviour
        found += [
            user.attributes,
            user.attributes_version,
            user.registered_ms,
            virtual,
            (list(behaviour.items), list(behaviour.actions), list(behaviour.times)),
        ]
    (user,) = await store.read_behaviour([user_id])
    return [*found, user.behaviour_version, user.behaviour_us, user.applied, user.erasure]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(steps=STEPS)
def test_what_is_written_to_both_is_read_from_both(forms: Forms, steps: list[Step]) -> None:
    user_id = f"u{next(forms.users)}"

    async def both() -> None:
        for step in steps:
            read = {number: (await forms.memory.read([user_id], number))[0] for number in (1, 2, 3)}
            (behaved,) = await forms.memory.read_behaviour([user_id])
            row = row_of(step, user_id, read, behaved)
            assert await written(forms.memory, user_id, row) == await written(forms.redis, user_id, row)
            assert await shown(forms.memory, user_id) == await shown(forms.redis, user_id)

    forms.runner.run(both())


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(calls=st.lists(st.tuples(st.booleans(), FEW, FEW), max_size=8))
def test_both_say_how_far_they_have_come(forms: Forms, calls: list[tuple[bool, int, int]]) -> None:
    place, memory = (f"r{next(forms.users)}", 0), InMemoryOffsets()

    async def both() -> None:
        for begins, first, second in calls:
            if begins:
                starts = {place: first}
                assert await memory.begin_offsets(starts) == await forms.redis.begin_offsets(starts)
            else:
                moves = {place: (first, second)}
                assert await memory.advance_offsets(moves) == await forms.redis.advance_offsets(moves)

    forms.runner.run(both())
