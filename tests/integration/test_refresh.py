"""A refresh on a real broker and a real Redis, with the towers in this process: what its ends leave behind."""

import asyncio
import json
import os
import shutil
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from foretaste import compose
from foretaste.cli.cotrain import REFUSED
from foretaste.cli.main import main
from foretaste.kernel.errors import InvalidInput, Unavailable
from foretaste.kernel.events import UserBehaved, UserRanked
from foretaste.kernel.generations import Move, Serving
from foretaste.kernel.leasing import LeaseHeld, LeaseLost
from foretaste.kernel.profile import read_profile
from foretaste.kernel.ranking import Source
from foretaste.kernel.users import EnrichedUser
from foretaste.settings import Settings, variable
from models.data.dataset import Dataset, read_dataset
from models.evaluation.verdict import read_verdict, verdict_path
from models.generations.in_process import InProcessTowers
from models.generations.manifest import read_manifest
from models.refresh.learn import Stopped
from models.refresh.parts import RefreshRequest
from models.refresh.prepare import RefreshPlan
from models.refresh.records import RefreshOutcome, RefreshRecord, RefreshRecords, UnfinishedRefresh
from models.refresh.refresh import refresh
from streams.topics import TopicNames
from tests import opened
from tests.data_factory import write_dataset
from tests.towers_factory import artifacts
from tests.two_processes import run_two

pytestmark = pytest.mark.one_broker
USERS = 60
ROOT = Path(__file__).parents[2]
TOGETHER = 400.0
"""Seconds for a refresh by two processes: they stand back for all else that runs, so a full machine makes them slow."""


