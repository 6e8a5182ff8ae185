"""How to reach Kafka, in one place for producers, consumers and the admin client."""

import ssl
from dataclasses import dataclass, field
from typing import Any, Literal

from aiokafka.errors import KafkaConnectionError

from foretaste.kernel.errors import Unavailable
from foretaste.kernel.running.kafka_refusal import refusal_of_kafka

SecurityProtocol = Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]
SaslMechanism = Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]


@dataclass(frozen=True, slots=True)
class KafkaConnection:
    """Bootstrap servers (`host:port[,host:port]`) and credentials."""

    bootstrap: str
    security_protocol: SecurityProtocol = "PLAINTEXT"
    sasl_mechanism: SaslMechanism = "PLAIN"
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    ssl_context: ssl.SSLContext | None = field(default=None, repr=False)

    def client_arguments(self) -> dict[str, Any]:
        """Arguments that every aiokafka client takes."""
        arguments: dict[str, Any] = {
            "bootstrap_servers": self.bootstrap,
            "security_protocol": self.security_protocol,
            "ssl_context": self.tls,
        }
        if self.security_protocol.startswith("SASL"):
            arguments |= {
                "sasl_mechanism": self.sasl_mechanism,
                "sasl_plain_username": self.username,
                "sasl_plain_password": self.password,
            }
        return arguments

    @property
    def tls(self) -> ssl.SSLContext | None:
        """The context of a protocol that has TLS; the system's authorities where none was given."""
        if not self.security_protocol.endswith("SSL"):
            return None
        return self.ssl_context or ssl.create_default_context()


async def kafka_unavailable(connection: KafkaConnection, error: Exception, subject: str = "") -> Unavailable:
    """What to raise for `error`, with why. `subject` begins its detail, the brokers' addresses where empty.

    aiokafka keeps to itself why no broker took a client: a wrong password and a broker that is away look alike. So one
    more connection is tried then, whose refusal is told.
    """
    reason = None
    if isinstance(error, KafkaConnectionError):
        security = connection.client_arguments()
        reason = await refusal_of_kafka(security.pop("bootstrap_servers"), security)
    return Unavailable("kafka", f"{subject or connection.bootstrap}: {reason or repr(error)}")
