"""The training log in Feast's offline store, beyond the conformance suite: corrupt files, upkeep, Feast's own reads."""

import os
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest

from features.feast_api import FeatureStore, FileSource, RepoConfig, get_provider
from features.log.delta import DayTable
from features.log.feast_log import FeastTrainingLog
from features.log.offline_store import DeltaOfflineStore
from features.log.rows import BEHAVIOUR_ROWS, EVENT_TIME, RANKING_ROWS, RowKind, behaviours_table
from features.redis.address import RedisAddress
from features.repo_config import apply_features, repo_config
from foretaste.kernel.errors import InvalidInput, Unavailable
from foretaste.kernel.events import UserBehaved, UserRanked
from foretaste.kernel.ports import Logged
from tests.log_factory import AT_MS, at, behaved, log_config, ranked


@pytest.fixture
def config(tmp_path: Path) -> RepoConfig:
    return log_config(tmp_path)


def parquet(tmp_path: Path, name: str) -> list[Path]:
    return sorted((tmp_path / "log" / name).glob("day=*/*.parquet"))


async def everything(log: FeastTrainingLog) -> Logged:
    return await log.read(0, 2 * AT_MS)


async def test_corrupt_files_are_named_and_the_others_read(config: RepoConfig, tmp_path: Path) -> None:
    log = FeastTrainingLog(config)
    for day in range(3):
        await log.write_rankings([ranked(f"r{day}", at(day))])
        await log.write_behaviours([behaved(f"i{day}", at(day))])
    bad = [parquet(tmp_path, "rankings")[0], parquet(tmp_path, "behaviours")[2]]
    for path in bad:
        path.write_bytes(b"PAR1 no more PAR1")
    logged = await everything(log)
    assert logged.rankings["ranking_id"].to_pylist() == ["r1", "r2"]
    assert logged.behaviours["item_id"].to_pylist() == ["i0", "i1"]
    assert list(logged.skipped) == [str(path) for path in bad]


async def test_times_in_another_zone_are_looked_for_on_their_day_in_utc(tmp_path: Path) -> None:
    time = datetime(2026, 1, 31, 23, 30, tzinfo=UTC)
    days = DayTable(str(tmp_path / "rows"), "at")
    days.append(pa.table({"n": [1], "at": pa.array([time], pa.timestamp("us", "UTC"))}))
    for hours in (-10, 10):
        there = time.astimezone(timezone(timedelta(hours=hours)))
        assert days.read(["n", "at"], there, there).table["n"].to_pylist() == [1]


async def test_compaction_and_expiry_of_both_kinds(config: RepoConfig, tmp_path: Path) -> None:
    log = FeastTrainingLog(config)
    for each in range(4):
        await log.write_rankings([ranked("same", at(1)), ranked(f"r{each}", at(each % 2))])
        await log.write_behaviours([behaved("same", at(1)), behaved(f"i{each}", at(each % 2))])
    before = await everything(log)
    assert (await log.compact(at(2).date())).days == [at(0).date(), at(1).date()]
    for name in ("rankings", "behaviours"):
        files = DayTable(str(tmp_path / "log" / name), EVENT_TIME).files()
        assert {day: len(paths) for day, paths in files.items()} == {at(0).date(): 1, at(1).date(): 1}
    after = await everything(log)
    assert after.rankings.equals(before.rankings)
    assert after.behaviours.equals(before.behaviours)
    assert await log.expire(at(1).date()) == [at(0).date()]
    assert (await everything(log)).rankings["ranking_id"].to_pylist() == ["r1", "r3", "same"]


