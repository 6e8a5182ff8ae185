"""The system that is hurt: real servers, two workers and the ranking service, and what hurts them."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

from benchmarks.swap.generations import attributes_of
from foretaste import compose, embedded
from foretaste.kernel.generations import Generation
from foretaste.settings import Settings, variable
from foretaste.stack.environment import TritonEnvironment
from foretaste.stack.parts import Api, Launch, Part, Triton, Worker
from foretaste.stack.stack import Stack, StackPlan
from models.data.dataset import Dataset, read_dataset
from models.training.config import TrainingConfig
from streams.topics import TopicNames
from tests import opened
from tests.conftest import held
from tests.data_factory import write_dataset
from tests.faults.streams.reached import Offsets, Reached
from tests.faults.streams.load import LoadPlan
from tests.faults.streams.proxy import TcpProxy, tcp_proxy
from tests.faults.swaps.system import TRAINING, pause, until
from tests.integration.brokers import Broker, Listeners, apache_kafka, free_port, tansu
from tests.integration.redis_server import Valkey, valkey
from tests.tiny_disk import mounts, tiny_disk

Setting = Literal["plain", "disk", "proxied", "stepped"]
"""What the processes run under: plain; `FORETASTE_WAIT_FOR_DISK`; behind proxies; on a clock that can be stepped."""
SESSION_SECONDS = 6.0
"""After which the group gives a silent worker's partitions to others; Apache Kafka grants no less."""
WARM_AFTER = 8
PARTITIONS = 4
DISK_KILOBYTES = 1_500_000
LOOK_EVERY = 0.1
WORKERS = ("worker", "worker-2")
REFILL: tuple[tuple[str, ...], ...] = (("publish",),)
"""Commands that bring an emptied store back, as the documentation has it; workers that run read again by themselves."""
SETTINGS: Mapping[str, Any] = {
    "kafka_fetch_wait": 0.02,
    "kafka_session_timeout": SESSION_SECONDS,
    "partitions": PARTITIONS,
    "topic_prefix": "faults-",
    "api_access_log": False,
}
TOWERS = ("zero_shot_tower", "ranking_tower")


@dataclass(frozen=True)
class SteppedWorker:
    """A worker whose wall clock is off by as many seconds as the file says."""

    env: Mapping[str, str]
    clock: Path
    name: str = "worker"
    ports: ClassVar[int] = 0
    when_restarted: ClassVar[str] = Worker.when_restarted

    def launch(self, ports: Any) -> Launch:
        command = [sys.executable, "-m", "tests.faults.streams.stepped_worker", self.clock]
        return replace(Worker(self.env, self.name).launch(ports), command=command)


@dataclass
class System:
    """What runs, and a thread that hurts it: servers end with the thread that started them."""

    home: Path
    broker: Broker
    disk: Path | None
    """Kafka's own, where one can be mounted."""
    redis: Valkey
    servers: Stack
    proxies: Mapping[str, TcpProxy]
    """By part: kafka, redis, triton."""
    settings: Settings
    dataset: Dataset
    generation: Generation
    hands: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1))
    processes: Stack | None = None
    setting: Setting | None = None
    api: str = ""
    heard: Offsets = field(default_factory=dict)
    sent: Offsets = field(default_factory=dict)
    """See `Reached`."""
    _opened: ExitStack = field(default_factory=ExitStack)
    _looking: threading.Lock = field(default_factory=threading.Lock)
    """Held while processes are looked at, and while they are ended."""
    _starts: int = 0
    _died: bool = False
    """A process has died since they were started together: the next death would be waited for longer."""

    @property
    def names(self) -> TopicNames:
        return TopicNames(self.settings.topic_prefix)

    @property
    def clock(self) -> Path:
        """Says by how many seconds the clock of stepped workers is off."""
        return self.home / "clock"

    def reached(self) -> Reached:
        return Reached(
            self.broker.address,
            self.broker.idempotent,
            self.names,
            PARTITIONS,
            self.api,
            self.generation,
            self.heard,
            self.sent,
        )

    def plan(self, name: str, **odd: Any) -> LoadPlan:
        items = [str(item) for item in self.dataset.items["item_id"]]
        return LoadPlan(name, attributes_of(self.dataset), items, **odd)

    def run_under(self, setting: Setting) -> None:
        """Workers and the service run under this setting, and do their work."""
        if self.setting != setting or self._died:
            self.end_processes()
            self._start(setting)
        until(self._is_ready, "the service is not ready")

    def end_processes(self) -> None:
        with self._looking:
            self.processes, self.setting, self._died = None, None, False
            self._opened.close()

    def log_lines(self) -> int:
        """That workers and the service have written so far."""
        logs = self.home.glob("processes-*/logs/*.log")
        return sum(len(log.read_bytes().splitlines()) for log in logs)

    def watch(self) -> None:
        """One look: what died is started again."""
        with self._looking:
            self.servers.watch()
            if self.processes is not None and self.processes.watch():
                self._died = True

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
        until(lambda: self._pid(part) != pid or not _lives(pid), f"{part} does not end")
        return time.monotonic() - began

    def stop_broker(self, *, kill: bool = False) -> None:
        asyncio.run(self.broker.stop(kill=kill))

    def start_broker(self) -> None:
        asyncio.run(self.broker.start_again())

    def command(self, *words: str) -> str:
        """What `foretaste …`, which must succeed, writes to standard output."""
        made = subprocess.run(
            [sys.executable, "-m", "foretaste", *words],
            env=self._environment({}),
            capture_output=True,
            text=True,
            check=False,
        )
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
        request = urllib.request.Request(address, data=b"{}", method="POST")  # noqa: S310  # our own server
        with urllib.request.urlopen(request, timeout=60):  # noqa: S310
            return

    def tower_code(self, model: str) -> Path:
        """What Triton runs of the active generation's version of a tower."""
        return self.home / "triton_repo" / model / str(self.generation.number) / "model.py"

    def ready(self) -> tuple[int, Any]:
        """`/readyz` of the service: the status, 0 where none came, and its body."""
        try:
            with urllib.request.urlopen(f"{self.api}/readyz", timeout=10) as answer:  # noqa: S310  # our own server
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.load(error)
        except OSError:
            return 0, None

    def post(self, path: str, body: bytes) -> int:
        """The status that the service answers with."""
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(f"{self.api}{path}", data=body, headers=headers)  # noqa: S310  # our own server
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
                return int(answer.status)
        except urllib.error.HTTPError as error:
            with error:
                return error.code

    def _is_ready(self) -> bool:
        assert self.processes is not None
        logs = [self.processes.home / "logs" / f"{worker}.log" for worker in WORKERS]
        return self.ready()[0] == 200 and all("reads " in log.read_text(errors="replace") for log in logs)

    def _start(self, setting: Setting) -> None:
        self._starts += 1
        home = self.home / f"processes-{self._starts}"
        self.clock.write_text("0", encoding="utf-8")
        given: dict[str, Any] = {"wait_for_disk": setting == "disk"}
        if setting == "proxied":
            given |= {part: proxy.address for part, proxy in self.proxies.items()}
            given["redis"] = f"redis://{given['redis']}/0"
        env = self._environment(given)
        stack = self._opened.enter_context(Stack(home, StackPlan([], {}, [])))
        for name in WORKERS:
            part: Part = SteppedWorker(env, self.clock, name) if setting == "stepped" else Worker(env, name)
            stack.start(part)
        self.api = stack.start(Api(env))
        self.processes, self.setting = stack, setting

    def _environment(self, given: Mapping[str, Any]) -> dict[str, str]:
        named = {name: getattr(self.settings, name) for name in ("home", "kafka", "redis", "triton")}
        values = {**SETTINGS, **named, "kafka_idempotent": self.broker.idempotent, **given}
        return {**os.environ, **{variable(name): str(value) for name, value in values.items()}}

    def _pid(self, part: str) -> int:
        stack = self.servers if part == "triton" else self.processes
        assert stack is not None
        record = json.loads((stack.home / "stack.json").read_text(encoding="utf-8"))
        return int(record["parts"][part]["pid"])


