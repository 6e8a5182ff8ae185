"""Which form of the online store the settings choose, and which files of TLS they take."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from features.online.feast_store import FeastStore
from features.online.redis_store import RedisStore
from foretaste import compose
from foretaste.kernel.errors import InvalidInput
from foretaste.settings import Settings

TEAM = "project: shop\nprovider: local\nregistry: r.db\nonline_store: {type: %s}\n"


@pytest.mark.parametrize(
    ("online_store", "teams", "form"),
    [
        ("auto", None, RedisStore),
        ("feast", None, FeastStore),
        ("auto", "redis", RedisStore),
        ("auto", "sqlite", FeastStore),
        ("feast", "redis", FeastStore),
    ],
)
def test_the_fast_form_is_taken_where_the_store_is_redis_and_nothing_turns_it_off(
    tmp_path: Path, online_store: str, teams: str | None, form: type
) -> None:
    settings = {"home": tmp_path, "redis": "redis://cache", "online_store": online_store}
    if teams is not None:
        file = tmp_path / "feature_store.yaml"
        file.write_text(TEAM % teams)
        settings["feature_store"] = file
    assert type(compose.store(Settings.model_validate(settings))) is form


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"redis": "redis://cache", "redis_ca_file": "/ca.pem"}, "FORETASTE_REDIS_CA_FILE is for TLS"),
        ({"redis_cert_file": "/cert.pem"}, "FORETASTE_REDIS_CERT_FILE is for TLS"),
        ({"triton_key_file": "/key.pem"}, "FORETASTE_TRITON_KEY_FILE is for TLS"),
    ],
)
def test_files_of_tls_that_is_not_spoken_are_refused(options: dict[str, Any], expected: str) -> None:
    with pytest.raises(ValidationError, match=expected):
        Settings(**options)


@pytest.mark.parametrize(
    ("options", "opened"),
    [
        ({"redis": "rediss://cache", "redis_ca_file": "/gone.pem"}, compose.redis_address),
        ({"triton": "towers:8001", "triton_ssl": True, "triton_ca_file": "/gone.pem"}, compose.towers),
        ({"kafka": "k:1", "kafka_security_protocol": "SSL", "kafka_ca_file": "/gone.pem"}, compose.kafka_connection),
    ],
)
def test_a_ca_file_that_is_not_there_is_named_by_its_setting(
    options: dict[str, Any], opened: Callable[[Settings], object]
) -> None:
    with pytest.raises(InvalidInput, match=r"FORETASTE_\w+_CA_FILE: holds no certificates .*gone\.pem"):
        opened(Settings(**options))
