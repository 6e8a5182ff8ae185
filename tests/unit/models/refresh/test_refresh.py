"""What a refresh leaves behind, whatever its end; its steps are stood in for, and its lease is in memory."""

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from foretaste import compose
from foretaste.kernel.errors import ForetasteError, InvalidInput, Unavailable
from foretaste.kernel.leasing import LeaseHeld, LeaseLost
from foretaste.settings import Settings
from foretaste.testing.lease import InMemoryLease, LeaseBoard
from models.evaluation.verdict import Verdict
from models.generations import publish as publishing
from models.generations.probes import ParityError
from models.refresh import learn as learning
from models.refresh import refresh as refresh_module
from models.refresh.learn import Learned, RefreshOrder
from models.refresh.prepare import RefreshPlan
from models.refresh.records import UNFINISHED, Learning, Outcome, RunRecord, Runs, Unfinished
from models.refresh.refresh import refresh
from models.training.loop import NonFiniteLoss
from streams.reenrichment import Coverage
from tests.tiny_disk import needs_a_disk, tiny_disk

TOLD = Learning(rankings=40, impressions=200)
ORDER = RefreshOrder(RefreshPlan(device="cpu"), window_days=1)
HELD: Any = None
"""What is held out is judged by a stand-in."""


def silent(_step: str, _done: int, _total: int | None) -> None:
    """Tells nobody."""


@dataclass
class System:
    """Generation 1 is active. `training`, `loading`: what happens meanwhile, in a thread and in the loop."""

    settings: Settings
    board: LeaseBoard
    training: Callable[[], object] = lambda: None
    loading: Callable[[], object] = lambda: None
    unwritten: int = 0
    """Events that the training log lacks."""
    learned: list[Unfinished] = field(default_factory=list)
    """The runs that were learned for, oldest first."""

    @property
    def runs(self) -> Runs:
        return Runs(self.settings.home / "runs")

    def learn(self, _settings: object, _order: object, run: Unfinished, _lost: object, _report: object) -> Learned:
        self.learned.append(run)
        (self.runs.checkpoints / "of this run").mkdir(parents=True, exist_ok=True)
        self.training()
        return Learned(2, "", HELD, TOLD)

    async def load(self, _settings: object, _number: int, _reached: object) -> None:
        self.loading()
        await asyncio.sleep(0)

    async def log_unwritten(self, _settings: object, _within: float) -> int:
        return self.unwritten

    async def run(self, order: RefreshOrder = ORDER) -> RunRecord:
        return await refresh(self.settings, order, silent)

    async def fails(self, error: type[ForetasteError]) -> None:
        with pytest.raises(error):
            await self.run()


@pytest.fixture
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> System:
    """Its verdict is a refusal: nothing follows it, unless `loading` is reached by one that admits."""
    settings = Settings(home=tmp_path, lease_seconds=1)
    found = System(settings, LeaseBoard())
    monkeypatch.setattr(compose, "lease", lambda settings, name: InMemoryLease(found.board, name, seconds=60))
    monkeypatch.setattr(compose, "log_unwritten", found.log_unwritten)
    monkeypatch.setattr(publishing, "active_number", _one)
    monkeypatch.setattr(publishing, "load", found.load)
    monkeypatch.setattr(learning, "learn", found.learn)
    monkeypatch.setattr(learning, "judged", lambda *_: Verdict(decision="fail", reasons=("cold is worse",)))
    return found


@pytest.fixture
def admitted(system: System, monkeypatch: pytest.MonkeyPatch) -> System:
    monkeypatch.setattr(learning, "judged", lambda *_: Verdict(decision="pass", reasons=("no group is worse",)))
    return system


async def _one(_settings: Settings) -> int:
    return 1


def raising(error: BaseException) -> Callable[[], None]:
    def fail() -> None:
        raise error

    return fail


