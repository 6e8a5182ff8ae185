"""What a refresh leaves behind, whatever its end: on in-memory parts, with towers in this process."""

import asyncio
import shutil
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from foretaste.kernel.errors import ForetasteError, InvalidInput, Unavailable
from foretaste.kernel.leasing import LeaseHeld, LeaseLost
from foretaste.kernel.ports import Coverage, Report
from foretaste.testing import InMemoryGenerations, InMemoryLease, LeaseBoard
from models.evaluation.verdict import Verdict
from models.generations import publish
from models.generations.in_process import InProcessTowers
from models.generations.probes import ParityError
from models.refresh.parts import Learned, RefreshConfig, RefreshParts, RefreshRequest
from models.refresh.prepare import RefreshPlan
from models.refresh.records import (
    UNFINISHED,
    CountsBasis,
    CountsFrom,
    LearningRecord,
    RefreshOutcome,
    RefreshRecord,
    RefreshRecords,
    UnfinishedRefresh,
)
from models.refresh.refresh import refresh
from models.training.loop import NonFiniteLoss
from tests.tiny_disk import needs_a_disk, tiny_disk
from tests.towers_factory import artifacts

LEARNED = LearningRecord(rankings=40, impressions=200)
REQUEST = RefreshRequest(RefreshPlan(device="cpu"), window_days=1)
HELD_OUT: Any = None
"""The verdict is scripted: nothing is held out for it."""
REFUSED = Verdict(decision="fail", reasons=("cold is worse",))
ADMITTED = Verdict(decision="pass", reasons=("no group is worse",))


@dataclass
class ScriptedLearner:
    """Its candidate is generation 2. `training` happens in a thread, as real training does."""

    records: RefreshRecords
    training: Callable[[], object] = lambda: None
    verdict: Verdict = REFUSED
    runs: list[UnfinishedRefresh] = field(default_factory=list)
    """The refreshes that were learned for, oldest first."""
    bases: dict[int | None, CountsBasis] = field(default_factory=dict)
    """By generation, where it is not all that was counted."""
    judged_with: list[tuple[UnfinishedRefresh | None, bool]] = field(default_factory=list)
    """What was kept when the gate judged: the unfinished refresh, and whether its checkpoints were there."""

    async def basis(self, number: int | None) -> CountsBasis:
        return self.bases.get(number, CountsBasis(CountsFrom.BASE))

    async def learn(
        self, _request: RefreshRequest, run: UnfinishedRefresh, _stop: threading.Event, _report: Report
    ) -> Learned:
        self.runs.append(run)
        (self.records.checkpoints / "of this run").mkdir(parents=True, exist_ok=True)
        await asyncio.to_thread(self.training)
        return Learned(2, "", HELD_OUT, LEARNED)

    async def judge(self, _request: RefreshRequest, _run: UnfinishedRefresh, _learned: Learned) -> Verdict:
        self.judged_with.append((self.records.unfinished(), self.records.checkpoints.exists()))
        return self.verdict


class ScriptedTowers(InProcessTowers):
    """Towers in this process; `loading` happens before one of them is loaded."""

    loading: Callable[[], object] = staticmethod(lambda: None)

    async def load(self, generation: int) -> None:
        self.loading()
        await super().load(generation)


class ScriptedGenerations(InMemoryGenerations):
    """Generations in memory; `retiring` happens when one is to be retired, once it is set."""

    retiring: Callable[[], object] | None = None

    async def retire(self, number: int) -> None:
        if self.retiring is not None:
            self.retiring()
        await super().retire(number)

    async def numbers(self) -> list[int]:
        if self.retiring is not None:
            self.retiring()
        return await super().numbers()


@dataclass
class System:
    """Generation 1 is active; the candidate's files, generation 2, are there."""

    home: Path
    board: LeaseBoard
    learner: ScriptedLearner
    towers: ScriptedTowers
    generations: ScriptedGenerations
    unlogged: int = 0
    """Events that the training log lacks."""
    logging: Callable[[], object] = lambda: None
    """What happens while the log is waited for."""

    @property
    def records(self) -> RefreshRecords:
        return self.learner.records

    @property
    def parts(self) -> RefreshParts:
        return RefreshParts(
            lease=InMemoryLease(self.board, "refresh", seconds=60),
            records=self.records,
            unlogged=self._unlogged,
            learner=self.learner,
            publish=publish.PublishParts(self.towers, self.generations, self.home, self.home / "triton_repo"),
            reenrich=self._reenrich,
            config=RefreshConfig(lease_seconds=1),
        )

    async def _unlogged(self) -> int:
        self.logging()
        return self.unlogged

    async def _reenrich(self, _number: int, _report: Report) -> Coverage:
        return Coverage(users=5, missing=0, rounds=1)

    async def run(self, request: RefreshRequest = REQUEST) -> RefreshRecord:
        return await refresh(self.parts, request)

    async def fails(self, error: type[ForetasteError]) -> None:
        with pytest.raises(error):
            await self.run()


