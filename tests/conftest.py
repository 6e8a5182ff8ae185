"""Which real servers the tests run on: all that this machine offers, or those that `--kafka` and `--redis` name.

What is left out is printed with its reason; a server that was asked for by name and cannot be had is an error.
"""

import gc
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

from foretaste.stack.environment import TritonEnvironment, ensure_triton_environment
from foretaste.stack.machine import Availability, available_parts, this_machine
from foretaste.stack.parts import Triton
from foretaste.stack.progress import silent
from foretaste.stack.stack import Stack, StackPlan
from tests import images
from tests.browser import browser
from tests.connections import closes_connections, watch_connections  # noqa: F401  # a fixture
from tests.faults.swaps.cases import cases
from tests.integration import brokers, postgres_server, redis_server, redis_tls
from tests.integration.postgres_server import Postgres
from tests.servers import held, shared_server

gc.disable()  # until all is imported, which stays: the collector's walks through it are a tenth of the time
os.environ.setdefault("OMP_NUM_THREADS", "1")  # tests fill the cores by processes; threads that wait for others spin
for part in ("RANK", "REDIS", "TRITON"):  # a full machine is slow, and what is late falls back or fails
    os.environ.setdefault(f"FORETASTE_{part}_TIMEOUT", "10")

ROOT = Path(__file__).parents[1]
LONGEST_FIRST = ("faults", "end_to_end", "simulation", "integration", "browser", "contract", "fuzz", "containers")
"""Folders of tests, by how long one file of them takes; those of other folders are short, and compute throughout."""
SHORT_AFTER, LONG_UNTIL = 0.1, 0.85
"""Of a run: where short files begin to come between long ones, and where the last long one comes."""
NIGHTLY_EXAMPLES = 50_000
"""Of each property of tests/fuzz, by `make fuzz`: more than a million of all together."""
ON_DEMAND = ("containers", "faults")
ON_REAL_SERVERS = ("contract", "integration")

settings.register_profile("shared-cores", deadline=None, print_blob=True)
settings.register_profile("nightly", settings.get_profile("shared-cores"), max_examples=NIGHTLY_EXAMPLES)
settings.load_profile("shared-cores")


@dataclass(frozen=True)
class Address:
    """A broker: where it is, and whether it has idempotent producers (Tansu has none)."""

    bootstrap: str
    idempotent: bool


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--browser", choices=("chromium",), help="the browser for tests of the console; where installed")
    parser.addoption("--kafka", help="tansu, home (KAFKA_HOME) or container, separated by commas; all that is offered")
    parser.addoption("--faults", choices=("few", "all"), default="few", help="how many cases of tests/faults; few")
    parser.addoption("--faults-out", help="a JSON file for what those of swaps came to")
    parser.addoption(
        "--stream-faults-out", help="a JSON file for what those of streams came to; its page lies beside it"
    )
    parser.addoption("--postgres", choices=("installed",), help="PostgreSQL for Feast's online store; where installed")
    parser.addoption("--redis-tls", choices=("installed",), help="a redis-server built with TLS; where installed")
    parser.addoption("--redis", choices=("valkey", "container"), default="valkey", help="which Redis; valkey")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[OFFERS] = {
        "kafka": _kafka_offers(),
        "redis": _redis_offers(),
        "redis-tls": {"installed": redis_tls.not_installed()},
        "postgres": {"installed": postgres_server.not_installed()},
        "browser": {"chromium": browser.not_installed()},
    }


OFFERS = pytest.StashKey[dict[str, dict[str, str | None]]]()
"""By kind of server, each form and why it is not offered; None where it is."""


def _kafka_offers() -> dict[str, str | None]:
    home = os.environ.get("KAFKA_HOME")
    named = None if home and (Path(home) / "bin" / "kafka-server-start.sh").exists() else "KAFKA_HOME names no Kafka"
    return {"tansu": _reason(0), "home": named, "container": _no_docker()}


def _redis_offers() -> dict[str, str | None]:
    return {"valkey": _reason(1), "container": _no_docker()}


