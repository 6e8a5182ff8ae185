"""Which form of the online store the settings choose, and which files of TLS they take."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from features.online.feast_store import FeastStore
from features.online.redis_store import RedisStore
from foretaste import compose
from foretaste.kernel.errors import InvalidInput
from foretaste.settings import Settings

CERTIFICATE = """\
-----BEGIN CERTIFICATE-----
MIIBdDCCARugAwIBAgIUcuEqXZkyTd/2R3Al4OwLNLAJ94swCgYIKoZIzj0EAwIw
DzENMAsGA1UEAwwEdGVzdDAgFw0yNjExMjcxMjE5MjhaGA8yMTI2MTEwMzEyMTky
OFowDzENMAsGA1UEAwwEdGVzdDBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABOWj
0hrKgEMQXUZZXcFXLFjtLY6dhvtxjqFxa4MxhuT+xZHkh9iA5jbQUGWMjM+6ZEVn
awal1DEcJzdpdS7zpBOjUzBRMB0GA1UdDgQWBBTlk6WTYJj1s/p/2RsuhrN6NauU
CjAfBgNVHSMEGDAWgBTlk6WTYJj1s/p/2RsuhrN6NauUCjAPBgNVHRMBAf8EBTAD
AQH/MAoGCCqGSM49BAMCA0cAMEQCICe8fO6HvfD7LmMvpGgWNfvjAO4hIjpMy5C4
qXqsZy5bAiB4UrYNVGcMji/jPffVecZB1OgIYTwUmfMxFGm4/JxgrQ==
-----END CERTIFICATE-----
"""
"""A self-signed one, without its key."""
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


def tls(tmp_path: Path, **files: str) -> Settings:
    """Settings for TLS to Kafka, with files of this content."""
    given = {"kafka": "broker:9093", "kafka_security_protocol": "SSL"}
    for name, content in files.items():
        path = tmp_path / f"{name}.pem"
        path.write_text(content, encoding="ascii")
        given[name] = str(path)
    return Settings.model_validate(given)


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({"kafka_ca_file": "no certificate"}, "FORETASTE_KAFKA_CA_FILE: holds no certificates in PEM"),
        ({"kafka_ca_file": ""}, "FORETASTE_KAFKA_CA_FILE: holds no certificates in PEM"),
        ({"kafka_cert_file": "none"}, "FORETASTE_KAFKA_CERT_FILE: holds no certificate in PEM"),
        ({"kafka_cert_file": CERTIFICATE}, "FORETASTE_KAFKA_CERT_FILE: .*the private key in it"),
        ({"kafka_cert_file": CERTIFICATE, "kafka_key_file": "none"}, "FORETASTE_KAFKA_CERT_FILE: .*kafka_key_file.pem"),
    ],
)
def test_files_for_tls_that_are_none_are_named_by_their_setting(
    tmp_path: Path, files: dict[str, str], says: str
) -> None:
    with pytest.raises(InvalidInput, match=says) as raised:
        compose.kafka_connection(tls(tmp_path, **files))
    assert "\n" not in str(raised.value)


def test_a_certificate_of_redis_that_is_not_there_is_named() -> None:
    settings = Settings.model_validate({"redis": "rediss://:secret@cache:6379/0?ssl_ca_certs=/nowhere/ca.pem"})
    with pytest.raises(InvalidInput, match=r"redis: ssl_ca_certs names no file: '/nowhere/ca.pem'") as raised:
        compose.redis_address(settings)
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize(
    ("options", "opened"),
    [
        ({"redis": "rediss://cache", "redis_ca_file": "made"}, compose.redis_address),
        ({"triton": "towers:8000", "triton_ssl": True, "triton_ca_file": "made"}, compose.towers),
    ],
)
def test_a_ca_file_that_holds_none_is_named_by_its_setting(
    tmp_path: Path, options: dict[str, Any], opened: Callable[[Settings], object]
) -> None:
    path = tmp_path / "none.pem"
    path.write_text("no certificate", encoding="ascii")
    given = {name: str(path) if value == "made" else value for name, value in options.items()}
    with pytest.raises(InvalidInput, match=r"FORETASTE_\w+_CA_FILE: holds no certificates .*none\.pem"):
        opened(Settings.model_validate(given))
