"""Feast's configuration from our file and from a team's own."""

from pathlib import Path

import pytest

from features.log.feast_log import FeastTrainingLog
from features.log.offline_store import DeltaOfflineStoreConfig
from features.redis.address import RedisAddress
from features.repo_config import LOG_STORE, apply_features, is_fast_redis, local_registry, repo_config
from foretaste.kernel.errors import InvalidInput
from tests.log_factory import AT_MS, behaved, ranked

REDIS = RedisAddress.parse("redis://:sesame@cache")


def team(folder: Path, *lines: str, online: str = "{type: sqlite, path: online.db}") -> Path:
    file = folder / "feature_store.yaml"
    text = ["project: shop", "provider: local", "registry: data/registry.db", f"online_store: {online}", *lines]
    file.write_text("\n".join(text))
    return file


def test_a_teams_file_is_taken_as_it_stands_with_paths_from_its_folder(tmp_path: Path) -> None:
    config = repo_config(REDIS, "elsewhere.db", "ours", file=team(tmp_path))
    assert (config.project, config.online_store.type) == ("shop", "sqlite")
    assert config.repo_path == tmp_path
    assert local_registry(config) == tmp_path / "data" / "registry.db"


def test_a_teams_file_may_use_our_placeholders_and_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHOPS_DATABASE", "/data/online.db")
    file = team(tmp_path, "offline_store: {type: dask}", online="{type: sqlite, path: '${SHOPS_DATABASE}'}")
    assert repo_config(REDIS, "r.db", file=file).online_store.path == "/data/online.db"
    file = team(tmp_path, online="{type: redis, connection_string: '${FEAST_REDIS}'}")
    assert repo_config(REDIS, "r.db", file=file).online_store.connection_string == REDIS.feast_connection_string


@pytest.mark.parametrize(
    ("online", "fast"),
    [
        ("{type: redis}", True),
        ("{type: redis, redis_type: redis_cluster}", True),
        ("{type: redis, key_ttl_seconds: 60}", False),
        ("{type: sqlite}", False),
    ],
)
def test_the_fast_form_is_for_redis_without_an_expiry_of_feasts(tmp_path: Path, online: str, fast: bool) -> None:
    assert is_fast_redis(repo_config(REDIS, "r.db", file=team(tmp_path, online=online))) is fast


@pytest.mark.parametrize(
    ("online", "problem"),
    [
        ("{type: sqlite, path: '${NOT_SET}'}", r"names \$\{NOT_SET\}, which is not set"),
        ("{type: redis, connection_string: {password: sesame}}", "is no configuration of Feast's"),
        ("{type: no_such_store}", "is no configuration of Feast's"),
        ("[", "is no configuration of Feast's"),
    ],
)
def test_a_file_that_feast_would_not_take_is_refused_by_name_and_tells_no_secret(
    tmp_path: Path, online: str, problem: str
) -> None:
    with pytest.raises(InvalidInput, match=problem) as caught:
        repo_config(REDIS, "r.db", file=team(tmp_path, online=online))
    assert caught.value.field == "feature_store"
    assert "sesame" not in str(caught.value)


def test_a_file_that_is_not_there_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"feature_store: is no configuration of Feast's: .*No such file"):
        repo_config(REDIS, "r.db", file=tmp_path / "none.yaml")


@pytest.mark.parametrize("lines", [(), ("offline_store:",), ("offline_store: {}",)])
def test_the_training_log_is_kept_as_in_ours_where_a_teams_file_names_no_offline_store(
    tmp_path: Path, lines: tuple[str, ...]
) -> None:
    offline = repo_config(REDIS, "r.db", log=tmp_path / "log", file=team(tmp_path, *lines)).offline_store
    assert isinstance(offline, DeltaOfflineStoreConfig)
    assert offline.address == str(tmp_path / "log")


@pytest.mark.parametrize("name", ["address", "folder"])
@pytest.mark.parametrize(
    ("written", "address"), [("log", "{here}/log"), ("/data/log", "/data/log"), ("s3://b/l", "s3://b/l")]
)
def test_a_log_that_a_teams_file_names_lies_in_the_files_folder(
    tmp_path: Path, name: str, written: str, address: str
) -> None:
    offline = repo_config(
        REDIS, "r.db", file=team(tmp_path, f"offline_store: {{type: {LOG_STORE}, {name}: {written}}}")
    )
    assert offline.offline_store.address == address.format(here=tmp_path)


async def test_what_is_served_and_done_is_logged_under_a_minimal_file_of_a_team(tmp_path: Path) -> None:
    config = repo_config(REDIS, "r.db", log=tmp_path / "log", file=team(tmp_path))
    apply_features(config)
    log = FeastTrainingLog(config)
    await log.write_rankings([ranked("r1")])
    await log.write_behaviours([behaved("i1")])
    logged = await log.read(0, 2 * AT_MS)
    assert logged.rankings["ranking_id"].to_pylist() == ["r1"]
    assert logged.behaviours["item_id"].to_pylist() == ["i1"]


def test_an_offline_store_that_a_teams_file_names_is_taken_as_it_stands(tmp_path: Path) -> None:
    assert repo_config(REDIS, "r.db", file=team(tmp_path, "offline_store: {type: dask}")).offline_store.type == "dask"
