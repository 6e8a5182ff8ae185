"""The system that is hurt: real servers, Foretaste's processes, and the hands that hurt them."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from benchmarks.swap.generations import attributes_of
from foretaste import compose, embedded
from foretaste.kernel.generations import Generation
from foretaste.settings import Settings, variable
from foretaste.stack.environment import TritonEnvironment
from foretaste.stack.parts import Triton
from foretaste.stack.stack import Stack, StackPlan
from models.data.dataset import Dataset, read_dataset
from models.training.config import TrainingConfig
from streams.topics import TopicNames
from tests import opened
from tests.data_factory import write_dataset
from tests.faults.streams.load import LoadPlan
from tests.faults.streams.processes import Processes, Setting, pid_of
from tests.faults.streams.proxy import TcpProxy, tcp_proxy
from tests.faults.streams.reached import Offsets, Reached
from tests.faults.swaps.system import TRAINING, pause, until
from tests.integration.brokers import Broker, Listeners, apache_kafka, free_port, tansu
from tests.integration.redis_server import Valkey, valkey
from tests.servers import held
from tests.tiny_disk import mounts, tiny_disk

SESSION_SECONDS = 6.0
"""After which the group gives a silent worker's partitions to others; Apache Kafka grants no less."""
WARM_AFTER = 8
PARTITIONS = 4
DISK_KILOBYTES = 600_000
LOOK_EVERY = 0.1
REFILL: tuple[tuple[str, ...], ...] = (("rebuild",),)
"""Commands that bring an emptied store back, as the documentation has it; workers that run read again by themselves."""
SETTINGS: Mapping[str, Any] = {
    "kafka_fetch_wait": 0.02,
    "kafka_session_timeout": SESSION_SECONDS,
    "partitions": PARTITIONS,
    "topic_prefix": "faults-",
    "rank_timeout": 0.25,
    "redis_timeout": 2.0,
    "triton_timeout": 2.0,
}


@dataclass
class System:
    """What runs, and one thread that hurts it: servers end with the thread that started them."""

    broker: Broker
    disk: Path | None
    """Kafka's own, where one can be mounted."""
    redis: Valkey
    servers: Stack
    """Triton."""
    proxies: Mapping[str, TcpProxy]
    """By part: kafka, redis, triton."""
    processes: Processes
    settings: Settings
    environment: Mapping[str, str]
    """Of commands and processes that reach the parts as they are."""
    dataset: Dataset
    generation: Generation
    hands: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1))
    heard: Offsets = field(default_factory=dict)
    sent: Offsets = field(default_factory=dict)
    """See `Reached`."""

    @property
    def names(self) -> TopicNames:
        return TopicNames(self.settings.topic_prefix)

    def reached(self) -> Reached:
        address, idempotent = self.broker.address, self.broker.idempotent
        kept = self.heard, self.sent
        return Reached(address, idempotent, self.names, PARTITIONS, self.processes.api, self.generation, *kept)

    def plan(self, name: str, **odd: Any) -> LoadPlan:
        items = [str(item) for item in self.dataset.items["item_id"]]
        return LoadPlan(name, attributes_of(self.dataset), items, **odd)

    def watch(self) -> None:
        """One look: what died is started again."""
        self.servers.watch()
        self.processes.watch()

    def signal(self, part: str, number: signal.Signals) -> None:
        """To a worker, the service or Triton; what ends by it is started again."""
        until(lambda: _lives(self._pid(part)), f"{part} does not live")
        os.kill(self._pid(part), number)

    @contextmanager
    def frozen(self, part: str) -> Iterator[None]:
        """Inside, the process stands still and holds all that it has."""
        pid = self._pid(part)
        os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(pid, signal.SIGCONT)

    def ended(self, part: str) -> float:
        """Seconds from SIGTERM until the process has ended."""
        pid, began = self._pid(part), time.monotonic()
        os.kill(pid, signal.SIGTERM)
        until(lambda: not _lives(pid), f"{part} does not end")
        return time.monotonic() - began

    def stop_redis(self) -> None:
        """The one that serves by now."""
        self.redis.stop()

    def stop_broker(self, *, kill: bool = False) -> None:
        asyncio.run(self.broker.stop(kill=kill))

    def start_broker(self) -> None:
        asyncio.run(self.broker.start_again())

    def command(self, *words: str) -> str:
        """What `foretaste …`, which must succeed, writes to standard output."""
        command = [sys.executable, "-m", "foretaste", *words]
        made = subprocess.run(command, env=self.environment, capture_output=True, text=True, check=False)
        assert made.returncode == 0, f"foretaste {' '.join(words)}: {made.stdout}{made.stderr}"
        return made.stdout

    def refill(self) -> None:
        for words in REFILL:
            self.command(*words)

    def redis_command(self, *words: str | int) -> Any:
        with self.redis.client() as client:
            return client.execute_command(*words)

    def triton_repository(self, verb: Literal["load", "unload"], model: str) -> None:
        """A call of Triton's model control."""
        address = f"http://{self.servers.addresses['triton']}/v2/repository/models/{model}/{verb}"
        request = urllib.request.Request(address, data=b"{}", method="POST")  # our own server
        with urllib.request.urlopen(request, timeout=60):  # noqa: S310
            return

    def tower_code(self, model: str) -> Path:
        """What Triton runs of the active generation's version of a tower."""
        return self.settings.repository / model / str(self.generation.number) / "model.py"

    def _pid(self, part: str) -> int:
        return pid_of(self.servers, part) if part == "triton" else self.processes.pid(part)


