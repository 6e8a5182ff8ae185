"""Apache Kafka as a part of a benchmark's stack: one KRaft node of the distribution that KAFKA_HOME names."""

import base64
import os
import subprocess
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from foretaste.kernel.errors import InvalidInput
from foretaste.stack import health
from foretaste.stack.parts import SIGN_UP, Launch
from foretaste.stack.processes import LOOPBACK

HEAP = "512m"


@dataclass(frozen=True)
class ApacheKafka:
    """The distribution in `home`, whose data lie in `folder`."""

    folder: Path
    home: Path
    name: ClassVar[str] = "kafka"
    ports: ClassVar[int] = 2
    when_restarted: ClassVar[str] = "it reads its log again: nothing is lost"

    @classmethod
    def found(cls, folder: Path) -> "ApacheKafka":
        """The one that KAFKA_HOME names. Raises `InvalidInput` where it names none."""
        home = os.environ.get("KAFKA_HOME", "")
        if not Path(home, "bin", "kafka-server-start.sh").exists():
            raise InvalidInput("KAFKA_HOME", home, "names no distribution of Apache Kafka")
        return cls(folder, Path(home))

    def launch(self, ports: Sequence[int]) -> Launch:
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        properties = self.folder / "server.properties"
        properties.write_text(self._properties(*ports), encoding="utf-8")
        environment = {
            **os.environ,
            "KAFKA_HEAP_OPTS": f"-Xms{HEAP} -Xmx{HEAP}",
            "LOG_DIR": str(self.folder / "logs"),
        }
        cluster = "A" + base64.urlsafe_b64encode(uuid.uuid4().bytes).decode()[1:22]  # no dash in front
        format_log = [str(self.home / "bin" / "kafka-storage.sh"), "format", "--ignore-formatted", "--standalone"]
        command = [*format_log, "-t", cluster, "-c", str(properties)]
        subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)  # noqa: S603  # a list
        address = f"{LOOPBACK}:{ports[0]}"
        return Launch(
            command=[self.home / "bin" / "kafka-server-start.sh", properties],
            env=environment,
            cwd=self.folder,
            address=address,
            check=lambda _pid: health.kafka(address),
            niceness=SIGN_UP,  # as the embedded broker's
        )

    def _properties(self, port: int, controller: int) -> str:
        lines = {
            "process.roles": "broker,controller",
            "node.id": "1",
            "controller.quorum.bootstrap.servers": f"{LOOPBACK}:{controller}",
            "listeners": f"PLAINTEXT://{LOOPBACK}:{port},CONTROLLER://{LOOPBACK}:{controller}",
            "advertised.listeners": f"PLAINTEXT://{LOOPBACK}:{port},CONTROLLER://{LOOPBACK}:{controller}",
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "controller.listener.names": "CONTROLLER",
            "log.dirs": str(self.folder / "log"),
            "offsets.topic.replication.factor": "1",
            "offsets.topic.num.partitions": "1",
            "transaction.state.log.replication.factor": "1",
            "transaction.state.log.min.isr": "1",
            "group.initial.rebalance.delay.ms": "0",
        }
        return "".join(f"{name}={value}\n" for name, value in lines.items())
