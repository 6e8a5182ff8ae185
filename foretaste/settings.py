"""Every setting of a running system, read from `FORETASTE_*` variables. Only the composition root makes one."""

import types
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import Field, SecretStr, model_validator
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, SettingsConfigDict

from foretaste.kernel.configuration import without_secrets, wrong_address

_OTHERS = frozenset(f"FORETASTE_{name}" for name in ("DATASETS", "KAFKA_IMAGE", "REDIS_IMAGE", "REDIS_PASSWORD"))
"""Variables that something beside a setting reads: the compose file, benchmarks and tests."""


class Settings(BaseSettings):
    """Addresses of the parts, and how the ways behave. An address that is not given is the embedded stack's."""

    model_config = SettingsConfigDict(
        env_prefix="FORETASTE_",
        extra="ignore",
        frozen=True,
        use_attribute_docstrings=True,
        hide_input_in_errors=True,  # it may hold a password
    )

    home: Path = Path(".foretaste")
    """Where the embedded stack, caches, generations and logs live."""

    kafka: str | None = None
    """Bootstrap servers, `host:port[,host:port]`."""
    kafka_security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    """How clients talk to Kafka."""
    kafka_sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "PLAIN"
    """How they authenticate under SASL."""
    kafka_username: str | None = None
    """Needed under SASL."""
    kafka_password: SecretStr | None = None
    """Needed under SASL."""
    kafka_ca_file: Path | None = None
    """Authorities to trust under TLS, PEM; the system's where absent."""
    kafka_cert_file: Path | None = None
    """This client's certificate under TLS, PEM, where the brokers ask for one."""
    kafka_key_file: Path | None = None
    """Its private key, PEM."""
    kafka_idempotent: bool = True
    """Idempotent producer; false for a broker that has none (the embedded one)."""
    kafka_fetch_wait: Annotated[float, Field(gt=0)] = 0.5
    """Seconds for which the broker may hold a fetch while it has nothing; Kafka answers at once when it has."""
    kafka_idle_fetch_wait: Annotated[float, Field(gt=0)] | None = None
    """The same after half a minute without a record, for a broker that is kept busy by it (the embedded one)."""
    kafka_session_timeout: Annotated[float, Field(ge=3)] = 15.0
    """Seconds after which the group gives a silent worker's partitions to others; Kafka grants no less than 6."""
    stop_seconds: Annotated[float, Field(ge=0, lt=60)] = 4.0
    """For the batch at work, when a worker stops or gives partitions up; what is left then is read again."""
    stall_seconds: Annotated[float, Field(ge=30)] = 120.0
    """After which a worker that handles nothing though events wait for it ends itself; after 30 it is not ready."""
    topic_prefix: str = ""
    """Put before each topic's name and the consumer group's, so that deployments can share a broker."""
    partitions: Annotated[int, Field(ge=1)] = 8
    """Of each topic that `setup` creates: as many workers can share the work."""
    replication: Annotated[int, Field(ge=1)] = 1
    """Of each topic that `setup` creates."""

    dead_letter_days: Annotated[float, Field(gt=0)] = 14.0
    """That dead letters are kept, on the topic that `setup` creates."""
    dead_letter_bytes: Annotated[int, Field(ge=65536)] = 4_194_304
    """Of the largest dead letter that the topic takes, headers included; of a larger one the value is left out."""
    erased_days: Annotated[float, Field(ge=1)] = 30.0
    """That the event of an erasure is kept on the topic that `setup` creates, and what stands in an erased user's place
    in the online store: longer than any other topic keeps its events, which may be read again."""

    redis: str | None = None
    """`redis://[:password@]host:port[/db]`, or `rediss://` for TLS."""
    redis_ca_file: Path | None = None
    """Authorities to trust under `rediss://`, PEM; the system's where absent."""
    redis_cert_file: Path | None = None
    """This client's certificate under `rediss://`, PEM, where the server asks for one."""
    redis_key_file: Path | None = None
    """Its private key, PEM."""
    redis_cluster: bool = False
    """The address is a node of a Redis Cluster."""
    redis_timeout: Annotated[float, Field(gt=0)] = 2.0
    """Seconds a call, of the online store too where that is another one."""
    wait_for_disk: bool = False
    """A worker announces and acknowledges a batch once Redis has it on its disk (`WAITAOF`; Redis 7.2 or Valkey)."""
    project: Annotated[str, Field(pattern=r"^[a-zA-Z0-9_]+$")] = "foretaste"
    """Feast's project, a part of every key, so that deployments can share a Redis."""
    registry: str | None = None
    """Feast's registry: a path or an address that Feast understands; a file in `home` where absent."""
    feature_store: Path | None = None
    """A team's own `feature_store.yaml`, whose online store may be any of Feast's; Foretaste's own where absent."""
    online_store: Literal["auto", "feast"] = "auto"
    """`auto`: Redis without Feast's API where Feast's online store is Redis; `feast`: Feast's API in any case."""

    triton: str | None = None
    """HTTP address of Triton, `host:port` (its port 8000); `in-process` runs the towers in this process."""
    triton_ssl: bool = False
    """TLS to what stands before Triton, whose own HTTP has none."""
    triton_ca_file: Path | None = None
    """Authorities to trust under TLS, PEM; the system's where absent."""
    triton_cert_file: Path | None = None
    """This client's certificate under TLS, PEM, where the server asks for one."""
    triton_key_file: Path | None = None
    """Its private key, PEM."""
    triton_timeout: Annotated[float, Field(gt=0)] = 2.0
    """Seconds a call."""
    triton_repository: Path | None = None
    """The model repository that Triton reads; `home/triton_repo` where absent."""
    triton_device: Literal["cpu", "gpu"] = "cpu"
    """The instance group of both towers."""

    consumer: Literal["faust", "aiokafka"] = "faust"
    """What reads Kafka in a worker, the log and the watch: Faust, or aiokafka alone, which costs less an event."""
    batch_size: Annotated[int, Field(ge=1, le=4096)] = 256
    """Events at which a worker's batch closes."""
    batch_age: Annotated[float, Field(ge=0)] = 0.010
    """Seconds after its first member at which a batch closes while events keep coming; else it closes at once."""
    max_event_bytes: Annotated[int, Field(ge=1024)] = 65536
    """A larger event becomes a dead letter."""
    unknown_items: Literal["keep", "dead_letter"] = "keep"
    """A behaviour for an item that the active generation does not know: kept for the next one, or a dead letter."""

    reenrich_rate: Annotated[float, Field(gt=0)] | None = 2000.0
    """Users a second whom each worker makes virtual behaviour for while a generation fills; no limit where empty."""
    reenrich_tolerated: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of all users who may, as cold or warming ones, still lack virtual behaviour of a generation swapped in."""

    log: str | None = None
    """Where the training log lies: a folder, `s3://bucket/prefix`, `gs://…` or `abfss://…`; `home/log` where absent."""
    log_days: Annotated[int, Field(ge=1)] = 90
    """Days that the training log keeps."""
    log_compact_hours: Annotated[float, Field(gt=0)] = 1.0
    """Hours between two looks at the training log: each day becomes one file, those beyond it go."""
    outcome_window: Annotated[float, Field(gt=0)] = 1800.0
    """Seconds after a ranking in which an act on a shown item counts as its outcome."""
    shown: Annotated[int, Field(ge=0)] = 20
    """Items of each ranking that count as shown, from the best on, where the request does not say; 0: none."""

    log_settles: Annotated[float, Field(ge=0)] = 10.0
    """Seconds in which what happened has reached the training log: a refresh reads what is older."""
    log_patience: Annotated[float, Field(ge=0)] = 30.0
    """Seconds that a refresh waits for the training log to hold what Kafka holds when it begins."""
    held_out: Annotated[float, Field(gt=0, lt=1)] = 0.2
    """Share of the rankings of a refresh, the newest, that judge it and are not learned from."""
    gate_tolerance: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Relative loss of GAUC below which a group of users is not worse, however certain the loss is."""
    keep: Annotated[int, Field(ge=2)] = 2
    """Generations that stay loaded, the active one and the one before among them."""
    refused_days: Annotated[float, Field(ge=0)] = 7.0
    """Days after which a refresh deletes the files of a candidate that the gate refused; its verdict stays."""
    lease_seconds: Annotated[float, Field(ge=1)] = 60.0
    """After which a refresh that died no longer stands in another's way."""
    guard_minutes: Annotated[float, Field(gt=0)] = 15.0
    """After a swap, in which a generation that goes wrong is rolled back by `foretaste watch`."""

    api_host: str = "127.0.0.1"
    """Where the ranking service listens."""
    api_port: Annotated[int, Field(ge=0, le=65535)] = 8080
    """Its port; the embedded stack takes a free one where this is taken."""
    api_tokens: SecretStr | None = None
    """Lines of `foretaste token`, apart by `;`; without any, here or in the file, the service is for loopback alone."""
    api_token_file: Path | None = None
    """More of them, a line each; read again when it changes."""
    api_rate: Annotated[float, Field(gt=0)] | None = 2000.0
    """Requests a second of one token, at most; no limit where empty."""
    api_allowed_hosts: str | None = None
    """Names in the Host header, apart by commas, beside loopback's own; where empty any, but none on loopback."""
    api_max_body_bytes: Annotated[int, Field(ge=1024)] = 1_048_576
    """A larger request is refused."""
    api_read_seconds: Annotated[float, Field(gt=0)] = 10.0
    """In which a request must have come whole, and a client must take what is written to it; else it is cut off."""
    api_access_log: bool = True
    """A line of JSON for each answer, on standard error; `foretaste up` leaves it off unless this is set."""
    api_log_key: SecretStr | None = None
    """Of the hash that stands for a user id in that log; another one at each start where absent."""
    api_idempotency_seconds: Annotated[int, Field(ge=60)] = 86_400
    """For which the answer under an idempotency key is kept."""
    url: str | None = None
    """A running service that `register`, `behave` and `rank` ask; without it they reach Kafka, Redis and Triton."""
    token: SecretStr | None = None
    """The bearer token that they send there."""
    max_candidates: Annotated[int, Field(ge=1)] = 1000
    """Candidates of one ranking request, at most."""
    max_recommended: Annotated[int, Field(ge=1)] = 200
    """k of one recommendation, at most."""
    recommend_candidates: Annotated[int, Field(ge=1)] = 200
    """Candidates that a recommendation ranks, as many as k at least."""
    recommend_popular_share: Annotated[float, Field(ge=0, le=1)] = 0.1
    """Of these candidates, the share of popular items beside those by behaviour."""
    recommend_exploratory_share: Annotated[float, Field(ge=0, le=1)] = 0.05
    """Of these candidates, the share drawn at random from the rest of the catalogue."""
    explore_share: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Of the rankings, the share whose shown items stand in a drawn order, so that the gate can judge other orders."""
    rank_timeout: Annotated[float, Field(gt=0)] = 0.25
    """Seconds that an answer waits for parts before it falls back to what needs none of those that are late."""
    metrics_port: Annotated[int, Field(ge=1, le=65535)] | None = None
    """Where a worker serves Prometheus metrics; nowhere where absent. Under `foretaste up` the log's is the next port,
    and the watch's the one after it."""
    metrics_host: str = "127.0.0.1"
    """Where a worker's metrics listen."""

    @model_validator(mode="before")
    @classmethod
    def _without_empty(cls, given: Any) -> Any:
        """An empty variable is none: it says "nothing" where a setting may be that, else the default holds."""
        found = {}
        for name, value in given.items():
            field = cls.model_fields.get(name)
            if value != "" or field is None:
                found[name] = value
            elif _may_be_none(field):
                found[name] = None
        return found

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.kafka_security_protocol.startswith("SASL") and (not self.kafka_username or not self.kafka_password):
            raise ValueError(f"kafka_username and kafka_password are needed for {self.kafka_security_protocol}")
        for name in ("kafka", "redis", "triton", "url"):
            problem = wrong_address(name, getattr(self, name))
            if problem is not None:
                raise ValueError(f"{variable(name)}: {problem}")
        protocol = self.kafka_security_protocol
        self._check_tls("kafka", protocol.endswith("SSL"), f"FORETASTE_KAFKA_SECURITY_PROTOCOL is {protocol}")
        self._check_tls("redis", (self.redis or "").startswith("rediss://"), "FORETASTE_REDIS is no rediss:// address")
        self._check_tls("triton", self.triton_ssl, "FORETASTE_TRITON_SSL is false")
        if self.erased_days < self.dead_letter_days:
            raise ValueError(
                "erased_days: expected at least dead_letter_days, or letters of erased users come to light"
            )
        if self.recommend_popular_share + self.recommend_exploratory_share > 1:
            raise ValueError("recommend_popular_share and recommend_exploratory_share: expected at most 1 together")
        return self

    def _check_tls(self, part: str, spoken: bool, otherwise: str) -> None:
        """Files that are not there are named; those for TLS that is not spoken would be left out in silence."""
        for name in ("ca", "cert", "key"):
            field = f"{part}_{name}_file"
            path = getattr(self, field)
            if path is not None and not path.is_file():
                raise ValueError(f"{variable(field)}: there is no file {str(path)!r}")
            if path is not None and not spoken:
                raise ValueError(f"{variable(field)}: is for TLS, and {otherwise}")
        if getattr(self, f"{part}_key_file") is not None and getattr(self, f"{part}_cert_file") is None:
            certificate = variable(f"{part}_cert_file")
            raise ValueError(f"{variable(f'{part}_key_file')}: needs {certificate}, its certificate")

    def made_home(self) -> Path:
        """`home`, made for its owner alone where there is none: it holds data of users, and addresses with passwords.

        One that somebody made before keeps its permissions.
        """
        self.home.mkdir(mode=0o700, parents=True, exist_ok=True)
        return self.home

    @property
    def repository(self) -> Path:
        return self.triton_repository or self.home / "triton_repo"

    @property
    def generations(self) -> Path:
        return self.home / "generations"

    @property
    def training_log(self) -> str:
        log = self.log or str(self.home / "log")
        return log if "://" in log else str(Path(log).absolute())