@contextmanager
def running(home: Path, kafka_home: Path | None, environment: TritonEnvironment) -> Iterator[System]:
    """1. Kafka (Apache's from `kafka_home`, else the embedded one), a Redis with its append-only file, Triton, and a
    proxy before each. 2. Generation 1 is trained and active. 3. Inside, processes that die are started again.
    """
    with ExitStack() as opened_parts:
        enter = opened_parts.enter_context
        dataset = read_dataset(write_dataset(home / "data"))
        broker, disk, kafka_proxy = _broker(opened_parts, home, kafka_home)  # 1
        store = enter(valkey(_made(home / "redis"), appendonly=True, more=("--auto-aof-rewrite-percentage", "0")))
        parts = [Triton(home / "triton", home / "triton_repo", environment)]
        servers = enter(Stack(home / "servers", StackPlan(parts, {}, [])))
        proxies = {
            "kafka": kafka_proxy,
            "redis": enter(held(lambda: tcp_proxy(f"127.0.0.1:{store.port}"))),
            "triton": enter(held(lambda: tcp_proxy(servers.addresses["triton"]))),
        }
        given = {"home": home, "kafka": broker.address, "kafka_idempotent": broker.idempotent, "redis": store.url}
        settings = Settings(**{**SETTINGS, **given, "triton": servers.addresses["triton"]})
        training = TrainingConfig(**{**TRAINING, "warm_after": WARM_AFTER})
        asyncio.run(opened.train(settings, dataset, training))  # 2
        embedded.prepare(settings)
        asyncio.run(opened.publish(settings, None))
        generation = asyncio.run(_active(settings))
        system = System(home, broker, disk, store, servers, proxies, settings, dataset, generation)
        opened_parts.callback(system.hands.shutdown)
        opened_parts.callback(lambda: system.redis.stop())  # it may be another one by then
        opened_parts.callback(system.end_processes)
        enter(_watched(system))  # 3
        yield system


def _broker(opened_parts: ExitStack, home: Path, kafka_home: Path | None) -> tuple[Broker, Path | None, TcpProxy]:
    """A broker, its disk where it has one of its own, and a proxy behind which it tells its clients to stay."""
    folder, enter = _made(home / "kafka"), opened_parts.enter_context
    if kafka_home is None:
        broker: Broker = enter(held(lambda: tansu(folder)))
        return broker, None, enter(held(lambda: tcp_proxy(broker.address)))
    behind = f"127.0.0.1:{free_port()}"
    proxy = enter(held(lambda: tcp_proxy(behind)))
    more = Listeners({"PROXIED": behind}, {"PROXIED": "PLAINTEXT"}, advertised={"PROXIED": proxy.address})
    disk = enter(tiny_disk(_made(folder / "log"), DISK_KILOBYTES)) if mounts() else None
    return enter(held(lambda: apache_kafka(kafka_home, folder, more=more))), disk, proxy


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
