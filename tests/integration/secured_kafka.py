"""Apache Kafka that lets nobody in without a password or a certificate, all of its ways on one broker."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from foretaste.settings import Settings
from foretaste.stack.processes import free_ports
from tests.integration.brokers import Listeners, apache_kafka
from tests.integration.certificates import Certificates

USER, PASSWORD = "foretaste-client", "sesame-of-kafka"
PLAIN_USER = f'user_{USER}="{PASSWORD}"'
MODULES = "org.apache.kafka.common.security"


@dataclass(frozen=True)
class SecuredKafka:
    """Addresses of the listeners: SASL_SSL with PLAIN and SCRAM-SHA-512, and TLS that asks for a certificate."""

    sasl: str
    mtls: str
    certificates: Certificates

    def options(self, way: str) -> dict[str, Any]:
        """Settings of a client that is let in, by their names; `way` is PLAIN, SCRAM-SHA-512 or mTLS."""
        trusted = {"kafka_ca_file": self.certificates.ca}
        if way == "mTLS":
            own = {"kafka_cert_file": self.certificates.client_cert, "kafka_key_file": self.certificates.client_key}
            return {"kafka": self.mtls, "kafka_security_protocol": "SSL", **trusted, **own}
        return {
            "kafka": self.sasl,
            "kafka_security_protocol": "SASL_SSL",
            "kafka_sasl_mechanism": way,
            "kafka_username": USER,
            "kafka_password": PASSWORD,
            **trusted,
        }

    def settings(self, way: str, **others: Any) -> Settings:
        return Settings(**{**self.options(way), **others})


@asynccontextmanager
async def secured_kafka(folder: Path, certificates: Certificates) -> AsyncIterator[SecuredKafka]:
    """A broker of `KAFKA_HOME`."""
    sasl, mtls = (f"127.0.0.1:{port}" for port in free_ports(2))
    properties = (
        "ssl.keystore.type=PEM",
        f"ssl.keystore.location={certificates.server_both}",
        "ssl.truststore.type=PEM",
        f"ssl.truststore.location={certificates.ca}",
        "listener.name.mtls.ssl.client.auth=required",
        "sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-512",
        f"listener.name.sasl.plain.sasl.jaas.config={MODULES}.plain.PlainLoginModule required {PLAIN_USER};",
        f"listener.name.sasl.scram-sha-512.sasl.jaas.config={MODULES}.scram.ScramLoginModule required;",
    )
    more = Listeners(
        {"SASL": sasl, "MTLS": mtls},
        {"SASL": "SASL_SSL", "MTLS": "SSL"},
        properties,
        ("--add-scram", f"SCRAM-SHA-512=[name={USER},password={PASSWORD}]"),
    )
    async with apache_kafka(Path(os.environ["KAFKA_HOME"]), folder, more=more):
        yield SecuredKafka(sasl, mtls, certificates)
