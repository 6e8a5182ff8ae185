"""The online stores that the contract suite runs on, each opened in a project of its own."""

from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import pytest
import yaml

from features.feast_api import RepoConfig
from features.online.feast_store import FeastStore
from features.online.redis_store import RedisStore
from features.redis.address import RedisAddress
from features.repo_config import REPO, apply_features, repo_config
from foretaste.kernel.running.erasing import ErasingStore
from foretaste.testing import InMemoryOnlineStore
from tests.integration.postgres_server import Postgres


@dataclass(frozen=True)
class Promises:
    """Where a form keeps less than the port's whole promise, by how much."""

    step_ms: int = 1
    """Milliseconds by which one row must be newer than another to be told newer."""
    compares_in_one_step: bool = True
    """Whether what is written is compared in the same step of the store."""
    keeps_places: bool = True
    """Whether the place of a registration in Kafka is kept: of two of one time the later in the topic stays."""


PROMISES = {
    "memory": Promises(),
    "redis": Promises(),
    "feast-redis": Promises(compares_in_one_step=False, keeps_places=False),
    "feast-sqlite": Promises(step_ms=1000, compares_in_one_step=False, keeps_places=False),
    "feast-postgres": Promises(compares_in_one_step=False, keeps_places=False),
}


def feast_config(online_store: dict[str, object] | None, redis_url: str, folder: Path) -> RepoConfig:
    """A configuration as a team writes it: ours with another online store, None for Redis; applied."""
    project = f"test_{uuid4().hex}"
    written = yaml.safe_load((REPO / "feature_store.yaml").read_text())
    if online_store is not None:
        written["online_store"] = online_store
    file = folder / "feature_store.yaml"
    file.write_text(yaml.safe_dump(written))
    config = repo_config(RedisAddress.parse(redis_url), str(folder / "registry.db"), project, file=file)
    apply_features(config)
    return config


def open_form(form: str, request: pytest.FixtureRequest, folder: Path) -> ErasingStore:
    """The store; who opens it closes it."""
    if form == "memory":
        return InMemoryOnlineStore()
    return open_configured(form, form_config(form, request, folder))


def form_config(form: str, request: pytest.FixtureRequest, folder: Path) -> RepoConfig:
    """The configuration of a form whose rows others can write too, applied."""
    redis_url = request.getfixturevalue("redis_url")
    if form in ("redis", "feast-redis"):
        return feast_config(None, redis_url, folder)
    if form == "feast-sqlite":
        return feast_config({"type": "sqlite", "path": "online.db"}, redis_url, folder)
    return feast_config(postgres_store(request.getfixturevalue("postgres")), redis_url, folder)


def open_configured(form: str, config: RepoConfig) -> RedisStore | FeastStore:
    """The store of a form but the one in memory; who opens it closes it."""
    return RedisStore(config, timeout=10) if form == "redis" else FeastStore(config, timeout=20)


def postgres_store(server: Postgres) -> dict[str, object]:
    """`online_store` of a configuration."""
    return {
        "type": "postgres",
        "host": "127.0.0.1",
        "port": server.port,
        "database": "postgres",
        "db_schema": "public",
        "user": server.user,
        "password": "",
        "sslmode": "disable",
    }
