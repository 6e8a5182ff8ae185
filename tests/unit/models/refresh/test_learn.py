"""The learning of a refresh on in-memory parts: a real training on a small log, judged, and taken over."""

import shutil
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from foretaste.kernel.events import UserBehaved, UserRanked
from foretaste.kernel.ports import Coverage, Report
from foretaste.kernel.ranking import Source
from foretaste.kernel.running.erasing import LogErasure, user_digest
from foretaste.kernel.running.registered_items import RegisteredItem
from foretaste.testing import (
    InMemoryGenerations,
    InMemoryItemRegistry,
    InMemoryLease,
    InMemoryTrainingLog,
    LeaseBoard,
)
from models.evaluation.gate import judge
from models.evaluation.verdict import read_verdict, verdict_path
from models.generations import publish
from models.generations.counted import CountedUsers, holds_some
from models.generations.in_process import InProcessTowers
from models.generations.load import restore
from models.generations.manifest import read_manifest
from models.refresh.learn import LearnConfig, LogLearner
from models.refresh.parts import RefreshConfig, RefreshParts, RefreshRequest
from models.refresh.prepare import RefreshPlan
from models.refresh.records import RefreshOutcome, RefreshRecords, UnfinishedRefresh
from models.refresh.refresh import refresh
from models.training.trained import Trained
from tests.tiny_disk import needs_a_disk, tiny_disk
from tests.towers_factory import artifacts, dataset, trained

REQUEST = RefreshRequest(RefreshPlan(device="cpu"), window_days=1)
SHOWN = 6


