"""Every setting of a running system, read from `FORETASTE_*` variables. Only the composition root makes one of these."""

from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from foretaste.contracts import Topic


class Settings(BaseSettings):
    """Addresses of the parts, and how the ways behave. An address that is not given is the embedded stack's."""

    model_config = SettingsConfigDict(env_prefix="FORETASTE_", extra="ignore", frozen=True)

    home: Path = Path(".foretaste")
    """Where the embedded stack, caches, generations and logs live."""

    kafka: str | None = None
    """Bootstrap servers, `host:port[,host:port]`."""
    kafka_security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    kafka_sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "PLAIN"
    kafka_username: str | None = None
    kafka_password: SecretStr | None = None
    kafka_ca_file: Path | None = None
    kafka_cert_file: Path | None = None
    kafka_key_file: Path | None = None
    kafka_idempotent: bool = True
    """Idempotent producer; false for a broker that has none (the embedded one)."""
    topic_prefix: str = ""
    """Put before each topic's name and the consumer group's, so that deployments can share a broker."""
    partitions: Annotated[int, Field(ge=1)] = 8
    replication: Annotated[int, Field(ge=1)] = 1

    redis: str | None = None
    """`redis://[:password@]host:port[/db]`, or `rediss://` for TLS."""
    redis_cluster: bool = False
    registry: str | None = None
    """Feast's registry: a path or an address that Feast understands; a file in `home` where absent."""

    triton: str | None = None
    """gRPC address of Triton, `host:port`; `in-process` runs the towers in this process."""
    triton_ssl: bool = False
    triton_timeout: Annotated[float, Field(gt=0)] = 2.0
    """Seconds."""
    triton_repository: Path | None = None
    """The model repository that Triton reads; `home/triton_repo` where absent."""
    triton_device: Literal["cpu", "gpu"] = "cpu"
    """The instance group of both towers."""

    batch_size: Annotated[int, Field(ge=1, le=4096)] = 256
    batch_age: Annotated[float, Field(ge=0)] = 0.010
    """Seconds after its first member at which a batch closes."""
    max_event_bytes: Annotated[int, Field(ge=1024)] = 65536
    unknown_items: Literal["keep", "dead_letter"] = "keep"
    """A behaviour for an item that the active generation does not know: kept for the next one, or a dead letter."""

    api_host: str = "127.0.0.1"
    api_port: Annotated[int, Field(ge=0, le=65535)] = 8080
    max_candidates: Annotated[int, Field(ge=1)] = 1000
    metrics_port: Annotated[int, Field(ge=1, le=65535)] | None = None
    """Where a worker serves Prometheus metrics on loopback; nowhere where absent."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.kafka_security_protocol.startswith("SASL") and (not self.kafka_username or not self.kafka_password):
            raise ValueError(f"kafka_username and kafka_password are needed for {self.kafka_security_protocol}")
        if self.redis is not None and urlsplit(self.redis).scheme not in ("redis", "rediss"):
            raise ValueError(f"redis: expected redis://host:port or rediss://host:port, got {self.redis!r}")
        return self

    def topic(self, topic: Topic) -> str:
        return f"{self.topic_prefix}{topic.value}"

    @property
    def repository(self) -> Path:
        return self.triton_repository or self.home / "triton_repo"

    @property
    def generations(self) -> Path:
        return self.home / "generations"
