"""Why no Kafka broker takes a connection, which aiokafka's clients keep to themselves."""

from collections.abc import Mapping
from typing import Any

from aiokafka.conn import create_conn
from aiokafka.errors import KafkaConnectionError, KafkaError

from foretaste.kernel.running.tls import CLOSED

REFUSED_MS = 2000
"""Milliseconds that a broker has to say why it refuses."""


async def refusal_of_kafka(bootstrap: str, security: Mapping[str, Any]) -> str | None:
    """What the last broker said to a connection: it is away, or refuses a certificate or a password; None where one
    takes it.

    `bootstrap` is `host:port[,host:port]`, `security` what aiokafka's clients take of that.
    """
    reason: str | None = None
    for server in (each.strip() for each in bootstrap.split(",")):
        host, _, port = server.rpartition(":")
        if not (host and port.isdecimal()):
            reason = f"expected host:port, got {server!r}"
            continue
        try:
            made = await create_conn(host.strip("[]"), int(port), request_timeout_ms=REFUSED_MS, **security)
        except (KafkaError, OSError, TimeoutError) as error:
            reason = str(error) or type(error).__name__
            if security.get("security_protocol") == "SSL" and isinstance(error, KafkaConnectionError):
                reason = f"{reason}: {CLOSED}"
        else:
            made.close()
            return None
    return reason
