"""Passwords, private authorities and client certificates, on servers that let nobody else in."""

import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from foretaste import compose
from foretaste.cli.processes import health_of
from foretaste.kernel.errors import InvalidInput, Unavailable
from foretaste.stack import health
from streams.worker.connection import KafkaConnection
from streams.worker.consumer import CONSUMERS, ConsumerName
from streams.worker.producer import KafkaEvents
from streams.worker.topic_admin import check_answers
from tests.conftest import held
from tests.integration.certificates import Certificates, make_certificates
from tests.integration.secured_kafka import PASSWORD, SecuredKafka, secured_kafka
from tests.integration.test_streams import Deployment, until

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