@dataclass
class System:
    """Generation 1 is active; users are stored, and what they were shown is in the log."""

    settings: Settings
    data: Dataset

    async def serving(self) -> Serving:
        generations = compose.generations(self.settings)
        try:
            return await generations.serving()
        finally:
            await generations.close()

    async def last_move(self) -> Move:
        generations = compose.generations(self.settings)
        try:
            (move,) = await generations.moves(1)
        finally:
            await generations.close()
        return move

    @property
    def attributes(self) -> list[str]:
        return list(read_manifest(self.settings.generations / "1").attributes)

    async def show(self, rankings: int, *, ago: float = 60.0, acting: bool = True, new_item: str | None = None) -> None:
        """So many rankings of six items in the log, of which users act on those of the first half of the catalogue."""
        rng, log = np.random.default_rng(0), compose.training_log(self.settings)
        items = self.data.items["item_id"].tolist()
        users = self.data.users.head(USERS).to_dict("records")
        begun = time.time() - ago
        ranked, acts = [], []
        for number in range(rankings):
            user = users[number % USERS]
            at = datetime.fromtimestamp(begun + number * 0.01, UTC)
            shown = [str(each) for each in rng.choice(items, 6, replace=False)]
            shown = shown if new_item is None else [new_item, *shown]
            ranking_id = uuid4().hex
            attributes = {name: user[name] for name in self.attributes}
            ranked.append(
                UserRanked(
                    ranking_id=ranking_id,
                    user_id=str(user["user_id"]),
                    at=at,
                    items=tuple(shown),
                    scores=(0.5,) * len(shown),
                    attributes=attributes,
                    served_by=Source.VIRTUAL,
                    ranking_generation=1,
                    zero_shot_generation=1,
                    warm_after=3,
                )
            )
            acts += [
                UserBehaved(user_id=str(user["user_id"]), item_id=item, at=at, ranking_id=ranking_id)
                for item in shown
                if acting and (item == new_item or items.index(item) < len(items) // 2)
            ]
        await log.write_rankings(ranked)
        await log.write_behaviours(acts)


class AwayTowers(InProcessTowers):
    """Towers that nobody can load."""

    async def load(self, generation: int) -> None:
        raise Unavailable("triton", f"it is away, and so is generation {generation}")


@asynccontextmanager
async def working(settings: Settings) -> AsyncIterator[None]:
    """A worker, in this loop."""
    async with compose.parts(settings) as parts, compose.worker(settings, parts, CollectorRegistry()):
        yield


@pytest.fixture
async def system(redis_url: str, kafka_address: str, kafka_idempotent: bool, tmp_path: Path) -> System:
    shutil.copytree(artifacts()[0].parent, tmp_path / "generations")
    shutil.rmtree(tmp_path / "generations" / "2")
    name = uuid4().hex
    settings = Settings(
        home=tmp_path,
        kafka=kafka_address,
        kafka_idempotent=kafka_idempotent,
        kafka_fetch_wait=0.02,
        kafka_session_timeout=6.0 if kafka_idempotent else 3.0,
        topic_prefix=f"{name}-",
        partitions=2,
        redis=redis_url,
        project=f"test_{name}",
        triton="in-process",
        outcome_window=1.0,
        log_settles=0.0,
    )
    await compose.create_topics(settings)
    compose.apply_features(settings)
    await opened.publish(settings, 1)
    data = read_dataset(write_dataset(tmp_path / "data"))
    found = System(settings, data)
    store = compose.store(settings)
    at_ms = round(time.time() * 1000)
    rows = data.users.head(USERS).to_dict("records")
    await store.write_enriched(
        [EnrichedUser(str(row["user_id"]), {each: row[each] for each in found.attributes}, None, at_ms) for row in rows]
    )
    await store.close()
    return found


def order(**plan: Any) -> RefreshRequest:
    return RefreshRequest(RefreshPlan(device="cpu", **plan), window_days=1)


def silent(_step: str, _done: int, _total: int | None) -> None:
    """Tells nobody."""


async def test_a_refresh_takes_over_with_every_user_re_enriched(system: System) -> None:
    await system.show(400, new_item="brand-new")
    async with working(system.settings):
        record = await opened.refresh(system.settings, order(), silent)
    assert record.outcome is RefreshOutcome.SWAPPED
    assert (record.base, record.number) == (1, 2)
    serving = await system.serving()
    assert serving.active is not None
    assert (serving.active.number, serving.previous, serving.filling) == (2, 1, None)
    assert (await system.last_move()).filled, "the watch may judge its coverage"
    baseline = read_profile(serving.active.profile)
    assert baseline is not None, "the watch can tell drift"
    assert set(baseline.attributes) == set(system.attributes)
    store = compose.store(system.settings)
    users = system.data.users["user_id"].head(USERS).astype(str).tolist()
    assert all(serving.active.virtual_of(each) is not None for each in await store.read(users, 2))
    await store.close()
    manifest = read_manifest(system.settings.generations / "2")
    assert manifest.base == 1
    encoding = json.loads((system.settings.generations / "2" / "encoding.json").read_text(encoding="utf-8"))
    before = json.loads((system.settings.generations / "1" / "encoding.json").read_text(encoding="utf-8"))
    assert encoding["items"][: len(before["items"])] == before["items"], "ids never move"
    assert "brand-new" in encoding["items"]
    verdict = read_verdict(verdict_path(system.settings.home, 2))
    assert (verdict.decision, verdict.candidate, verdict.active) == ("pass", 2, 1)
    assert record.learning is not None
    assert record.learning.rankings + verdict.rankings == 400
    runs = RefreshRecords(system.settings.home / "runs")
    assert runs.all() == [record]
    assert runs.unfinished() is None
    assert (runs.folder / f"{record.id}.svg").is_file()


async def test_what_was_learned_is_not_learned_again(system: System) -> None:
    await system.show(300)
    async with working(system.settings):
        await opened.refresh(system.settings, order(), silent)
        later = await opened.refresh(system.settings, replace(order(), window_days=None), silent)
    learned = read_manifest(system.settings.generations / "2").split_ms
    assert later.since_ms == learned
    assert later.outcome in {RefreshOutcome.SWAPPED, RefreshOutcome.REFUSED}, "what was held out is learned from now"


@pytest.mark.parametrize("case", ["an empty log", "one class"])
async def test_nothing_to_learn_leaves_everything_as_it_is(system: System, case: str) -> None:
    if case == "one class":
        await system.show(50, acting=False)
    record = await opened.refresh(system.settings, order(), silent)
    assert record.outcome is RefreshOutcome.NOTHING
    assert ("no ranking" if case == "an empty log" else "one outcome") in record.detail
    assert (await system.serving()).active is not None
    assert not (system.settings.generations / "2").exists()


async def test_a_corrupt_file_of_the_log_is_passed_over_and_named(system: System) -> None:
    await system.show(10)
    (corrupt,) = (Path(system.settings.training_log) / "rankings").rglob("*.parquet")
    corrupt.write_bytes(b"PAR1 no more")
    await system.show(300)
    async with working(system.settings):
        record = await opened.refresh(system.settings, order(), silent)
    assert record.outcome is RefreshOutcome.SWAPPED
    assert record.learning is not None
    assert [Path(each).name for each in record.learning.skipped] == [corrupt.name]
    assert any("could not be read" in each for each in record.learning.notices)


async def test_a_second_refresh_is_told_that_one_is_at_work(system: System) -> None:
    lease = compose.lease(system.settings, "refresh")
    assert await lease.take()
    with pytest.raises(LeaseHeld):
        await opened.refresh(system.settings, order(), silent)
    await lease.give_back()
    await lease.close()


async def test_a_refresh_that_lost_its_lease_stops_and_moves_nothing(system: System) -> None:
    await system.show(400)
    settings = system.settings.model_copy(update={"lease_seconds": 1.0})
    stolen = asyncio.Event()

    def steal(step: str, _done: int, _total: int | None) -> None:
        if step == "read the log":
            loop.call_soon_threadsafe(stolen.set)

    async def thief() -> None:
        await stolen.wait()
        redis = compose.redis_address(settings).client()
        await redis.set(f"{{{settings.project}}}:lease:refresh", "another", px=60_000)
        await redis.aclose()

    loop = asyncio.get_running_loop()
    taking = asyncio.create_task(thief())
    with pytest.raises(LeaseLost):  # re-enrichment waits for workers, of whom there are none
        await opened.refresh(settings, order(), steal)
    await taking
    serving = await system.serving()
    assert serving.active is not None
    assert serving.active.number == 1


async def test_a_clock_behind_the_log_is_named(system: System) -> None:
    manifest = system.settings.generations / "1" / "manifest.json"
    later = round((time.time() + 3600) * 1000)
    changed = json.loads(manifest.read_text(encoding="utf-8")) | {"split_ms": later}
    manifest.write_text(json.dumps(changed), encoding="utf-8")
    with pytest.raises(InvalidInput, match=rf"window: .*a clock is behind the log \(got {later}\)"):
        await opened.refresh(system.settings, replace(order(), window_days=None), silent)


async def test_a_refused_candidate_is_kept_with_its_verdict_and_forced_if_so_asked(system: System) -> None:
    """Held out are acts on the other half of the catalogue: what the candidate learned is wrong there."""
    await system.show(400)
    await _show_the_contrary(system, 250)
    record = await opened.refresh(system.settings, order(epochs=20), silent)
    assert record.outcome is RefreshOutcome.REFUSED
    assert record.number == 2
    verdict = read_verdict(verdict_path(system.settings.home, 2))
    assert verdict.decision == "fail"
    active = (await system.serving()).active
    assert active is not None
    assert active.number == 1
    async with working(system.settings):
        forced = await opened.refresh(system.settings, replace(order(epochs=20), force=True), silent)
    assert forced.outcome is RefreshOutcome.SWAPPED
    assert read_verdict(verdict_path(system.settings.home, forced.number or 0)).forced


async def _show_the_contrary(system: System, rankings: int) -> None:
    rng, log = np.random.default_rng(1), compose.training_log(system.settings)
    items = system.data.items["item_id"].tolist()
    rows: Sequence[dict[Any, Any]] = system.data.users.head(USERS).to_dict("records")
    ranked, acts = [], []
    for number in range(rankings):
        user, at = rows[number % USERS], datetime.fromtimestamp(time.time() - 30 + number * 0.01, UTC)
        shown, ranking_id = [str(each) for each in rng.choice(items, 6, replace=False)], uuid4().hex
        ranked.append(
            UserRanked(
                ranking_id=ranking_id,
                user_id=str(user["user_id"]),
                at=at,
                items=tuple(shown),
                scores=(0.5,) * 6,
                attributes={name: user[name] for name in system.attributes},
                served_by=Source.VIRTUAL,
                ranking_generation=1,
                zero_shot_generation=1,
                warm_after=3,
            )
        )
        acts += [
            UserBehaved(user_id=str(user["user_id"]), item_id=item, at=at, ranking_id=ranking_id)
            for item in shown
            if items.index(item) >= len(items) // 2
        ]
    await log.write_rankings(ranked)
    await log.write_behaviours(acts)


async def test_acts_that_the_log_does_not_have_yet_are_waited_for(system: System) -> None:
    await system.show(1, acting=False)
    events, topic = compose.events(system.settings), TopicNames(system.settings.topic_prefix).behaved
    acted = UserBehaved(user_id="1", item_id="1", at=datetime.now(UTC))
    await events.send(topic, b"1", acted.model_dump_json().encode())
    await events.close()
    impatient = system.settings.model_copy(update={"log_patience": 0.5})
    with pytest.raises(Unavailable, match="training log is not available: 1 events"):
        await opened.refresh(impatient, order(), silent)
    assert RefreshRecords(system.settings.home / "runs").unfinished() is None
    settings = system.settings.model_copy(update={"log_patience": 60.0})
    async with compose.parts(settings) as parts, compose.log_worker(settings, parts, CollectorRegistry()):
        record = await opened.refresh(settings, order(), silent)
    assert record.outcome is RefreshOutcome.NOTHING, "one ranking teaches nothing"
    logged = await compose.training_log(settings).read(0, round(time.time() * 1000) + 1000)
    assert "1" in logged.behaviours.column("user_id").to_pylist()


COMMAND = ("cotrain", "--once", "--days", "1", "--epochs", "1", "--device", "cpu", "--json")


def environment_of(settings: Settings) -> dict[str, str]:
    given = settings.model_dump(mode="json", exclude_none=True, exclude_unset=True)
    return {variable(name): str(value) for name, value in given.items()}


async def by_torchrun(settings: Settings) -> tuple[list[int | None], str]:
    """The exit status of `foretaste cotrain` in two processes of torchrun, and what the first said."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--rdzv-backend", "c10d"),
        *("--rdzv-endpoint", "localhost:0", "-m", "foretaste", *COMMAND),
        cwd=ROOT,
        env={**os.environ, **environment_of(settings), "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"},
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(TOGETHER):
            said, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.terminate()
            await process.wait()
    return [process.returncode], said.decode()


async def by_fork(settings: Settings) -> tuple[list[int | None], str]:
    """Likewise in two forked processes; the exit status of each."""
    said = settings.home / "said"
    ended = await asyncio.to_thread(run_two, command_line, said, environment=environment_of(settings))
    return ended, said.read_text()


def command_line(said: Path) -> None:
    """`foretaste cotrain` in this process."""
    if os.environ["RANK"] == "0":
        os.dup2(os.open(said, os.O_WRONLY | os.O_CREAT), sys.stdout.fileno())
    sys.argv = ["foretaste", *COMMAND]
    main()


@pytest.mark.timeout(450)
@pytest.mark.parametrize(
    ("together", "trained_before"),
    [(by_torchrun, False), (by_fork, True)],
    ids=["from its beginning", "with a candidate"],
)
async def test_two_processes_refresh_together_from_the_command_line(
    system: System,
    together: Callable[[Settings], Awaitable[tuple[list[int | None], str]]],
    trained_before: bool,
) -> None:
    await system.show(400)
    if trained_before:
        async with compose.refresh_parts(system.settings) as parts:
            away = replace(parts.publish, towers=AwayTowers(system.settings.repository))
            with pytest.raises(Unavailable):
                await refresh(replace(parts, publish=away), order(epochs=1), silent)
    async with working(system.settings):
        ended, said = await together(system.settings)
    assert set(ended) == {0}
    record = RefreshRecord.model_validate_json(said)
    assert (record.outcome, record.number) == (RefreshOutcome.SWAPPED, 2)
    assert record.learning is not None
    assert record.learning.steps > 0
    active = (await system.serving()).active
    assert active is not None
    assert active.number == 2


@pytest.mark.timeout(450)
async def test_two_processes_that_have_nothing_to_learn_end_both(system: System) -> None:
    ended, said = await by_fork(system.settings)
    assert ended == [REFUSED, 0]
    assert RefreshRecord.model_validate_json(said).outcome is RefreshOutcome.NOTHING


async def test_once_the_lease_is_lost_nothing_is_exported(system: System) -> None:
    """Lost after the last step, when nothing tells the training of it any more."""
    await system.show(100)
    lost, now_ms = threading.Event(), round(time.time() * 1000)
    run = UnfinishedRefresh(id="1", base=1, since_ms=0, until_ms=now_ms)

    def lose(step: str, done: int, total: int | None) -> None:
        if step == "co-train" and done == total:
            lost.set()

    async with compose.refresh_parts(system.settings) as parts:
        with pytest.raises(Stopped):
            await parts.learner.learn(order(), run, lost, lose)
    assert not (system.settings.generations / "2").exists()
    assert RefreshRecords(system.settings.home / "runs").checkpoints.exists()
