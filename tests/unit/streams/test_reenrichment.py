"""Re-enrichment as a whole, on parts in memory: nobody is missed, whoever is killed when."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pytest

from foretaste.kernel.errors import InvalidInput, Unavailable
from foretaste.kernel.events import ReenrichUsers
from foretaste.kernel.users import EnrichedUser, ReenrichedUser, VirtualBehaviour
from foretaste.testing import InMemoryProgress
from streams.reenrich_worker import Pages
from streams.reenrichment import Coverage, Reenrichment, ReenrichmentConfig
from tests.stream_parts import NOW_MS, World, generation, message, virtual_of

OLD, NEW = 1, 2
AWAY = Unavailable("a part", "chosen by the test")


class Killed(Exception):
    """The coordinator was."""


@dataclass
class Workers:
    """Handle what lies in the topic whenever the coordinator sleeps; `lost` pages are acknowledged unhandled."""

    world: World
    lost: int = 0
    idle: bool = False
    now: float = 0.0
    slept: list[float] = field(default_factory=list)
    handled: int = 0

    async def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.slept.append(seconds)
        waiting = self.world.events.of(self.world.names.reenrich)[self.handled :]
        if self.idle or not waiting:
            return
        way = Pages(self.world.parts, self.world.dead_letters, self.world.metrics)
        await way([message(each.value, key=None) for each in waiting[self.lost :]])
        self.lost = max(0, self.lost - len(waiting))
        self.handled += len(waiting)

    async def remaining(self) -> int:
        return len(self.world.events.of(self.world.names.reenrich)) - self.handled


@dataclass
class System:
    world: World
    workers: Workers
    progress: InMemoryProgress = field(default_factory=InMemoryProgress)
    walked: list[tuple[int, int | None]] = field(default_factory=list)

    async def run(self, config: ReenrichmentConfig | None = None) -> Coverage:
        way = Reenrichment(
            self.world.parts,
            self.progress,
            self.workers,
            topic=self.world.names.reenrich,
            config=config or ReenrichmentConfig(pages=2),
            clock=lambda: self.workers.now,
            sleep=self.workers.sleep,
        )
        return await way.run(NEW, lambda done, total: self.walked.append((done, total)))

    async def missing(self) -> int:
        users, _ = await self.world.store.users("", 10**6)
        held = await self.world.store.read(users, NEW)
        return sum(generation(NEW).virtual_of(each) is None for each in held)


async def system_of(users: int, age: int = 7) -> System:
    world = await World().activate()
    virtual = VirtualBehaviour(OLD, virtual_of({"age": age}))
    rows = [EnrichedUser(f"u{each:05}", {"age": age}, virtual, NOW_MS) for each in range(users)]
    await world.store.write_enriched(rows)
    await world.generations.record(generation(NEW), {})
    return System(world, Workers(world))


async def test_everybody_gets_it_in_pages_over_all_partitions_and_the_old_one_stays() -> None:
    system = await system_of(1100)
    assert await system.run() == Coverage(users=1100, missing=0, rounds=1)
    assert await system.missing() == 0
    sent = system.world.events.of(system.world.names.reenrich)
    pages = [ReenrichUsers.model_validate_json(each.value or b"") for each in sent]
    assert {each.key for each in sent} == {None}
    assert {page.generation for page in pages} == {NEW}
    assert sorted(user for page in pages for user in page.user_ids) == [f"u{each:05}" for each in range(1100)]
    assert max(len(page.user_ids) for page in pages) <= 300
    assert generation(OLD).virtual_of(await system.world.features("u00000", OLD)) is not None


async def test_filling_begins_and_a_grace_passes_before_the_first_page() -> None:
    system = await system_of(3)
    usual = system.workers.sleep
    seen: list[tuple[float, bool, int]] = []

    async def sleep(seconds: float) -> None:
        filling = (await system.world.generations.serving()).filling
        seen.append((seconds, filling is not None, len(system.world.events.sent)))
        await usual(seconds)

    system.workers.sleep = sleep  # type: ignore[method-assign]
    await system.run(ReenrichmentConfig(grace=7.0))
    assert seen[0] == (7.0, True, 0)


async def test_it_tells_how_far_it_is() -> None:
    system = await system_of(1500)
    await system.run()
    assert system.walked == [(512, None), (1024, None), (1500, None), (512, 1500), (1024, 1500), (1500, 1500)]


async def test_nobody_to_enrich() -> None:
    system = await system_of(0)
    assert await system.run() == Coverage(0, 0, 1)
    assert system.world.events.sent == []


async def test_it_can_be_run_for_the_active_generation_and_fills_none() -> None:
    system = await system_of(10)
    await system.world.generations.activate(NEW, OLD)
    assert await system.run() == Coverage(10, 0, 1)
    assert (await system.world.generations.serving()).filling is None


def after(calls: int, method: Callable[..., object]) -> Callable[..., object]:
    """`method`, until it was called so often; from then on its effect is there and the caller is killed."""
    left = calls

    async def once(*arguments: object) -> object:
        nonlocal left
        left -= 1
        result = await method(*arguments)  # type: ignore[misc]
        if left < 0:
            raise Killed
        return result

    return once


@pytest.mark.parametrize("calls", [0, 1, 2, 3, 5])
@pytest.mark.parametrize("what", ["sent", "kept", "walked", "slept", "filled"])
async def test_killed_anywhere_and_run_again_nobody_is_missed(what: str, calls: int) -> None:
    system = await system_of(1500)
    owner, name = {
        "sent": (system.world.events, "send_all"),
        "kept": (system.progress, "write"),
        "walked": (system.world.store, "users"),
        "slept": (system.workers, "sleep"),
        "filled": (system.world.generations, "fill"),
    }[what]
    usual = getattr(owner, name)
    setattr(owner, name, after(calls, usual))
    try:
        await system.run()
    except Killed:
        setattr(owner, name, usual)
        assert (await system.run()).missing == 0
    assert await system.missing() == 0
    pages = len(system.world.events.of(system.world.names.reenrich))
    assert pages <= 6 + 2, "at most one step was sent again"


async def test_whoever_goes_on_begins_where_it_stopped() -> None:
    system = await system_of(1500)
    usual = system.progress.write
    system.progress.write = after(1, usual)  # type: ignore[assignment,method-assign]
    with pytest.raises(Killed):
        await system.run()
    system.progress.write = usual  # type: ignore[method-assign]
    system.walked.clear()
    await system.run()
    assert system.walked[0] == (1500, None)


async def test_where_filling_ended_meanwhile_the_walk_begins_anew() -> None:
    """Another generation of its slot may have been written over what the walk had made."""
    system = await system_of(5)
    walked = {"round": 1, "cursor": None, "users": 5, "missing": 0, "before": 5}
    await system.progress.write(NEW, json.dumps(walked))
    assert await system.run() == Coverage(users=5, missing=0, rounds=1)
    assert await system.missing() == 0


async def test_what_is_lost_is_found_and_sent_again() -> None:
    system = await system_of(1500)
    system.workers.lost = 2
    assert await system.run() == Coverage(users=1500, missing=0, rounds=2)
    assert await system.missing() == 0


async def test_who_signs_up_during_it_is_not_missing() -> None:
    system = await system_of(1500)
    usual = system.progress.write

    async def with_a_sign_up(number: int, state: str) -> None:
        both = [VirtualBehaviour(number, virtual_of({"age": 3})) for number in (OLD, NEW)]
        user = f"u{json.loads(state)['users']:05}-new"
        await system.world.store.write_enriched([EnrichedUser(user, {"age": 3}, both[0], NOW_MS)])
        await system.world.store.write_virtual([ReenrichedUser(user, both[1], NOW_MS)])
        await usual(number, state)

    system.progress.write = with_a_sign_up  # type: ignore[method-assign,assignment]
    assert (await system.run()).missing == 0
    assert await system.missing() == 0


async def test_who_never_gets_it_ends_it_with_the_number_and_the_next_run_begins_anew() -> None:
    system = await system_of(100, age=-1)
    with pytest.raises(
        Unavailable, match="100 of 100 users still lack virtual behaviour of generation 2 after 3 rounds"
    ):
        await system.run()
    assert await system.progress.read(NEW) is None


async def test_a_tolerated_share_may_lack_it() -> None:
    system = await system_of(99)
    await system.world.store.write_enriched([EnrichedUser("poison", {"age": -1}, None, NOW_MS)])
    assert await system.run(ReenrichmentConfig(tolerated=0.01)) == Coverage(users=100, missing=1, rounds=1)


async def test_workers_that_do_nothing_are_not_waited_for_for_ever_and_the_walk_is_kept() -> None:
    system = await system_of(1500)
    system.workers.idle = True
    with pytest.raises(Unavailable, match="workers is not available: have handled none of 6 pages for 120 s"):
        await system.run()
    system.workers.idle = False
    assert (await system.run()).missing == 0
    assert len(system.world.events.sent) == 6, "nothing was sent again"


async def test_a_generation_that_stops_filling_ends_it() -> None:
    system = await system_of(10)
    system.workers.idle = True
    usual = system.workers.sleep

    async def rolled_back(seconds: float) -> None:
        await usual(seconds)
        if len(system.workers.slept) > 3:
            await system.world.generations.fill(None)

    system.workers.sleep = rolled_back  # type: ignore[method-assign]
    with pytest.raises(Unavailable, match="generation 2 is not filling any more"):
        await system.run()


@pytest.mark.parametrize("rolled_back_after", [1, 2, 3], ids=["a step", "the walk", "the walk that counts"])
async def test_a_rollback_to_its_slot_ends_it_at_once_and_it_cannot_be_gone_on_with(rolled_back_after: int) -> None:
    """Though the workers drop its pages, and so have nothing left to do."""
    system = await system_of(1000)
    await system.world.generations.record(generation(4), {})
    await system.world.generations.activate(4, OLD)
    await system.world.generations.record(generation(3), {})
    await system.world.generations.activate(3, 4)
    steps = 0
    usual = system.progress.write

    async def rolled_back(number: int, state: str) -> None:
        nonlocal steps
        await usual(number, state)
        steps += 1
        if steps == rolled_back_after:
            await system.world.generations.activate(4, 3, "rollback")

    system.progress.write = rolled_back  # type: ignore[method-assign,assignment]
    with pytest.raises(Unavailable, match="generation 2 is not filling any more"):
        await system.run()
    assert steps == rolled_back_after
    with pytest.raises(InvalidInput, match="shares its slot with the active generation 4"):
        await system.run()


@pytest.mark.parametrize("number", [3, 9], ids=["the active one's slot", "never recorded"])
async def test_a_generation_that_cannot_fill_is_refused(number: int) -> None:
    system = await system_of(1)
    await system.world.generations.record(generation(3), {})
    way = Reenrichment(system.world.parts, system.progress, system.workers, topic="t")
    with pytest.raises(InvalidInput, match="generation"):
        await way.run(number)
    assert system.world.events.sent == []


@pytest.mark.parametrize("stopped", ["store", "events"])
async def test_a_part_that_is_away_is_told_and_running_again_goes_on(stopped: str) -> None:
    system = await system_of(1500)

    async def away(*_: object) -> Sequence[str]:
        raise AWAY

    usual = system.world.store.users
    if stopped == "store":
        system.world.store.users = away  # type: ignore[assignment,method-assign]
    else:
        system.world.events.outage = AWAY
    with pytest.raises(Unavailable):
        await system.run()
    system.world.store.users, system.world.events.outage = usual, None  # type: ignore[method-assign]
    assert (await system.run()).missing == 0
