"""The store in memory and the one in Redis, side by side: whatever is written to both, the same is read from both.

What the simulation finds with the first form holds for the second by this.
"""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from features.online.redis_store import RedisStore
from foretaste.kernel.ports import OnlineStore
from foretaste.kernel.users import (
    AppliedEvents,
    BehavedUser,
    Behaviour,
    EnrichedUser,
    Place,
    ReenrichedUser,
    UserFeatures,
    VirtualBehaviour,
)
from foretaste.testing import InMemoryOffsets, InMemoryOnlineStore
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


STEPS = st.lists(
    st.one_of(
        st.builds(Enrich, FEW, FEW, PLACES, FEW, st.one_of(st.none(), st.integers(1, 3)), FEW),
        st.builds(Repair, FEW, st.integers(1, 3), st.integers(-1, 2), st.booleans()),
        st.builds(Behave, FEW, FEW, st.booleans()),
    ),
    min_size=1,
    max_size=8,
)


@dataclass(frozen=True, slots=True)
class Forms:
    runner: asyncio.Runner
    memory: InMemoryOnlineStore
    redis: RedisStore
    users: "count[int]"


@pytest.fixture(scope="module")
def forms(redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forms]:
    folder: Path = tmp_path_factory.mktemp("forms")
    with asyncio.Runner() as runner:
        redis = RedisStore(feast_config(None, redis_url, folder), timeout=10)
        yield Forms(runner, InMemoryOnlineStore(), redis, count())
        runner.run(redis.close())


def row_of(
    step: Enrich | Repair | Behave, user_id: str, read: dict[int, UserFeatures], behaved: UserFeatures
) -> object:
    if isinstance(step, Enrich):
        virtual = None if step.generation is None else _virtual(step.generation, step.number)
        digests = (bytes([step.digest + 1]) * 8,)  # that of zeros is an erasure's
        at_ms = AT + step.at
        first_ms = at_ms - step.before if step.before else 0
        return EnrichedUser(user_id, {"n": step.number}, virtual, at_ms, step.place, digests, first_ms)
    if isinstance(step, Repair):
        before = read[step.generation]
        made_from = before.attributes_version if step.named else None
        at_ms = max(before.as_of_ms + step.later, AT)
        return ReenrichedUser(user_id, _virtual(step.generation, step.number), at_ms, made_from)
    behaviour = Behaviour((f"i{step.number}",), ("acted",), (AT + step.at,))
    applied = AppliedEvents(bytes([step.number]) * 8)
    if step.older:
        return BehavedUser(user_id, behaviour, 0, 0, applied)
    return BehavedUser.after(behaved, behaviour, applied)


def _virtual(generation: int, number: int) -> VirtualBehaviour:
    return VirtualBehaviour(generation, np.full(SHAPE, number, np.float32))


async def written(store: OnlineStore, row: object) -> object:
    match row:
        case EnrichedUser():
            return await store.write_enriched([row])
        case ReenrichedUser():
            return await store.write_virtual([row])
        case BehavedUser():
            return await store.write_behaviour([row])
    raise AssertionError(row)


async def shown(store: OnlineStore, user_id: str) -> list[object]:
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
    return [*found, user.behaviour_version, user.behaviour_us, user.applied]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(steps=STEPS)
def test_what_is_written_to_both_is_read_from_both(forms: Forms, steps: list[Enrich | Repair | Behave]) -> None:
    user_id = f"u{next(forms.users)}"

    async def both() -> None:
        for step in steps:
            read = {number: (await forms.memory.read([user_id], number))[0] for number in (1, 2, 3)}
            (behaved,) = await forms.memory.read_behaviour([user_id])
            row = row_of(step, user_id, read, behaved)
            assert await written(forms.memory, row) == await written(forms.redis, row)
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
