"""Feast's configuration, from the file that a team's own `feast apply` reads, and the apply itself."""

import os
from pathlib import Path
from string import Template
from typing import Any, Final

import yaml
from pydantic import ValidationError

from features.feast_api import FeatureStore, RepoConfig
from features.redis.address import RedisAddress
from features.registry_errors import naming_the_registry
from foretaste.kernel.errors import InvalidInput, Unavailable

# `feast_api` goes first: it imports Feast without what that does besides
# isort: split
from feast.errors import FeastError

REPO = Path(__file__).parent / "repo"
LOG_STORE: Final = "features.log.offline_store.DeltaOfflineStore"
"""The offline store of the training log, as `feature_store.yaml` names it."""


def repo_config(
    redis: RedisAddress,
    registry: str,
    project: str = "foretaste",
    log: str | Path | None = None,
    file: Path | None = None,
) -> RepoConfig:
    """A `feature_store.yaml` with its placeholders filled in; nothing is connected to.

    `registry` is a path, an object store's address (`s3://…`) or a database's (`postgresql+psycopg://…`). `log` is
    where the training log lies, a folder or an object store's address (`s3://…`, `gs://…`, `abfss://…`); None: `log`
    beside the registry's file, or here where the registry is elsewhere.

    `file` is a team's own `feature_store.yaml`: its project, registry and stores of any type are taken as they stand
    there, with relative paths from its folder. It may use the placeholders of ours and, as Feast has it, variables of
    the environment. Where it names no offline store, the training log is kept as in ours: Feast's own default takes
    no rows for a source that has no file yet. Raises `InvalidInput` where it cannot be read or is none.
    """
    database = "://" in registry and not registry.startswith(("s3://", "gs://", "az://", "abfss://"))
    beside = Path() if "://" in registry else Path(registry).parent
    values = {
        "FEAST_PROJECT": project,
        "FEAST_REDIS": redis.feast_connection_string,
        "FEAST_REDIS_TYPE": redis.feast_type,
        "FEAST_REGISTRY": registry if "://" in registry else str(Path(registry).absolute()),
        "FEAST_REGISTRY_TYPE": "sql" if database else "file",
        "FEAST_LOG": _log_address(str(log or beside / "log"), Path()),
    }
    path = REPO / "feature_store.yaml" if file is None else file.absolute()
    try:
        written = _filled(yaml.safe_load(path.read_text(encoding="utf-8")), {**os.environ, **values})
        if isinstance(written, dict) and not written.get("offline_store"):
            written["offline_store"] = {"type": LOG_STORE, "address": values["FEAST_LOG"]}
        config = RepoConfig(**written)
    except ValidationError as error:  # its text repeats what it refuses, passwords among it
        fields = [".".join(map(str, each["loc"])) for each in error.errors(include_input=False)]
        raise InvalidInput("feature_store", str(path), f"is no configuration of Feast's: {', '.join(fields)}") from None
    except KeyError as error:
        raise InvalidInput("feature_store", str(path), f"names ${{{error.args[0]}}}, which is not set") from error
    except (OSError, TypeError, ValueError, yaml.YAMLError, FeastError) as error:
        raise InvalidInput("feature_store", str(path), f"is no configuration of Feast's: {error}") from error
    config.repo_path = path.parent
    local = local_registry(config)
    # a relative path would start from the folder that the process was started in
    if local is not None:
        config.registry.path = str(local)
    if config.offline_store.type == LOG_STORE:
        config.offline_store.address = _log_address(config.offline_store.address, path.parent)
    return config


def is_fast_redis(config: RepoConfig) -> bool:
    """Whether the online store is Redis as `RedisStore` writes it: without Feast's own expiry of keys."""
    return config.online_store.type == "redis" and not config.online_store.key_ttl_seconds


def local_registry(config: RepoConfig) -> Path | None:
    """The registry's file, None where it is elsewhere."""
    return None if "://" in config.registry.path else Path(config.repo_path or "", config.registry.path)


def apply_features(config: RepoConfig) -> bool:
    """`feast apply` of `features/repo`: declares the views and the service in the registry, which it makes if needed.

    True if something changed. Nothing is written to the registry when it holds them as they are; an online store that
    has tables gets those that it lacks all the same, since the registry may be older than the store.
    """
    from features.repo import definitions  # noqa: PLC0415  only who applies needs the declarations

    path = local_registry(config)
    online: list[Any] = [
        definitions.user_attributes,
        definitions.user_behaviour,
        definitions.virtual_behaviour_even,
        definitions.virtual_behaviour_odd,
        definitions.user_directory,
        definitions.user_applied_behaviours,
        definitions.user_first_registration,
    ]
    entities = [definitions.user, definitions.page]
    declared = [*entities, *online, definitions.rankings, definitions.behaviours, definitions.ranking]
    with naming_the_registry(config):
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
        store = FeatureStore(config=config)
        known: list[Any] = [*store.list_entities(), *store.list_feature_views(), *store.list_feature_services()]
    try:
        if all(one in known for one in declared):
            store.provider.update_infra(config.project, [], online, [], entities, partial=True)
            return False
        with naming_the_registry(config):
            store.apply(declared)
        return True
    finally:
        close_connections(store)


def close_connections(store: FeatureStore) -> None:
    """Feast itself leaves the connections of synchronous online stores open; they stand in one of two attributes."""
    for name in ("_conn", "_conn_pool"):
        connection: Any = getattr(store.provider.online_store, name, None)
        if connection is not None:
            connection.close()


def check_applied(config: RepoConfig, *views: str) -> FeatureStore:
    """Feast's own store. Raises `Unavailable` unless the registry holds the project's service and `views`."""
    path = local_registry(config)
    if path is not None and not path.exists():  # Feast would make an empty one
        raise Unavailable("feast", f"no registry at {path}: the feature repository has not been applied")
    with naming_the_registry(config):
        store = FeatureStore(config=config)
        services = {one.name for one in store.registry.list_feature_services(config.project, allow_cache=True)}
    if "ranking" not in services:
        raise Unavailable("feast", f"the registry has no service `ranking` of project {config.project}: apply it first")
    known = {one.name for one in store.registry.list_feature_views(config.project, allow_cache=True)}
    for view in sorted({*views} - known):
        raise Unavailable("feast", f"the registry has no view `{view}` of project {config.project}: apply it first")
    return store


def _log_address(log: str, folder: Path) -> str:
    return log if "://" in log else str((folder / log).absolute())


def _filled(value: Any, values: dict[str, str]) -> Any:
    if isinstance(value, dict):
        return {name: _filled(inner, values) for name, inner in value.items()}
    if isinstance(value, list):
        return [_filled(inner, values) for inner in value]
    return Template(value).substitute(values) if isinstance(value, str) else value
