"""A worker of the training log as a process of its own, for tests that kill it.

`python -m tests.integration.log_worker BOOTSTRAP APACHE PREFIX FOLDER PROJECT`
"""

import asyncio
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from prometheus_client import CollectorRegistry

from features.log.feast_log import FeastTrainingLog
from features.redis.address import RedisAddress
from features.repo_config import repo_config
from foretaste.kernel.batching import BatchPolicy
from foretaste.testing import InMemoryOnlineStore
from streams.topics import TopicNames
from streams.training_log import LogConfig, LogMetrics, log_pipelines
from streams.worker.collector import CollectorConfig
from streams.worker.connection import KafkaConnection
from streams.worker.consumer import ConsumerConfig
from streams.worker.dead_letters import DeadLetters
from streams.worker.metrics import Metrics
from streams.worker.producer import KafkaEvents
from streams.worker.runner import StreamWorker, run_worker


@dataclass
class LogDeployment:
    """Topics under a prefix, a log in a folder whose registry was applied, and what both are reached by."""

    connection: KafkaConnection
    apache: bool
    names: TopicNames
    folder: Path
    project: str

    def __post_init__(self) -> None:
        self.events = KafkaEvents(self.connection, idempotent=self.apache)
        address = RedisAddress.parse("redis://127.0.0.1:1")
        config = repo_config(address, str(self.folder / "registry.db"), self.project, self.folder / "log")
        self.log = FeastTrainingLog(config)

    def worker(self) -> StreamWorker:
        registry = CollectorRegistry()
        metrics = Metrics(registry)
        dead_letters = DeadLetters(self.events, self.names.dead_letters, metrics)
        config = LogConfig(self.names, CollectorConfig(BatchPolicy(size=16, age=0.02), capacity=64))
        member = ConsumerConfig(
            fetch_wait=0.02,
            session_timeout=6.0 if self.apache else 2.0,  # Apache Kafka grants no shorter one
            heartbeat_interval=0.5,
            commit_interval=0.2,
            grace=2.0,
            folder=self.folder,
        )
        ways = partial(
            log_pipelines, self.log, InMemoryOnlineStore(), dead_letters, metrics, LogMetrics(registry), config
        )
        return StreamWorker(self.connection, self.names.log_group, ways, member)


async def main(bootstrap: str, apache: str, prefix: str, folder: str, project: str) -> None:
    deployment = LogDeployment(KafkaConnection(bootstrap), apache == "True", TopicNames(prefix), Path(folder), project)
    await run_worker(deployment.worker())
    await deployment.events.close()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