@dataclass
class System:
    """Generation 1 is active; `show` writes the log."""

    parts: RefreshParts
    log: InMemoryTrainingLog
    towers: InProcessTowers
    items: InMemoryItemRegistry

    async def show(self, rankings: int) -> None:
        """Rankings of `SHOWN` items each, of which users act on those of the first half of the catalogue."""
        rng, (data, _) = np.random.default_rng(0), dataset()
        items, users = data.items["item_id"].tolist(), data.users.head(60).to_dict("records")
        fields = list(read_manifest(self.parts.publish.artifact(1)).attributes)
        started = time.time() - 60
        for number in range(rankings):
            user, at = users[number % len(users)], datetime.fromtimestamp(started + number * 0.01, UTC)
            ranking = UserRanked(
                ranking_id=f"ranking-{number}",
                user_id=str(user["user_id"]),
                at=at,
                items=tuple(str(item) for item in rng.choice(items, SHOWN, replace=False)),
                scores=(0.5,) * SHOWN,
                attributes={name: user[name] for name in fields},
                served_by=Source.VIRTUAL,
                ranking_generation=1,
                zero_shot_generation=1,
                warm_after=3,
            )
            await self.log.write_rankings([ranking])
            liked = [item for item in ranking.items if items.index(item) < len(items) // 2]
            acts = [UserBehaved(user_id=ranking.user_id, item_id=item, at=at) for item in liked]
            await self.log.write_behaviours([act.model_copy(update={"ranking_id": ranking.ranking_id}) for act in acts])


@pytest.fixture
async def system(tmp_path: Path) -> AsyncIterator[System]:
    shutil.copytree(artifacts()[0], tmp_path / "generations" / "1")
    log, generations, towers = InMemoryTrainingLog(), InMemoryGenerations(), InProcessTowers(tmp_path / "triton_repo")
    items = InMemoryItemRegistry()
    parts = RefreshParts(
        lease=InMemoryLease(LeaseBoard(), "refresh", seconds=60),
        records=RefreshRecords(tmp_path / "runs"),
        unlogged=_nothing,
        learner=LogLearner(log, generations, tmp_path, LearnConfig(outcome_window=1.0), items),
        publish=publish.PublishParts(towers, generations, tmp_path, tmp_path / "triton_repo"),
        reenrich=_reenriched,
        config=RefreshConfig(log_settles=0.0),
    )
    await publish.publish(parts.publish, 1)
    yield System(parts, log, towers, items)
    await towers.close()


async def _nothing() -> int:
    return 0


async def _reenriched(_number: int, _report: Report) -> Coverage:
    return Coverage(users=60, missing=0, rounds=1)


async def test_what_was_logged_becomes_the_active_generation(system: System, monkeypatch: pytest.MonkeyPatch) -> None:
    """The gate judges both as they are served: an item that was registered is none that they know nothing of."""
    judged: list[Trained] = []

    def watched(candidate: Trained, active: Trained, *others: Any, **numbers: Any) -> Any:
        judged.extend([candidate, active])
        return judge(candidate, active, *others, **numbers)

    monkeypatch.setattr("models.refresh.learn.judge", watched)
    await system.items.register([RegisteredItem("new", {"genre": "x"}, 5)])
    await system.show(400)
    record = await refresh(system.parts, REQUEST)
    assert [towers.encoding.unknown_items(["new", "nobody"]) for towers in judged] == [["nobody"]] * 2
    assert (record.outcome, record.base, record.number) == (RefreshOutcome.SWAPPED, 1, 2)
    active = await system.parts.publish.generations.active()
    assert active is not None
    assert active.number == 2
    manifest, verdict = read_manifest(system.parts.publish.artifact(2)), read_verdict(_verdict(system))
    assert (manifest.base, verdict.decision, verdict.candidate, verdict.active) == (1, "pass", 2, 1)
    assert record.learning is not None
    assert record.learning.rankings + verdict.rankings == 400
    assert record.learning.steps > 0
    assert (system.parts.records.folder / f"{record.id}.svg").is_file()
    assert await system.towers.ready(2)


async def test_an_empty_log_leaves_everything_as_it_is(system: System) -> None:
    record = await refresh(system.parts, REQUEST)
    assert (record.outcome, record.number) == (RefreshOutcome.NOTHING, None)
    assert "no ranking" in record.detail
    assert not system.parts.publish.artifact(2).exists()


@needs_a_disk
def test_without_room_for_the_loss_curves_there_is_a_notice(system: System) -> None:
    learner = system.parts.learner
    assert isinstance(learner, LogLearner)
    run = UnfinishedRefresh(id="1", base=1, since_ms=0, until_ms=1)
    system.parts.records.folder.mkdir(exist_ok=True)
    with tiny_disk(system.parts.records.folder, 4):
        (notice,) = learner._draw(trained(), run)
        assert "no room is left" in notice
        assert list(system.parts.records.folder.iterdir()) == []


async def test_a_refresh_that_is_resumed_learns_with_the_same_registered_items(system: System) -> None:
    registry, learner = system.items, system.parts.learner
    assert isinstance(learner, LogLearner)
    first, later = RegisteredItem("a", {"genre": "x", "tags": ["p", "q"]}, 5), RegisteredItem("b", {}, 10**15)
    run, other = (UnfinishedRefresh(id=name, base=1, since_ms=0, until_ms=1) for name in ("1", "2"))
    system.parts.records.folder.mkdir(exist_ok=True)
    await registry.register([first])
    assert await learner._registered(run) == [first]
    await registry.register([later])
    assert await learner._registered(run) == [first]
    assert await learner._registered(other) == [first, later]
    system.parts.records.forget()
    assert system.parts.records.items(other) is None


def _verdict(system: System) -> Path:
    return verdict_path(system.parts.publish.home, 2)


async def test_who_was_erased_is_in_no_later_counts(system: System) -> None:
    generation, users = system.parts.publish.artifact, [str(each) for each in dataset()[0].users.head(60)["user_id"]]
    CountedUsers.of(users[1:]).write(generation(1))
    await system.show(400)
    assert (await refresh(system.parts, REQUEST)).number == 2
    erased = frozenset([user_digest(users[0])])
    assert holds_some(_counted(generation(2)).all, erased)
    now_ms = round(time.time() * 1000)
    await system.log.erase([LogErasure(users[0], now_ms, now_ms)])
    record = await refresh(system.parts, REQUEST)
    assert record.number == 3
    assert record.learning is not None
    assert any("counted anew, on top of first" in notice for notice in record.learning.notices)
    assert not holds_some(_counted(generation(3)).all, erased)
    before, first, after = (restore(generation(number)).counts for number in (2, 1, 3))
    assert before is not None
    assert first is not None
    assert after is not None
    shown = after.past.frequency.sum() - first.past.frequency.sum()
    assert shown == record.learning.impressions


def _counted(folder: Path) -> CountedUsers:
    found = CountedUsers.read(folder)
    assert found is not None
    return found