@contextmanager
def running(home: Path, kafka_home: Path | None, environment: TritonEnvironment) -> Iterator[System]:
    """1. Kafka (Apache's from `kafka_home`, else the embedded one), a Redis with its append-only file, Triton, and a
    proxy before each. 2. Generation 1 is trained and active. 3. Inside, processes that die are started again.
    """
    with ExitStack() as opened_parts:
        enter = opened_parts.enter_context
        dataset = read_dataset(write_dataset(home / "data"))
        broker, disk, kafka_proxy = _broker(opened_parts, _made(home / "kafka"), kafka_home)  # 1
        no_rewrite = ("--auto-aof-rewrite-percentage", "0")
        store = enter(valkey(_made(home / "redis"), appendonly=True, more=no_rewrite))
        triton = Triton(home / "triton", home / "triton_repo", environment)
        servers = enter(Stack(home / "servers", StackPlan([triton], {}, [])))
        proxies = {
            "kafka": kafka_proxy,
            "redis": enter(held(lambda: tcp_proxy(f"127.0.0.1:{store.port}"))),
            "triton": enter(held(lambda: tcp_proxy(servers.addresses["triton"]))),
        }
        addresses = {"kafka": broker.address, "redis": store.url, "triton": servers.addresses["triton"]}
        given = {**SETTINGS, **addresses, "home": home, "kafka_idempotent": broker.idempotent}
        settings = Settings(**given)
        training = TrainingConfig(**{**TRAINING, "warm_after": WARM_AFTER})
        asyncio.run(opened.train(settings, dataset, training))  # 2
        embedded.prepare(settings)
        asyncio.run(opened.publish(settings, None))
        generation = asyncio.run(_active(settings))
        behind = {part: proxy.address for part, proxy in proxies.items()}
        environments: dict[Setting, Mapping[str, str]] = {
            "plain": _environment(given),
            "disk": _environment({**given, "wait_for_disk": True}),
            "proxied": _environment({**given, **behind, "redis": f"redis://{behind['redis']}/0"}),
            "stepped": _environment(given),
        }
        processes = Processes(home / "processes", environments, home / "clock")
        kept = settings, environments["plain"], dataset, generation
        system = System(broker, disk, store, servers, proxies, processes, *kept)
        opened_parts.callback(system.hands.shutdown)
        opened_parts.callback(system.stop_redis)
        opened_parts.callback(processes.end)
        enter(_watched(system))  # 3
        yield system


def _broker(opened_parts: ExitStack, folder: Path, kafka_home: Path | None) -> tuple[Broker, Path | None, TcpProxy]:
    """A broker, its disk where it has one of its own, and a proxy before which it lets its clients stay."""
    enter = opened_parts.enter_context
    if kafka_home is None:
        embedded_broker: Broker = enter(held(lambda: tansu(folder)))
        return embedded_broker, None, enter(held(lambda: tcp_proxy(embedded_broker.address)))
    inner = f"127.0.0.1:{free_port()}"
    proxy = enter(held(lambda: tcp_proxy(inner)))
    more = Listeners({"PROXIED": inner}, {"PROXIED": "PLAINTEXT"}, advertised={"PROXIED": proxy.address})
    disk = enter(tiny_disk(_made(folder / "log"), DISK_KILOBYTES)) if mounts() else None
    return enter(held(lambda: apache_kafka(kafka_home, folder, more=more))), disk, proxy


def _environment(given: Mapping[str, Any]) -> dict[str, str]:
    return {**os.environ, **{variable(name): str(value) for name, value in given.items()}}


async def _active(settings: Settings) -> Generation:
    generations = compose.generations(settings)
    found = await generations.active()
    await generations.close()
    assert found is not None
    return found


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@contextmanager
def _watched(system: System) -> Iterator[None]:
    over = threading.Event()

    def watch() -> None:
        while not over.wait(LOOK_EVERY):
            system.watch()

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def waited(condition: Callable[[], bool], seconds: float) -> bool:
    """Whether it became true within so many seconds."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        pause(LOOK_EVERY)
    return True