def _reason(part: int) -> str | None:
    found: Availability = available_parts(this_machine())[part]
    return None if found.available else found.reason


def _no_docker() -> str | None:
    try:
        found = subprocess.run(["docker", "version"], capture_output=True, timeout=20, check=False)  # noqa: S607
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"no Docker: {error}"
    return None if found.returncode == 0 else "no Docker daemon answers"


def _chosen(config: pytest.Config, kind: str) -> list[str]:
    """Forms of a server to run on. Raises `UsageError` for one that was named and cannot be had."""
    offers = config.stash[OFFERS][kind]
    named: str | None = config.getoption(kind.replace("-", "_"))
    if named is None:
        return [form for form, reason in offers.items() if reason is None]
    for form in named.split(","):
        if form not in offers:
            raise pytest.UsageError(f"--{kind}: {form} is none of {', '.join(offers)}")
        if offers[form] is not None:
            raise pytest.UsageError(f"--{kind}: {form} cannot be had here: {offers[form]}")
    return named.split(",")


def kafka_forms(config: pytest.Config) -> list[str]:
    return _chosen(config, "kafka")


def pytest_report_header(config: pytest.Config) -> list[str]:
    lines = []
    for kind, offers in config.stash[OFFERS].items():
        chosen = _chosen(config, kind)
        left_out = [f"{form} ({reason or 'not chosen'})" for form, reason in offers.items() if form not in chosen]
        lines.append(f"{kind}: {', '.join(chosen)}" + (f"; left out: {', '.join(left_out)}" if left_out else ""))
    return lines


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "kafka_form" in metafunc.fixturenames:
        forms = kafka_forms(metafunc.config)
        once = metafunc.definition.get_closest_marker("one_broker") is not None
        metafunc.parametrize("kafka_form", forms[-1:] if once else forms, scope="session")
    _parametrize_installed(metafunc)
    forms = ["redis", "feast-redis", "feast-sqlite"]
    if _chosen(metafunc.config, "postgres"):
        forms.append("feast-postgres")
    if "store_form" in metafunc.fixturenames:
        metafunc.parametrize("store_form", ["memory", *forms])
    if "shared_form" in metafunc.fixturenames:
        metafunc.parametrize("shared_form", forms)
    if "fault" in metafunc.fixturenames:
        metafunc.parametrize("fault", cases(metafunc.config.getoption("--faults")), ids=str)
    if "stream_fault" in metafunc.fixturenames:
        from tests.faults.streams.cases import stream_faults  # noqa: PLC0415  # brings all that the system is made of

        metafunc.parametrize("stream_fault", stream_faults(metafunc.config.getoption("--faults")), ids=str)


def _parametrize_installed(metafunc: pytest.Metafunc) -> None:
    """What is there or is not, without a wheel that brings it."""
    offered = {kind: _chosen(metafunc.config, kind) for kind in ("postgres", "browser", "redis-tls")}
    offered["kafka-home"] = [form for form in kafka_forms(metafunc.config) if form == "home"]
    for kind, forms in offered.items():
        name = f"{kind.replace('-', '_')}_form"
        if name in metafunc.fixturenames:
            metafunc.parametrize(name, forms, scope="module")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Tests of minutes run where they are named: composed systems by `make compose-test`, faults by `make faults`."""
    folder = collection_path.name if collection_path.parent == ROOT / "tests" else ""
    return True if folder in ON_DEMAND and not any(folder in argument for argument in config.args) else None


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files come first, so that no process is left with one of them at the end; files that compute lie
    between those that wait for servers, so that the cores are busy meanwhile."""
    watch_connections(item for item in items if _folder(item) in ON_REAL_SERVERS)
    long, short = (
        list(dict.fromkeys(item.path for item in items if (_folder(item) in LONGEST_FIRST) == is_long))
        for is_long in (True, False)
    )
    long.sort(key=lambda path: LONGEST_FIRST.index(_folder_of(path)))
    places = dict(zip(long, np.linspace(0.0, LONG_UNTIL, len(long)), strict=True))
    places |= zip(short, np.linspace(SHORT_AFTER, 1.0, len(short)), strict=True)
    items.sort(key=lambda item: places[item.path])


