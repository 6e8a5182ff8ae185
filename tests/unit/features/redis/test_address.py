"""One URL for our own client and for Feast."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis import exceptions

from features.feast_api import RepoConfig
from features.redis.address import RedisAddress, answered_within
from features.repo_config import repo_config
from foretaste.kernel.errors import InvalidInput, Unavailable
from foretaste.kernel.running.tls import TlsFiles


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://cache", "cache:6379,retry=null"),
        ("redis://cache:6380/2", "cache:6380,db=2,retry=null"),
        ("redis://:pw@cache:6380", 'cache:6380,password="pw",retry=null'),
        ("redis://me:pw@cache", 'cache:6379,password="pw",retry=null,username="me"'),
        ("rediss://cache", "cache:6379,retry=null,ssl=true"),
        ("rediss://cache?ssl_cert_reqs=none", 'cache:6379,retry=null,ssl=true,ssl_cert_reqs="none"'),
    ],
)
def test_a_url_in_feasts_notation(url: str, expected: str) -> None:
    assert RedisAddress.parse(url).feast_connection_string == expected


def test_a_cluster_keeps_its_retries_and_has_no_database() -> None:
    assert RedisAddress.parse("redis://cache/0", cluster=True).feast_connection_string == "cache:6379"
    with pytest.raises(InvalidInput, match="a Redis Cluster has database 0 alone"):
        RedisAddress.parse("redis://cache/1", cluster=True)


def test_files_of_tls_come_before_those_of_the_query_and_reach_feast_too(tmp_path: Path) -> None:
    files = TlsFiles("redis", Path("/ca.pem"), Path("/cert.pem"))
    other, key = tmp_path / "other.pem", tmp_path / "key.pem"
    other.touch(), key.touch()
    address = RedisAddress.parse(f"rediss://cache?ssl_ca_certs={other}&ssl_keyfile={key}", tls_files=files)
    assert address.options["ssl_ca_certs"] == "/ca.pem"
    assert address.options["ssl_certfile"] == "/cert.pem"
    assert address.options["ssl_keyfile"] == str(key)
    assert 'ssl_ca_certs="\\u002fca\\u002epem"' in address.feast_connection_string


@given(st.text(min_size=1))
def test_any_password_survives_feasts_notation_and_yaml(password: str) -> None:
    address = RedisAddress({"host": "h", "port": 1, "password": password})
    text = address.feast_connection_string
    assert text.isascii()
    assert not set(text) & set(" #{}$:'") - {":"}
    value = dict(part.split("=", 1) for part in text.split(",") if "=" in part)["password"]
    assert json.loads(value) == password


@pytest.mark.parametrize(
    "url",
    ["http://cache", "cache:6379", "redis://:se#cret@cache", "unix:///tmp/s", "redis://[::1]:6379", "redis://c:port"],
)
def test_what_is_no_address_is_refused_without_telling_the_password(url: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        RedisAddress.parse(url)
    assert caught.value.field == "redis"
    assert "cret" not in str(caught.value)


@pytest.mark.parametrize(
    "refusal",
    [
        exceptions.OutOfMemoryError("command not allowed when used memory > 'maxmemory'"),
        exceptions.ResponseError("MISCONF Valkey is configured to save RDB snapshots"),
        exceptions.NoPermissionError("this user has no permissions to run the 'hset' command"),
        exceptions.ReadOnlyError("You can't write against a read only replica"),
        exceptions.TryAgainError("Multiple keys request during rehashing of slot"),
        exceptions.ClusterDownError("The cluster is down"),
        exceptions.ClusterError("TTL exhausted"),
        exceptions.ConnectionError("connection refused"),
    ],
    ids=lambda refusal: type(refusal).__name__,
)
async def test_a_refusal_is_an_outage(refusal: Exception) -> None:
    with pytest.raises(Unavailable) as caught:
        async with answered_within(1):
            raise refusal
    assert caught.value.part == "redis"
    assert str(refusal) in caught.value.detail


async def test_a_command_that_redis_py_refuses_is_a_defect() -> None:
    with pytest.raises(exceptions.DataError):
        async with answered_within(1):
            raise exceptions.DataError("Invalid input of type: 'dict'")


def configured(registry: str, *, cluster: bool = False) -> RepoConfig:
    return repo_config(RedisAddress.parse("redis://cache", cluster=cluster), registry, "shop")


def test_the_placeholders_of_feature_store_yaml_are_filled() -> None:
    config = configured("/data/registry.db", cluster=True)
    assert config.project == "shop"
    assert config.registry.path == "/data/registry.db"
    assert config.registry.cache_ttl_seconds == 0
    assert config.online_store.redis_type.value == "redis_cluster"
    assert "$" not in config.model_dump_json()


@pytest.mark.parametrize(
    ("registry", "kind"),
    [("r.db", "file"), ("s3://bucket/r.db", "file"), ("postgresql+psycopg://u:p@host/db", "sql")],
)
def test_the_registrys_address_tells_its_kind(registry: str, kind: str) -> None:
    assert configured(registry).registry.registry_type == kind