async def test_a_run_that_ended_leaves_its_record_alone(system: System) -> None:
    record = await system.run()
    assert (record.outcome, record.said, record.number) == (Outcome.REFUSED, "cold is worse", 2)
    assert system.runs.records() == [record]
    assert [path.name for path in system.runs.folder.iterdir()] == [f"{record.id}.json"]


@pytest.mark.parametrize("error", [ParityError("served", "ranking", 0.5), InvalidInput("generation", 2, "is taken")])
async def test_what_cannot_be_published_is_not_tried_again(admitted: System, error: ForetasteError) -> None:
    admitted.loading = raising(error)
    await admitted.fails(type(error))
    assert admitted.runs.unfinished() is None
    await admitted.fails(type(error))
    first, second = admitted.learned
    assert first.id != second.id
    assert second.number is None, "another candidate is trained"


async def test_a_training_that_diverged_is_not_gone_on_with_from_its_checkpoint(system: System) -> None:
    system.training = raising(NonFiniteLoss("in epoch 1"))
    await system.fails(NonFiniteLoss)
    assert system.runs.unfinished() is None
    assert not system.runs.checkpoints.exists()
    assert [record.said for record in system.runs.records()] == ["in epoch 1"]


async def test_after_a_part_was_away_the_same_candidate_is_gone_on_with(admitted: System) -> None:
    admitted.loading = raising(Unavailable("triton", "no answer"))
    await admitted.fails(Unavailable)
    (record,) = admitted.runs.records()
    assert (record.outcome, record.number, record.learning) == (Outcome.FAILED, 2, TOLD)
    assert "triton is not available" in record.said
    await admitted.fails(Unavailable)
    first, second = admitted.learned
    assert second == first.model_copy(update={"number": 2, "learning": TOLD})


@pytest.mark.parametrize(
    "other",
    [
        replace(ORDER, window_days=2),
        replace(ORDER, plan=replace(ORDER.plan, epochs=3)),
        replace(ORDER, plan=replace(ORDER.plan, catalogue=Path("catalogue"))),
        replace(ORDER, plan=replace(ORDER.plan, seed=1)),
        replace(ORDER, plan=replace(ORDER.plan, cold=True)),
    ],
    ids=["days", "epochs", "catalogue", "seed", "cold"],
)
async def test_another_order_is_another_run(system: System, other: RefreshOrder) -> None:
    system.training = raising(Unavailable("disk", "full"))
    await system.fails(Unavailable)
    system.training = lambda: None
    record = await system.run(other)
    assert record.id != system.learned[0].id
    assert system.learned[1].number is None


async def test_how_it_is_carried_out_or_judged_makes_no_other_run(system: System) -> None:
    system.training = raising(Unavailable("disk", "full"))
    await system.fails(Unavailable)
    system.training = lambda: None
    record = await system.run(replace(ORDER, force=True, compile=True))
    assert record.id == system.learned[0].id


