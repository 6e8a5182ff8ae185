"""Erasure from the training log: left out of every read at once, and out of the files at the next compaction."""

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest

from features.feast_api import FeatureStore, RepoConfig
from features.log.delta import DayTable
from features.log.feast_log import FeastTrainingLog
from features.log.offline_store import DeltaOfflineStore
from features.log.rows import EVENT_TIME
from foretaste.kernel.running.erasing import LogErasure, user_digest
from foretaste.kernel.values import DAY_MS
from tests.log_factory import AT_MS, at, behaved, log_config, ranked

TOMORROW = at(3).date()


@pytest.fixture
def config(tmp_path: Path) -> RepoConfig:
    return log_config(tmp_path)


async def written(config: RepoConfig) -> FeastTrainingLog:
    """Two days of two users, who registered on the first one, and whose rankings show no behaviour."""
    log = FeastTrainingLog(config)
    shown: dict[str, Any] = dict.fromkeys(("behaviour_items", "behaviour_actions", "behaviour_times"), ())
    for day in range(2):
        for prefix, user_id in (("r", "anna"), ("s", "ben")):
            shown |= {"user_id": user_id, "registered_at": at(ms=1)}
            await log.write_rankings([ranked(f"{prefix}{day}", at(day), **shown)])
        await log.write_behaviours([behaved(f"i{day}", at(day), "anna"), behaved(f"j{day}", at(day), "ben")])
    return log


def table(folder: Path, kind: str) -> DayTable:
    return DayTable(str(folder / "log" / kind), EVENT_TIME)


def users_in_files(folder: Path) -> set[str]:
    """Of every file on the disk, in the table or not."""
    return {
        str(user)
        for kind in ("rankings", "behaviours")
        for path in (folder / "log" / kind).glob("day=*/*.parquet")
        for user in pq.read_table(path, partitioning=None)["user_id"].to_pylist()
    }


def sweep(folder: Path) -> None:
    """As the upkeep does a day later."""
    for kind in ("rankings", "behaviours"):
        table(folder, kind).vacuum(hours=0)


async def test_after_compaction_and_sweep_no_file_holds_the_user(config: RepoConfig, tmp_path: Path) -> None:
    log = await written(config)
    await log.erase([LogErasure("anna", AT_MS + DAY_MS, AT_MS + DAY_MS)])
    assert await log.rows_of("anna") == {"rankings": 0, "behaviours": 0}
    assert users_in_files(tmp_path) == {"anna", "ben"}
    await log.compact(TOMORROW)
    sweep(tmp_path)
    assert users_in_files(tmp_path) == {"ben"}
    assert not [path for path in (tmp_path / "log").rglob("*") if path.is_file() and b"anna" in path.read_bytes()]
    read = await log.read(0, 2 * AT_MS)
    assert read.rankings["ranking_id"].to_pylist() == ["s0", "s1"]


async def test_days_that_are_one_file_are_written_anew_once(config: RepoConfig, tmp_path: Path) -> None:
    log = await written(config)
    await log.compact(TOMORROW)
    before = table(tmp_path, "rankings").files()
    await log.erase([LogErasure("anna", AT_MS, AT_MS)])
    await log.compact(TOMORROW)
    after = table(tmp_path, "rankings").files()
    assert after[at(0).date()] != before[at(0).date()], "anna was there"
    assert after[at(1).date()] == before[at(1).date()], "anna came later"
    await log.compact(TOMORROW)
    assert table(tmp_path, "rankings").files() == after


async def test_compaction_takes_what_was_answered_from_before_the_erasure_out_of_later_days(
    config: RepoConfig, tmp_path: Path
) -> None:
    """The user registered anew before the erasure was handled; other columns than are asked for tell."""
    log = FeastTrainingLog(config)
    since = {"registered_at": at(0, ms=2), "behaviour_times": (AT_MS + 3,) * 3}
    await log.write_rankings([ranked("old", at(1), user_id="anna"), ranked("new", at(2), user_id="anna", **since)])
    await log.compact(TOMORROW)
    before = table(tmp_path, "rankings").files()
    await log.erase([LogErasure("anna", AT_MS, AT_MS + 1)])
    assert await log.rows_of("anna") == {"rankings": 1, "behaviours": 0}
    entities = pd.DataFrame({"user_id": ["anna"] * 2, EVENT_TIME: [at(day) + timedelta(hours=1) for day in (1, 2)]})
    found = FeatureStore(config=config).get_historical_features(entities, ["rankings:ranking_id"]).to_df()
    assert found["ranking_id"].dropna().tolist() == ["new"]
    await log.compact(TOMORROW)
    after = table(tmp_path, "rankings").files()
    assert at(1).date() not in after
    assert after[at(2).date()] == before[at(2).date()]
    sweep(tmp_path)
    assert users_in_files(tmp_path) == {"anna"}


