"""One description of Kafka for aiokafka's clients and for Faust."""

import ssl

import faust
import pytest
from faust.transport.drivers.aiokafka import credentials_to_aiokafka_auth

from streams.worker.app import faust_arguments
from streams.worker.connection import KafkaConnection, SaslMechanism

CONTEXT = ssl.create_default_context()
CONNECTIONS = [
    KafkaConnection("a:1,b:2"),
    KafkaConnection("a:1", "SSL", ssl_context=CONTEXT),
    KafkaConnection("a:1", "SASL_PLAINTEXT", "SCRAM-SHA-256", "me", "secret"),
    KafkaConnection("a:1", "SASL_SSL", "SCRAM-SHA-512", "me", "secret", CONTEXT),
]


@pytest.mark.parametrize("connection", CONNECTIONS, ids=lambda connection: connection.security_protocol)
def test_faust_connects_as_the_clients_do(connection: KafkaConnection) -> None:
    ours = connection.client_arguments()
    fausts = credentials_to_aiokafka_auth(faust_arguments(connection)["broker_credentials"])
    assert {name: value for name, value in ours.items() if value is not None} == {
        "bootstrap_servers": connection.bootstrap,
        **{name: value for name, value in fausts.items() if value is not None},
    }


def test_all_bootstrap_servers_are_passed_on() -> None:
    assert faust_arguments(KafkaConnection("a:1, b:2"))["broker"] == ["kafka://a:1", "kafka://b:2"]


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
def test_faust_knows_every_mechanism(mechanism: SaslMechanism) -> None:
    credentials = faust_arguments(KafkaConnection("a:1", "SASL_PLAINTEXT", mechanism, "me", "secret"))
    assert isinstance(credentials["broker_credentials"], faust.SASLCredentials)


def test_the_password_is_never_shown() -> None:
    assert "secret" not in repr(CONNECTIONS[2])


def test_tls_without_a_context_of_its_own_trusts_the_system() -> None:
    context = KafkaConnection("a:1", "SSL").client_arguments()["ssl_context"]
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