@pytest.fixture
async def system(tmp_path: Path) -> AsyncIterator[System]:
    """Its verdict is a refusal: nothing follows it."""
    shutil.copytree(artifacts()[0].parent, tmp_path / "generations")
    learner = ScriptedLearner(RefreshRecords(tmp_path / "runs"))
    towers = ScriptedTowers(tmp_path / "triton_repo")
    found = System(tmp_path, LeaseBoard(), learner, towers, ScriptedGenerations())
    await publish.publish(found.parts.publish, 1)
    yield found
    await towers.close()


@pytest.fixture
def admitted(system: System) -> System:
    system.learner.verdict = ADMITTED
    return system


def raising(error: BaseException) -> Callable[[], None]:
    def fail() -> None:
        raise error

    return fail


async def test_a_run_that_ended_leaves_its_record_alone(system: System) -> None:
    record = await system.run()
    assert (record.outcome, record.detail, record.number) == (RefreshOutcome.REFUSED, "cold is worse", 2)
    assert system.records.all() == [record]
    assert [path.name for path in system.records.folder.iterdir()] == [f"{record.id}.json"]


@pytest.mark.parametrize("error", [ParityError("served", "ranking", 0.5), InvalidInput("generation", 2, "is taken")])
async def test_what_cannot_be_published_is_not_tried_again(admitted: System, error: ForetasteError) -> None:
    admitted.towers.loading = raising(error)
    await admitted.fails(type(error))
    assert admitted.records.unfinished() is None
    await admitted.fails(type(error))
    first, second = admitted.learner.runs
    assert first.id != second.id
    assert second.number is None, "another candidate is trained"


async def test_a_training_that_diverged_is_not_gone_on_with_from_its_checkpoint(system: System) -> None:
    system.learner.training = raising(NonFiniteLoss("in epoch 1"))
    await system.fails(NonFiniteLoss)
    assert system.records.unfinished() is None
    assert not system.records.checkpoints.exists()
    assert [record.detail for record in system.records.all()] == ["in epoch 1"]


async def test_after_a_part_was_away_the_same_candidate_is_gone_on_with(admitted: System) -> None:
    admitted.towers.loading = raising(Unavailable("triton", "no answer"))
    await admitted.fails(Unavailable)
    (record,) = admitted.records.all()
    assert (record.outcome, record.number, record.learning) == (RefreshOutcome.FAILED, 2, LEARNED)
    assert "triton is not available" in record.detail
    await admitted.fails(Unavailable)
    first, second = admitted.learner.runs
    assert second == first.model_copy(update={"number": 2, "learning": LEARNED})


@pytest.mark.parametrize(
    "other",
    [
        replace(REQUEST, window_days=2),
        replace(REQUEST, plan=replace(REQUEST.plan, epochs=3)),
        replace(REQUEST, plan=replace(REQUEST.plan, catalogue=Path("catalogue"))),
        replace(REQUEST, plan=replace(REQUEST.plan, seed=1)),
        replace(REQUEST, plan=replace(REQUEST.plan, cold=True)),
    ],
    ids=["days", "epochs", "catalogue", "seed", "cold"],
)
async def test_another_order_is_another_run(system: System, other: RefreshRequest) -> None:
    system.learner.training = raising(Unavailable("disk", "full"))
    await system.fails(Unavailable)
    system.learner.training = lambda: None
    record = await system.run(other)
    assert record.id != system.learner.runs[0].id
    assert system.learner.runs[1].number is None


async def test_how_it_is_carried_out_or_judged_makes_no_other_run(system: System) -> None:
    system.learner.training = raising(Unavailable("disk", "full"))
    await system.fails(Unavailable)
    system.learner.training = lambda: None
    record = await system.run(replace(REQUEST, force=True, compile=True))
    assert record.id == system.learner.runs[0].id


async def test_the_candidate_is_kept_before_its_checkpoints_go(system: System) -> None:
    await system.run()
    ((unfinished, checkpoints),) = system.learner.judged_with
    assert unfinished is not None
    assert (unfinished.number, checkpoints) == (2, True)
    assert not system.records.checkpoints.exists()


async def test_a_lost_lease_is_recorded_and_its_run_kept(system: System) -> None:
    system.learner.training = lambda: (system.board.held.clear(), time.sleep(1.0))
    await system.fails(LeaseLost)
    (record,) = system.records.all()
    assert record.outcome is RefreshOutcome.FAILED
    assert "lease" in record.detail
    unfinished = system.records.unfinished()
    assert unfinished is not None
    assert unfinished.id == record.id


async def test_a_lost_run_that_another_refresh_has_ended_is_left_as_it_is(system: System) -> None:
    def lose() -> None:
        system.board.held.clear()
        system.records.forget()
        time.sleep(1.0)

    system.learner.training = lose
    await system.fails(LeaseLost)
    assert system.records.all() == []


async def test_a_refresh_that_is_stopped_by_hand_says_so_and_is_gone_on_with(system: System) -> None:
    started = asyncio.Event()
    loop = asyncio.get_running_loop()
    system.learner.training = lambda: (loop.call_soon_threadsafe(started.set), time.sleep(0.2))
    task = asyncio.create_task(system.run())
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    (record,) = system.records.all()
    assert (record.outcome, record.detail) == (RefreshOutcome.FAILED, "it was stopped")
    assert system.records.unfinished() is not None


