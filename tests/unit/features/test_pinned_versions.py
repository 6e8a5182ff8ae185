"""Private names of Feast and redis-py are used: each minor version of theirs is tried before it is allowed here."""

from importlib.metadata import version

import pytest

TESTED = {"feast": "0.67", "redis": "7.4", "hiredis": "3.5"}
NAMES = (
    "feast.infra.online_stores.helpers:_mmh3",
    "feast.infra.online_stores.helpers:_redis_key",
    "feast.infra.online_stores.redis:RedisOnlineStore._get_client_async",
    "feast.infra.online_stores.redis:RedisOnlineStore._client_async",
    "feast.infra.online_stores.sqlite:SqliteOnlineStore._conn",
    "feast.infra.online_stores.postgres_online_store.postgres:PostgreSQLOnlineStore._conn",
    "feast.infra.online_stores.postgres_online_store.postgres:PostgreSQLOnlineStore._conn_pool",
    "redis._parsers.hiredis:NOT_ENOUGH_DATA",
)
"""What is private and used; and `connection._parser._reader` of redis-py, by which every test of the store reads."""


@pytest.mark.parametrize(("library", "minor"), TESTED.items())
def test_the_installed_minor_version_is_a_tested_one(library: str, minor: str) -> None:
    assert version(library).split(".")[:2] == minor.split("."), (
        f"{library} {version(library)}: run tests/contract and tests/integration with it, see that private names "
        "still mean the same, and name its minor version here and in pyproject.toml"
    )


@pytest.mark.parametrize("name", NAMES)
def test_a_private_name_is_there(name: str) -> None:
    from pkgutil import resolve_name  # noqa: PLC0415

    import features.feast_api  # noqa: F401, PLC0415  it imports Feast without what that does besides

    resolve_name(name)
