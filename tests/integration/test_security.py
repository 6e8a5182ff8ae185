"""Passwords, private authorities and client certificates, on servers that let nobody else in."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

import psutil
import pytest

from foretaste import compose
from foretaste.kernel.errors import Unavailable
from foretaste.stack import health
from streams.worker.connection import KafkaConnection
from streams.worker.consumer import CONSUMERS, ConsumerName
from streams.worker.producer import KafkaEvents
from streams.worker.topic_admin import check_answers
from tests.integration.brokers import free_port
from tests.integration.certificates import Certificates, make_certificates
from tests.integration.redis_server import valkey
from tests.integration.secured_kafka import PASSWORD, SecuredKafka, secured_kafka
from tests.integration.test_streams import Deployment, until
from tests.servers import held

WAYS = ("PLAIN", "SCRAM-SHA-512", "mTLS")


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def secured(
    kafka_home_form: str, certificates: Certificates, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[SecuredKafka]:
    folder = tmp_path_factory.mktemp(kafka_home_form)
    with held(lambda: secured_kafka(folder, certificates)) as broker:
        yield broker


@pytest.mark.parametrize("consumer", CONSUMERS)
@pytest.mark.parametrize("way", WAYS)
async def test_sign_ups_are_enriched_over_each_way_in(
    secured: SecuredKafka, way: str, consumer: ConsumerName, tmp_path: Path
) -> None:
    connection = compose.kafka_connection(secured.settings(way))
    async with Deployment(connection, True, tmp_path, consumer) as deployment, deployment.worker():
        await deployment.sign_up(["ada"])
        await until(lambda: deployment.enriched(["ada"]))


@pytest.mark.parametrize("way", ["PLAIN", "SCRAM-SHA-512"])
async def test_a_wrong_kafka_password_is_told_as_such_and_not_shown(secured: SecuredKafka, way: str) -> None:
    connection = compose.kafka_connection(secured.settings(way, kafka_password="not-the-one"))  # noqa: S106
    said = await _refusals(connection)
    for line in said:
        assert "uthentication" in line, line
        assert "not-the-one" not in line
        assert PASSWORD not in line
        assert "\n" not in line


async def test_a_kafka_that_asks_for_a_certificate_refuses_who_has_none(secured: SecuredKafka) -> None:
    settings = secured.settings("mTLS", kafka_cert_file=None, kafka_key_file=None)
    for line in await _refusals(compose.kafka_connection(settings)):
        assert "certificate" in line.lower(), line


async def test_a_kafka_of_another_authority_is_not_trusted(secured: SecuredKafka, certificates: Certificates) -> None:
    settings = secured.settings("PLAIN", kafka_ca_file=certificates.another_ca)
    for line in await _refusals(compose.kafka_connection(settings)):
        assert "certificate verify failed" in line.lower(), line


async def _refusals(connection: KafkaConnection) -> list[str]:
    """What the worker, a producer and `foretaste status` say of a connection that is not let in."""
    with pytest.raises(Unavailable) as of_worker:
        await check_answers(connection)
    events = KafkaEvents(connection)
    with pytest.raises(Unavailable) as of_producer:
        await events.send("topic", b"key", b"value")
    options = {name: value for name, value in connection.client_arguments().items() if name != "bootstrap_servers"}
    found = await health.kafka(connection.bootstrap, options)
    assert not found.ok
    return [str(of_worker.value), str(of_producer.value), found.detail]


REDIS_PASSWORD, WRONG, TOKEN = "sesame-of-valkey", "not-the-one", "sesame-of-the-service"
SECRETS = (PASSWORD, REDIS_PASSWORD, WRONG, TOKEN)
TOLD = {
    "status": r"uthentication failed",
    "worker": r"kafka is not available: .*uthentication failed",
    "serve": r"invalid username-password pair",
}
"""What is said where Kafka's or, of the service, Redis' password is wrong; log and watch run as a worker does."""


async def test_each_process_tells_a_wrong_password_in_one_line_and_shows_none(
    secured: SecuredKafka, tmp_path: Path
) -> None:
    with valkey(tmp_path, password=REDIS_PASSWORD) as redis:
        settings = {
            **secured.options("SCRAM-SHA-512"),
            "kafka_password": WRONG,
            "redis": redis.url,
            "triton": f"127.0.0.1:{free_port()}",
            "home": tmp_path,
            "api_port": free_port(),
            "token": TOKEN,
        }
        wrong_redis = {**settings, "redis": redis.url.replace(REDIS_PASSWORD, WRONG)}
        started = {
            name: Started(name, wrong_redis if name == "serve" else settings, tmp_path) for name in (*TOLD, "settings")
        }
        try:
            for name, expected in TOLD.items():
                await until(partial(started[name].said, expected))
            await until(lambda: started["settings"].process.poll() is not None)
            for each in started.values():
                shown = each.output + each.titles()
                assert [secret for secret in SECRETS if secret in shown] == []
                assert "Traceback" not in each.output
            assert started["status"].process.wait(10) == 1
            assert "FORETASTE_KAFKA_PASSWORD" in started["settings"].output
        finally:
            for each in started.values():
                each.end()


class Started:
    """A process of Foretaste, and what it wrote."""

    def __init__(self, command: str, settings: Mapping[str, object], folder: Path) -> None:
        self._path = folder / f"{command}.log"
        environment = {f"FORETASTE_{name.upper()}": str(value) for name, value in settings.items()}
        with self._path.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "foretaste", command],
                env={**os.environ, **environment, "COLUMNS": "400"},
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    @property
    def output(self) -> str:
        return self._path.read_text(encoding="utf-8")

    def said(self, expected: str) -> bool:
        """In one line; raises when it ended without having said so."""
        found = any(re.search(expected, line) for line in self.output.splitlines())
        if not found and self.process.poll() is not None:
            pytest.fail(self.output)
        return found

    def titles(self) -> str:
        """Its command line and those of its children, as every user of the machine sees them."""
        if self.process.poll() is not None:
            return ""
        parent = psutil.Process(self.process.pid)
        return "\n".join(" ".join(each.cmdline()) for each in (parent, *parent.children(recursive=True)))

    def end(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(15)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