def test_a_read_of_other_columns_of_rankings_leaves_the_same_out(config: RepoConfig) -> None:
    rows = [
        ranked("old", at(1), user_id="anna"),
        ranked("new", at(1), user_id="anna", registered_at=at(0, ms=2), behaviour_times=(AT_MS + 3,) * 3),
    ]
    asyncio.run(FeastTrainingLog(config).write_rankings(rows))
    asyncio.run(FeastTrainingLog(config).erase([LogErasure("anna", AT_MS, AT_MS + 1)]))
    view = FeatureStore(config=config).get_feature_view("rankings")
    job = DeltaOfflineStore.pull_all_from_table_or_query(
        config, view.batch_source, ["user_id"], ["ranking_id"], EVENT_TIME
    )
    assert job.to_arrow().to_pydict() == {"user_id": ["anna"], "ranking_id": ["new"], EVENT_TIME: [at(1)]}


async def test_a_day_of_erased_users_alone_is_gone(config: RepoConfig, tmp_path: Path) -> None:
    log = FeastTrainingLog(config)
    await log.write_rankings([ranked("r1", at(0), user_id="anna")])
    await log.compact(TOMORROW)
    await log.erase([LogErasure("anna", AT_MS + 1, AT_MS + 1)])
    await log.compact(TOMORROW)
    assert table(tmp_path, "rankings").files() == {}


async def test_rows_that_are_written_again_are_left_out_and_compacted_away(config: RepoConfig, tmp_path: Path) -> None:
    """A writer of the log reads again from Kafka."""
    log = await written(config)
    await log.erase([LogErasure("anna", AT_MS + DAY_MS, AT_MS + DAY_MS)])
    await log.compact(TOMORROW)
    await written(config)
    assert await log.rows_of("anna") == {"rankings": 0, "behaviours": 0}
    await log.compact(TOMORROW)
    sweep(tmp_path)
    assert users_in_files(tmp_path) == {"ben"}


async def test_an_erasure_that_is_known_changes_nothing_and_a_later_one_does(config: RepoConfig) -> None:
    log = await written(config)
    await log.erase([LogErasure("anna", AT_MS, AT_MS + 10)])
    await log.erase([LogErasure("anna", AT_MS, AT_MS + 10 * DAY_MS), LogErasure("anna", AT_MS - 5, AT_MS + DAY_MS)])
    assert await log.rows_of("anna") == {"rankings": 1, "behaviours": 1}
    await log.erase([LogErasure("anna", AT_MS + 2, AT_MS + DAY_MS)])
    assert await log.rows_of("anna") == {"rankings": 0, "behaviours": 0}
    assert await log.erased() == {user_digest("anna"): AT_MS + 2}


async def test_a_teams_own_reads_leave_the_user_out(config: RepoConfig) -> None:
    log = await written(config)
    await log.erase([LogErasure("anna", AT_MS + DAY_MS, AT_MS + DAY_MS)])
    entities = pd.DataFrame({"user_id": ["anna", "ben"], EVENT_TIME: [at(1) + timedelta(hours=1)] * 2})
    found = FeatureStore(config=config).get_historical_features(entities, ["rankings:ranking_id"]).to_df()
    assert dict(zip(found["user_id"], found["ranking_id"], strict=True)) == {"anna": None, "ben": "s1"}


async def test_erasures_as_old_as_the_days_that_go_are_forgotten(config: RepoConfig) -> None:
    log = await written(config)
    await log.erase([LogErasure("anna", AT_MS, AT_MS), LogErasure("ben", AT_MS + 2 * DAY_MS, AT_MS + 2 * DAY_MS)])
    await log.expire(at(1).date())
    assert await log.erased() == {user_digest("ben"): AT_MS + 2 * DAY_MS}


async def test_the_table_of_erasures_holds_no_id(config: RepoConfig, tmp_path: Path) -> None:
    log = await written(config)
    await log.erase([LogErasure("anna", AT_MS, AT_MS)])
    for path in (tmp_path / "log" / "erasures").rglob("*"):
        assert path.is_dir() or b"anna" not in path.read_bytes()