async def test_while_another_refresh_is_at_work_nothing_is_begun(system: System) -> None:
    assert await InMemoryLease(system.board, "refresh", seconds=60).take()
    await system.fails(LeaseHeld)
    assert not system.records.folder.exists()


async def test_a_log_that_is_behind_is_not_learned_from(system: System) -> None:
    system.unlogged = 7
    with pytest.raises(Unavailable, match=r"training log is not available: 7 events .* `foretaste log`"):
        await system.run()
    assert system.learner.runs == []
    assert system.records.unfinished() is None, "the next window ends later"
    system.unlogged = 0
    await system.run()
    assert len(system.learner.runs) == 1


@needs_a_disk
async def test_a_full_disk_is_the_error_though_no_record_finds_room(
    admitted: System, caplog: pytest.LogCaptureFixture
) -> None:
    def fill() -> None:
        with suppress(OSError), (admitted.records.checkpoints / "all").open("wb", 0) as file:
            while True:
                file.write(bytes(4096))
        raise Unavailable("disk", "the repository is full")

    admitted.towers.loading = fill
    admitted.records.folder.mkdir()
    with tiny_disk(admitted.records.folder, 64):
        with pytest.raises(Unavailable, match="the repository is full"):
            await admitted.run()
        assert [path.name for path in admitted.records.folder.iterdir() if path.is_file()] == [UNFINISHED]
        unfinished = admitted.records.unfinished()
    assert unfinished is not None
    assert unfinished.number == 2
    assert "there is no record of refresh" in caplog.text


async def test_a_candidate_that_is_admitted_becomes_active_and_the_oldest_is_retired(admitted: System) -> None:
    record = await admitted.run()
    assert (record.outcome, record.base, record.number) == (RefreshOutcome.SWAPPED, 1, 2)
    assert "no group is worse; 5 users looked at, 0 without its vector" in record.detail
    assert [*record.steps] == ["learn", "gate", "publish", "re-enrich", "swap", "retire"]
    serving = await admitted.generations.serving()
    assert serving.active is not None
    assert (serving.active.number, serving.previous) == (2, 1)
    (move,) = await admitted.generations.moves(1)
    assert move.filled, "the watch may judge its coverage"


@pytest.mark.parametrize(
    "error", [Unavailable("redis", "no answer"), InvalidInput("generation", 1, "expected a recorded generation")]
)
async def test_what_fails_once_the_pointer_moved_undoes_nothing(admitted: System, error: ForetasteError) -> None:
    admitted.generations.retiring = raising(error)
    record = await admitted.run()
    assert (record.outcome, record.number) == (RefreshOutcome.SWAPPED, 2)
    assert f"older generations are not retired yet: {error}" in record.detail
    assert admitted.records.unfinished() is None


async def test_stopped_once_the_pointer_moved_it_is_a_swap_all_the_same(admitted: System) -> None:
    admitted.generations.retiring = raising(asyncio.CancelledError())
    with pytest.raises(asyncio.CancelledError):
        await admitted.run()
    (record,) = admitted.records.all()
    assert record.outcome == RefreshOutcome.SWAPPED
    assert record.detail.startswith("generation 2 is active")
    assert admitted.records.unfinished() is None


async def test_where_somebody_who_was_erased_was_counted_the_window_is_what_is_counted_anew(system: System) -> None:
    system.learner.bases[1] = CountsBasis(CountsFrom.FIRST, 1_000)
    await system.run(RefreshRequest(REQUEST.plan))
    (run,) = system.learner.runs
    assert (run.counts, run.since_ms) == (CountsFrom.FIRST, 1_000)


async def test_an_erasure_that_comes_to_the_log_while_it_is_waited_for_is_seen(system: System) -> None:
    system.logging = lambda: system.learner.bases.update({1: CountsBasis(CountsFrom.FIRST, 1_000)})
    await system.run(REQUEST)
    (run,) = system.learner.runs
    assert run.counts == CountsFrom.FIRST


async def test_a_candidate_that_counted_somebody_who_was_erased_since_is_not_gone_on_with(admitted: System) -> None:
    admitted.towers.loading = raising(Unavailable("triton", "no answer"))
    await admitted.fails(Unavailable)
    admitted.learner.bases[2] = CountsBasis(CountsFrom.NOTHING, 0)
    await admitted.fails(Unavailable)
    first, second = admitted.learner.runs
    assert first.id != second.id
    assert second.number is None


async def test_an_unfinished_refresh_on_other_counts_is_not_gone_on_with(system: System) -> None:
    system.learner.training = raising(Unavailable("disk", "full"))
    await system.fails(Unavailable)
    system.learner.training = lambda: None
    system.learner.bases[1] = CountsBasis(CountsFrom.NOTHING, 0)
    await system.run()
    first, second = system.learner.runs
    assert (first.counts, second.counts) == (CountsFrom.BASE, CountsFrom.NOTHING)
    assert first.id != second.id
