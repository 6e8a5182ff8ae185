"""Settings from the environment: what is wrong is one line that names the variable and shows no secret."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from foretaste.settings import Settings, shown, unknown_variables


def refused(monkeypatch: pytest.MonkeyPatch, **variables: str) -> str:
    for name, value in variables.items():
        monkeypatch.setenv(f"FORETASTE_{name}", value)
    with pytest.raises(ValidationError) as raised:
        Settings()
    (error,) = raised.value.errors(include_input=False)
    text = error["msg"].removeprefix("Value error, ")
    assert "\n" not in text
    assert "secret" not in str(raised.value)
    return text


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("REDIS", "redis://:secret@host:port"),
        ("REDIS", "redis://:secret@host:99999"),
        ("REDIS", "redis://:sec/secret@host:1"),
        ("REDIS", "redis://[::1"),
        ("REDIS", "http://:secret@host"),
        ("REDIS", "host:6379"),
        ("KAFKA", "broker"),
        ("KAFKA", "a:9092,b:port"),
        ("KAFKA", "user:secret@a:9092"),
        ("TRITON", "tower.internal"),
        ("TRITON", "host:99999"),
        ("URL", "shop.example"),
        ("URL", "https://u:secret@host:port"),
    ],
)
def test_an_address_of_another_form_is_named_and_not_repeated(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    text = refused(monkeypatch, **{name: value})
    assert text.startswith(f"FORETASTE_{name}: expected ")
    assert value not in text


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("REDIS", "redis://host"),
        ("REDIS", "rediss://user:p%40ss@host:6380/2?ssl_ca_certs=ca.pem"),
        ("KAFKA", "a:9092, b:9092"),
        ("KAFKA", "[::1]:9092"),
        ("TRITON", "in-process"),
        ("TRITON", "127.0.0.1:8001"),
        ("URL", "https://shop.example/foretaste"),
    ],
)
def test_addresses_that_are_such_are_taken(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(f"FORETASTE_{name}", value)
    assert getattr(Settings(), name.lower()) == value


SPOKEN = {"KAFKA_SECURITY_PROTOCOL": "SSL", "REDIS": "rediss://cache", "TRITON_SSL": "true"}
"""What makes each part's connection one over TLS."""


@pytest.mark.parametrize("part", ["KAFKA", "REDIS", "TRITON"])
@pytest.mark.parametrize("file", ["CA", "CERT", "KEY"])
def test_a_certificate_that_is_not_there_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, part: str, file: str
) -> None:
    path, name = str(tmp_path / "missing.pem"), f"{part}_{file}_FILE"
    assert refused(monkeypatch, **SPOKEN, **{name: path}) == (f"FORETASTE_{name}: there is no file {path!r}")


def test_a_key_needs_its_certificate_and_both_need_tls(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "some.pem"
    path.touch()
    needs = "FORETASTE_KAFKA_KEY_FILE: needs FORETASTE_KAFKA_CERT_FILE, its certificate"
    assert refused(monkeypatch, KAFKA_SECURITY_PROTOCOL="SSL", KAFKA_KEY_FILE=str(path)) == needs
    monkeypatch.delenv("FORETASTE_KAFKA_SECURITY_PROTOCOL")
    assert "is for TLS, and FORETASTE_KAFKA_SECURITY_PROTOCOL is PLAINTEXT" in refused(
        monkeypatch, KAFKA_CERT_FILE=str(path)
    )
    monkeypatch.delenv("FORETASTE_KAFKA_CERT_FILE")
    monkeypatch.delenv("FORETASTE_KAFKA_KEY_FILE")
    assert "is for TLS, and FORETASTE_REDIS is no rediss:// address" in refused(monkeypatch, REDIS_CA_FILE=str(path))
    monkeypatch.delenv("FORETASTE_REDIS_CA_FILE")
    assert "is for TLS, and FORETASTE_TRITON_SSL is false" in refused(monkeypatch, TRITON_KEY_FILE=str(path))


def test_an_empty_variable_is_none_where_that_means_something_else_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("REENRICH_RATE", "API_RATE", "KAFKA", "REDIS", "PARTITIONS", "KAFKA_PASSWORD", "HOME", "TOPIC_PREFIX"):
        monkeypatch.setenv(f"FORETASTE_{name}", "")
    found = Settings()
    assert (found.reenrich_rate, found.api_rate) == (None, None), "no limit"
    assert (found.kafka, found.redis, found.kafka_password) == (None, None, None)
    assert (found.partitions, found.home, found.topic_prefix) == (8, Path(".foretaste"), "")


def test_a_variable_that_is_no_setting_is_told_with_the_one_that_it_may_mean() -> None:
    environment = {"FORETASTE_KAFKKA": "x", "foretaste_redis": "x", "FORETASTE_ZZZ": "1", "PATH": ""}
    assert unknown_variables(environment | {"FORETASTE_DATASETS": "read by benchmarks"}) == [
        "FORETASTE_KAFKKA is no setting; is FORETASTE_KAFKA meant?",
        "FORETASTE_ZZZ is no setting",
    ]


def test_what_is_shown_holds_no_secret_of_any_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORETASTE_REDIS", "redis://u:secret@h:1/0?password=secret")
    monkeypatch.setenv("FORETASTE_REGISTRY", "postgresql+psycopg://u:secret@h/db")
    monkeypatch.setenv("FORETASTE_URL", "https://u:secret@h")
    monkeypatch.setenv("FORETASTE_TOKEN", "secret")
    found = shown(Settings())
    assert "secret" not in str(found)
    assert found["FORETASTE_REGISTRY"] == "postgresql+psycopg://h/db"


def test_a_fence_that_goes_before_the_dead_letters_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "dead_letter_days" in refused(monkeypatch, ERASED_DAYS="3")