async def test_rows_of_a_table_that_has_no_identities_yet_are_read_and_compacted(
    config: RepoConfig, tmp_path: Path
) -> None:
    older = behaviours_table([behaved("i1"), behaved("i1"), behaved("i2")]).drop_columns(["event_id"])
    names = [EVENT_TIME if name == "at" else name for name in older.column_names]
    table = DayTable(str(tmp_path / "log" / "behaviours"), EVENT_TIME)
    table.append(older.rename_columns(names))
    log = FeastTrainingLog(config)
    assert (await everything(log)).behaviours["item_id"].to_pylist() == ["i1", "i2"]
    await log.write_behaviours([behaved("i1", event_id="e1"), behaved("i1", event_id="e2"), behaved("i3")])
    rows = [("i1", "e1"), ("i1", "e2"), ("i2", None), ("i3", None)]
    for _ in range(2):
        found = (await everything(log)).behaviours
        assert list(zip(found["item_id"].to_pylist(), found["event_id"].to_pylist(), strict=True)) == rows
        await log.compact(at(1).date())
    assert len(table.files()[at(0).date()]) == 1


async def test_a_full_disk_is_unavailable(config: RepoConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    log = FeastTrainingLog(config)
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(Unavailable, match=r"log is not available: .*No space left on device"):
        await log.write_rankings([ranked("r1")])


async def test_before_the_apply_it_is_unavailable_and_makes_no_registry(tmp_path: Path) -> None:
    registry = tmp_path / "registry.db"
    log = FeastTrainingLog(repo_config(RedisAddress.parse("redis://127.0.0.1:1"), str(registry)))
    with pytest.raises(Unavailable, match="has not been applied"):
        await log.read(0, 1)
    assert not registry.exists()
    log_config(tmp_path)
    with pytest.raises(Unavailable, match="no service `ranking` of project foretaste"):
        await log.write_rankings([ranked("r1")])


@pytest.mark.filterwarnings("ignore:Downcasting object dtype arrays:FutureWarning")  # dask's sort, in pandas
async def test_feasts_own_historical_read_joins_what_was_known_at_a_time(config: RepoConfig) -> None:
    """`get_historical_features` is Feast's stock code, on files as they were written and as they were compacted."""
    log = FeastTrainingLog(config)
    await log.write_rankings([ranked("r0", at(0)), ranked("r1", at(1), items=("i9",), scores=(0.1,))])
    await log.write_rankings([ranked("r2", at(2)), ranked("x", at(0), user_id="u2")])
    await log.compact(at(1).date())
    asked = pd.DataFrame({"user_id": ["u1", "u1", "u2"], "event_timestamp": [at(0.5), at(1.5), at(1.5)]})
    job = FeatureStore(config=config).get_historical_features(asked, ["rankings:ranking_id", "rankings:items"])
    found = job.to_df().sort_values(["user_id", "event_timestamp"])
    assert found["ranking_id"].tolist() == ["r0", "r1", "x"]
    assert [list(items) for items in found["items"]] == [["i1", "i2"], ["i9"], ["i1", "i2"]]


def test_feasts_pull_gives_the_window_asked_for(config: RepoConfig) -> None:
    view = FeatureStore(config=config).get_feature_view("behaviours")
    rows = pa.table(
        {
            "user_id": ["u1", "u2"],
            "item_id": ["i1", "i2"],
            "event_timestamp": pa.array([at(0), at(1)], pa.timestamp("us", "UTC")),
            "action": ["liked", "liked"],
            "ranking_id": pa.nulls(2, pa.string()),
            "event_id": ["e1", "e2"],
            "passed_over": pa.array([["i3"], []], pa.list_(pa.string())),
        }
    )
    get_provider(config).ingest_df_to_offline_store(view, rows)
    job = DeltaOfflineStore.pull_all_from_table_or_query(
        config,
        view.batch_source,
        ["user_id"],
        ["item_id"],
        "event_timestamp",
        start_date=at(1).replace(tzinfo=None),
        end_date=at(1).replace(tzinfo=None),
    )
    assert job.to_df()[["user_id", "item_id"]].to_numpy().tolist() == [["u2", "i2"]]
    with pytest.raises(InvalidInput, match=r"rows of behaviours: lack columns of the view \(got \['ranking_id'\]\)"):
        get_provider(config).ingest_df_to_offline_store(view, rows.drop_columns(["ranking_id"]))


def test_a_source_of_a_single_file_is_feasts_own(config: RepoConfig, tmp_path: Path) -> None:
    """The history of the online views, for a team that keeps one."""
    history = tmp_path / "log" / "data" / "user_attributes.parquet"
    history.parent.mkdir(parents=True)
    rows = pd.DataFrame({"user_id": ["u1"], "attributes": ['{"age": 25}'], "event_timestamp": [at(0)]})
    rows.to_parquet(history)
    store = FeatureStore(config=config)
    view = store.get_feature_view("user_attributes")
    get_provider(config).ingest_df_to_offline_store(view, pa.Table.from_pandas(rows.assign(user_id="u2")))
    assert sorted(pd.read_parquet(history)["user_id"]) == ["u1", "u2"]
    for pull in ("pull_all_from_table_or_query", "pull_latest_from_table_or_query"):
        job = getattr(DeltaOfflineStore, pull)(
            config,
            view.batch_source,
            ["user_id"],
            ["attributes"],
            "event_timestamp",
            None,
            start_date=at(0),
            end_date=at(1),
        )
        assert sorted(job.to_df()["user_id"]) == ["u1", "u2"]


async def test_another_offline_store_keeps_itself_which_is_said(
    config: RepoConfig, caplog: pytest.LogCaptureFixture
) -> None:
    config._offline_store, config.offline_config = None, {"type": "dask"}
    log = FeastTrainingLog(config)
    assert not (await log.compact(at(2).date())).days
    assert await log.expire(at(2).date()) == []
    assert [record.getMessage() for record in caplog.records] == [
        f"{name} lie in the offline store dask, which must remove what is old itself"
        for name in ("rankings", "behaviours")
    ]


async def test_feature_store_yaml_of_earlier_versions_names_the_same_store(config: RepoConfig, tmp_path: Path) -> None:
    older = {"type": "features.partitioned.PartitionedOfflineStore", "folder": str(tmp_path / "log")}
    await FeastTrainingLog(config).write_rankings([ranked("r1")])
    config._offline_store, config.offline_config = None, older
    log = FeastTrainingLog(config)
    await log.write_rankings([ranked("r2", at(1))])
    assert (await everything(log)).rankings["ranking_id"].to_pylist() == ["r1", "r2"]
    assert (await log.compact(at(2).date())).days == [at(0).date(), at(1).date()]


async def test_a_registry_of_an_earlier_version_is_refused(config: RepoConfig, tmp_path: Path) -> None:
    """It names other places: what was written there would be lost from sight at the next `foretaste setup`."""
    store = FeatureStore(config=config)
    view = store.get_feature_view("rankings")
    view.batch_source = FileSource(name="rankings_log", path="data/rankings", timestamp_field="event_timestamp")
    store.apply([view])
    with pytest.raises(Unavailable, match="registry is that of an earlier version: run `foretaste setup`"):
        await FeastTrainingLog(config).write_rankings([ranked("r1")])
    assert not (tmp_path / "log").exists()
    apply_features(config)
    await FeastTrainingLog(config).write_rankings([ranked("r1")])


async def test_a_log_of_an_earlier_version_beside_it_is_said(
    config: RepoConfig, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "log" / "data" / "rankings" / "day=2026-01-01").mkdir(parents=True)
    await everything(FeastTrainingLog(config))
    (message,) = [record.getMessage() for record in caplog.records]
    assert message.startswith(f"the rankings of an earlier version in {tmp_path / 'log'} are not read")


@pytest.mark.parametrize(("kind", "event"), [(RANKING_ROWS, UserRanked), (BEHAVIOUR_ROWS, UserBehaved)])
def test_the_view_the_rows_and_the_event_have_the_same_fields(
    config: RepoConfig, kind: RowKind, event: type[UserRanked] | type[UserBehaved]
) -> None:
    view = FeatureStore(config=config).get_feature_view(kind.name)
    assert set(kind.schema.names) == set(event.model_fields)
    assert {field.name for field in view.schema} == set(kind.schema.names) - {"at"}
    assert not view.online