async def test_the_candidate_is_kept_before_its_checkpoints_go(system: System, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def judged(*_: object) -> Verdict:
        seen.append((system.runs.unfinished(), system.runs.checkpoints.exists()))
        return Verdict(decision="fail", reasons=("worse",))

    monkeypatch.setattr(learning, "judged", judged)
    await system.run()
    ((unfinished, checkpoints),) = seen
    assert unfinished is not None
    assert (unfinished.number, checkpoints) == (2, True)
    assert not system.runs.checkpoints.exists()


async def test_a_lost_lease_is_recorded_and_its_run_kept(system: System) -> None:
    system.training = lambda: (system.board.held.clear(), time.sleep(1.0))
    await system.fails(LeaseLost)
    (record,) = system.runs.records()
    assert record.outcome is Outcome.FAILED
    assert "lease" in record.said
    unfinished = system.runs.unfinished()
    assert unfinished is not None
    assert unfinished.id == record.id


async def test_a_lost_run_that_another_refresh_has_ended_is_left_as_it_is(system: System) -> None:
    def lose() -> None:
        system.board.held.clear()
        system.runs.forget()
        time.sleep(1.0)

    system.training = lose
    await system.fails(LeaseLost)
    assert system.runs.records() == []


async def test_a_refresh_that_is_stopped_by_hand_says_so_and_is_gone_on_with(system: System) -> None:
    started = asyncio.Event()
    loop = asyncio.get_running_loop()
    system.training = lambda: (loop.call_soon_threadsafe(started.set), time.sleep(0.2))
    task = asyncio.create_task(system.run())
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    (record,) = system.runs.records()
    assert (record.outcome, record.said) == (Outcome.FAILED, "it was stopped")
    assert system.runs.unfinished() is not None


async def test_while_another_refresh_is_at_work_nothing_is_begun(system: System) -> None:
    assert await InMemoryLease(system.board, "refresh", seconds=60).take()
    await system.fails(LeaseHeld)
    assert not system.runs.folder.exists()


async def test_a_log_that_is_behind_is_not_learned_from(system: System) -> None:
    system.unwritten = 7
    with pytest.raises(Unavailable, match=r"training log is not available: 7 events .* `foretaste log`"):
        await system.run()
    assert system.learned == []
    assert system.runs.unfinished() is None, "the next window ends later"
    system.unwritten = 0
    await system.run()
    assert len(system.learned) == 1


@needs_a_disk
async def test_a_full_disk_is_the_error_though_no_record_finds_room(
    admitted: System, caplog: pytest.LogCaptureFixture
) -> None:
    def fill() -> None:
        with suppress(OSError), (admitted.settings.home / "all").open("wb", 0) as file:
            while True:
                file.write(bytes(4096))
        raise Unavailable("disk", "the repository is full")

    admitted.loading = fill
    with tiny_disk(admitted.settings.home, 64):
        with pytest.raises(Unavailable, match="the repository is full"):
            await admitted.run()
        assert [path.name for path in admitted.runs.folder.iterdir() if path.is_file()] == [UNFINISHED]
        unfinished = admitted.runs.unfinished()
    assert unfinished is not None
    assert unfinished.number == 2
    assert "there is no record of refresh" in caplog.text


@pytest.mark.parametrize(
    "error", [Unavailable("redis", "no answer"), InvalidInput("generation", 1, "expected a recorded generation")]
)
async def test_what_fails_once_the_pointer_moved_undoes_nothing(
    admitted: System, monkeypatch: pytest.MonkeyPatch, error: ForetasteError
) -> None:
    async def done(*_: object, **__: Any) -> Coverage:
        return Coverage(users=5, missing=0, rounds=1)

    async def fails(*_: object) -> None:
        raise error

    monkeypatch.setattr(compose, "reenriched", done)
    monkeypatch.setattr(publishing, "activate", done)
    monkeypatch.setattr(refresh_module, "_retire_others", fails)
    record = await admitted.run()
    assert (record.outcome, record.number) == (Outcome.SWAPPED, 2)
    assert f"older generations are not retired yet: {error}" in record.said
    assert admitted.runs.unfinished() is None


async def test_stopped_once_the_pointer_moved_it_is_a_swap_all_the_same(
    admitted: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    retiring = asyncio.Event()

    async def done(*_: object, **__: Any) -> Coverage:
        return Coverage(users=5, missing=0, rounds=1)

    async def for_ever(*_: object) -> None:
        retiring.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(compose, "reenriched", done)
    monkeypatch.setattr(publishing, "activate", done)
    monkeypatch.setattr(refresh_module, "_retire_others", for_ever)
    running = asyncio.create_task(admitted.run())
    await retiring.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    [record] = [admitted.runs.folder / path for path in admitted.runs.folder.glob("*.json")]
    told = RunRecord.model_validate_json(record.read_text(encoding="utf-8"))
    assert told.outcome == Outcome.SWAPPED
    assert told.said.startswith("generation 2 is active")
    assert admitted.runs.unfinished() is None