def table() -> list[tuple[str, str, str]]:
    """Every setting: its variable, its default and what it means."""
    return [
        (variable(name), "" if field.default is None else str(field.default), field.description or "")
        for name, field in Settings.model_fields.items()
    ]


def markdown() -> str:
    """The page of all settings, docs/settings.md."""
    rows = "".join(f"| `{name}` | {default} | {meaning} |\n" for name, default, meaning in table())
    head = "# Settings\n\nEach is a variable in the environment; `foretaste settings` shows their values.\n\n"
    return f"{head}| variable | default | meaning |\n|---|---|---|\n{rows}"


def shown(settings: Settings) -> dict[str, str]:
    """Every setting's value by its variable, fit to be seen: passwords are left out."""
    values = {name: getattr(settings, name) for name in Settings.model_fields}
    for name in ("redis", "registry", "url", "log"):
        if values[name] is not None:
            values[name] = without_secrets(values[name])
    return {variable(name): "" if value is None else str(value) for name, value in values.items()}


def unknown_variables(environment: Mapping[str, str]) -> list[str]:
    """A line for each `FORETASTE_…` variable that is no setting, with the setting that it may mean."""
    known = [variable(name) for name in Settings.model_fields]
    lines = []
    for name in sorted(environment):
        if not name.upper().startswith("FORETASTE_") or name.upper() in known or name.upper() in _OTHERS:
            continue
        close = get_close_matches(name.upper(), known, 1, cutoff=0.85)
        lines.append(f"{name} is no setting" + (f"; is {close[0]} meant?" if close else ""))
    return lines


def _may_be_none(field: FieldInfo) -> bool:
    return types.NoneType in get_args(field.annotation)


def variable(name: str) -> str:
    """The environment's name of a setting."""
    return f"FORETASTE_{name.upper()}"
