"""Feast's configuration, from the file that a team's own `feast apply` reads, and the apply itself."""

from pathlib import Path
from string import Template
from typing import Any

import yaml

from features.feast_api import FeatureStore, RepoConfig
from features.redis.address import RedisAddress
from foretaste.kernel.errors import Unavailable

REPO = Path(__file__).parent / "repo"


def repo_config(
    redis: RedisAddress, registry: str, project: str = "foretaste", log: str | Path | None = None
) -> RepoConfig:
    """`feature_store.yaml` with its placeholders filled in; nothing is connected to.

    `registry` is a path, an object store's address (`s3://…`) or a database's (`postgresql+psycopg://…`). `log` is the
    folder of the training log; None: `log` beside the registry's file, or here where the registry is elsewhere.
    """
    database = "://" in registry and not registry.startswith(("s3://", "gs://", "az://", "abfss://"))
    beside = Path() if "://" in registry else Path(registry).parent
    values = {
        "FEAST_PROJECT": project,
        "FEAST_REDIS": redis.feast_connection_string,
        "FEAST_REDIS_TYPE": redis.feast_type,
        "FEAST_REGISTRY": registry if "://" in registry else str(Path(registry).absolute()),
        "FEAST_REGISTRY_TYPE": "sql" if database else "file",
        "FEAST_LOG": str(Path(log or beside / "log").absolute()),
    }
    settings = yaml.safe_load((REPO / "feature_store.yaml").read_text())
    config = RepoConfig(**_filled(settings, values))
    config.repo_path = REPO
    return config


def local_registry(config: RepoConfig) -> Path | None:
    """The registry's file, None where it is elsewhere."""
    return None if "://" in config.registry.path else Path(config.registry.path)


def apply_features(config: RepoConfig) -> bool:
    """`feast apply` of `features/repo`: declares the views and the service in the registry, which it makes if needed.

    Nothing is written when the registry already holds them as they are: True if something changed.
    """
    from features.repo import definitions  # noqa: PLC0415  only who applies needs the declarations

    path = local_registry(config)
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
    store = FeatureStore(config=config)
    known: list[Any] = [*store.list_entities(), *store.list_feature_views(), *store.list_feature_services()]
    views = [
        definitions.user_attributes,
        definitions.user_behaviour,
        definitions.virtual_behaviour_even,
        definitions.virtual_behaviour_odd,
        definitions.rankings,
        definitions.behaviours,
    ]
    declared: list[Any] = [definitions.user, *views, definitions.ranking]
    if all(one in known for one in declared):
        return False
    store.apply(declared)
    return True


def check_applied(config: RepoConfig, *views: str) -> FeatureStore:
    """Feast's own store. Raises `Unavailable` unless the registry holds the project's service and `views`."""
    path = local_registry(config)
    if path is not None and not path.exists():  # Feast would make an empty one
        raise Unavailable("feast", f"no registry at {path}: the feature repository has not been applied")
    store = FeatureStore(config=config)
    services = {one.name for one in store.registry.list_feature_services(config.project, allow_cache=True)}
    if "ranking" not in services:
        raise Unavailable("feast", f"the registry has no service `ranking` of project {config.project}: apply it first")
    known = {one.name for one in store.registry.list_feature_views(config.project, allow_cache=True)}
    for view in sorted({*views} - known):
        raise Unavailable("feast", f"the registry has no view `{view}` of project {config.project}: apply it first")
    return store


def _filled(value: Any, values: dict[str, str]) -> Any:
    if isinstance(value, dict):
        return {name: _filled(inner, values) for name, inner in value.items()}
    return Template(value).substitute(values) if isinstance(value, str) else value