def pytest_collection_finish() -> None:
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 50, 100)  # an export of towers makes many objects, few of which are garbage
    gc.enable()


def _folder(item: pytest.Item) -> str:
    return _folder_of(item.path)


def _folder_of(path: Path) -> str:
    return path.relative_to(ROOT / "tests").parts[0]


@pytest.fixture(scope="session", autouse=True)
def _towers_made_once(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> None:
    """See `tests.towers_factory`; each process of a run has its folder in the same one."""
    own = tmp_path_factory.getbasetemp()
    os.environ["TESTS_SHARED_FOLDER"] = str(own if worker_id == "master" else own.parent)


@pytest.fixture(scope="session")
def broker_of_form(
    pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory, _towers_made_once: None
) -> Callable[[str], Address]:
    """The real broker of a form, which all processes of the run have in common."""
    shared, running = Path(os.environ["TESTS_SHARED_FOLDER"]), ExitStack()
    pytestconfig.add_cleanup(running.close)  # after the last test: there others are waited for, longer than a test may

    @cache
    def broker(form: str) -> Address:
        start = partial(_kafka, form, tmp_path_factory.mktemp(f"kafka-{form}"))
        return Address(running.enter_context(shared_server(shared / form, start)), idempotent=form != "tansu")

    return broker


@contextmanager
def _kafka(form: str, folder: Path) -> Iterator[str]:
    if form == "container":
        from testcontainers.community.kafka import KafkaContainer  # noqa: PLC0415  # needs Docker's client

        alone = {"REPLICATION_FACTOR": "1", "MIN_ISR": "1"}  # one broker: by default transactions want three
        transactions = {f"KAFKA_TRANSACTION_STATE_LOG_{name}": value for name, value in alone.items()}
        with KafkaContainer(images.TEST_KAFKA).with_kraft().with_envs(**transactions) as container:
            yield container.get_bootstrap_server()
    elif form == "home":
        with held(lambda: brokers.apache_kafka(Path(os.environ["KAFKA_HOME"]), folder, heap="512m")) as broker:
            yield broker.address
    else:
        with held(lambda: brokers.tansu(folder)) as broker:
            yield broker.address


@pytest.fixture(scope="session")
def kafka(kafka_form: str, broker_of_form: Callable[[str], Address]) -> Address:
    """A real broker of the chosen form."""
    return broker_of_form(kafka_form)


@pytest.fixture
def kafka_address(kafka: Address) -> str:
    return kafka.bootstrap


@pytest.fixture
def kafka_idempotent(kafka: Address) -> bool:
    return kafka.idempotent


@pytest.fixture(scope="session")
def redis_url(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real Redis-protocol server of the chosen form."""
    if _chosen(pytestconfig, "redis") == ["container"]:
        from testcontainers.community.redis import RedisContainer  # noqa: PLC0415  # needs Docker's client

        with RedisContainer(images.composed()["redis"]) as container:
            yield f"redis://{container.get_container_host_ip()}:{container.get_exposed_port(6379)}"
    else:
        with redis_server.valkey(tmp_path_factory.mktemp("valkey")) as server:
            yield server.url


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A real PostgreSQL."""
    with postgres_server.postgres() as server:
        yield server


@pytest.fixture(scope="session")
def triton_environment() -> TritonEnvironment:
    """The environment that `make` made, or one made now."""
    home = Path(os.environ.get("FORETASTE_HOME", ROOT / ".foretaste"))
    return ensure_triton_environment(home, silent)


@dataclass(frozen=True)
class TritonServer:
    """A real Triton: its HTTP address, and the repository that it reads."""

    address: str
    repository: Path


@pytest.fixture(scope="session")
def triton(triton_environment: TritonEnvironment, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TritonServer]:
    home = tmp_path_factory.mktemp("triton")
    part = Triton(home / "triton", home / "triton_repo", triton_environment)
    with Stack(home, StackPlan([part], {}, [])) as stack:
        yield TritonServer(stack.addresses["triton"], part.repository)
