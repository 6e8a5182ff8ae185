"""How to reach Kafka, in one place for producers, consumers, the admin client and Faust."""

import ssl
from dataclasses import dataclass, field
from typing import Any, Literal

import faust
from faust.types.auth import CredentialsT

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
            "ssl_context": self._context(),
        }
        if self.security_protocol.startswith("SASL"):
            arguments |= {
                "sasl_mechanism": self.sasl_mechanism,
                "sasl_plain_username": self.username,
                "sasl_plain_password": self.password,
            }
        return arguments

    def faust_arguments(self) -> dict[str, Any]:
        """The same as settings of a Faust app."""
        broker = [f"kafka://{server.strip()}" for server in self.bootstrap.split(",")]
        return {"broker": broker, "broker_credentials": self._faust_credentials()}

    def _faust_credentials(self) -> CredentialsT | None:
        if self.security_protocol.startswith("SASL"):
            return faust.SASLCredentials(
                username=self.username,
                password=self.password,
                mechanism=self.sasl_mechanism,
                ssl_context=self._context(),
            )
        if self.security_protocol == "SSL":
            return faust.SSLCredentials(self._context())
        return None

    def _context(self) -> ssl.SSLContext | None:
        if not self.security_protocol.endswith("SSL"):
            return None
        return self.ssl_context or ssl.create_default_context()
