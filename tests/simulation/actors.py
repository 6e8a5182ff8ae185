"""The processes of the system: the real modules of each way on simulated parts, composed as in `foretaste.compose`."""

import asyncio
from collections.abc import Callable, Mapping
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Any

from aiokafka.errors import KafkaError
from prometheus_client import CollectorRegistry
from tenacity import RetryCallState

from foretaste.kernel.batching import BatchPolicy
from foretaste.kernel.retrying import FailureStreak, until_it_succeeds
from foretaste.kernel.running.readiness import ProcessReadiness
from serving.active import ActiveGeneration
from serving.metrics import RankingMetrics
from serving.rankings.impressions import BufferedImpressions, ImpressionBuffer, ImpressionPolicy
from serving.rankings.joining import Joined
from serving.rankings.ranking import Ranking, RankingLimits
from serving.requests import RankRequest, RankResponse
from streams.codec import EVENTS
from streams.parts import SignUpParts
from streams.pipelines import PipelinesConfig, user_pipelines
from streams.topics import TopicNames
from streams.training_log import LogConfig, LogMetrics, log_pipelines
from streams.watch.monitor import Monitor, WatchConfig, watch_pipelines
from streams.worker import runner
from streams.worker.collector import Collector, CollectorConfig
from streams.worker.connection import KafkaConnection
from streams.worker.consumer import ConsumerConfig
from streams.worker.dead_letters import DeadLetters
from streams.worker.health.stalling import StallConfig, Stalled
from streams.worker.health.store_progress import LostTail, StoreProgress
from streams.worker.metrics import Metrics
from tests.simulation.parts.broker import SimulatedEvents
from tests.simulation.parts.log import SimulatedLog
from tests.simulation.parts.store import (
    SimulatedGenerations,
    SimulatedLastErasure,
    SimulatedOneStepStore,
    SimulatedStore,
)
from tests.simulation.parts.towers import SimulatedTowers
from tests.simulation.parts.world import SimulatedProcess

if TYPE_CHECKING:
    from tests.simulation.system import System

NAMES = TopicNames()
CONNECTION = KafkaConnection("simulated:9092")
MEMBERSHIP = ConsumerConfig(
    kind="aiokafka", commit_interval=1.0, session_timeout=3.0, heartbeat_interval=1.0, grace=2.0
)
STALLING = StallConfig(quiet=15.0, ends_after=40.0, look_every=5.0)
WATCHING = WatchConfig(
    collector=CollectorConfig(BatchPolicy(size=16, age=0.25)), outcome=20.0, guard=600.0, refresh=0.5, sample_every=5.0
)
LONGEST_PAUSE = 2.0
"""Seconds until a worker starts anew, at most."""

Ways = Callable[[], Mapping[str, Collector]]


async def user_worker(system: "System", process: SimulatedProcess) -> None:
    """A worker of the users' ways."""
    metrics = Metrics(CollectorRegistry())
    store = (SimulatedOneStepStore if system.plan.one_step else SimulatedStore)(system.redis)
    progress = StoreProgress(store, metrics.lost_tails, look_every=2.0, begin_within=10.0)
    config = PipelinesConfig(collector=CollectorConfig(BatchPolicy(size=8, age=0.01, at_once=True), capacity=16))
    parts = SignUpParts(
        store,
        SimulatedTowers(system.triton),
        SimulatedGenerations(system.redis),
        SimulatedEvents(system.broker),
        store if system.plan.synced else None,
        SimulatedLastErasure(system.redis),
    )
    ways = partial(user_pipelines, parts, metrics, config, process.now, progress, system.world.loop.time)
    await _streams(system, process, NAMES.group, ways, progress)


async def log_worker(system: "System", process: SimulatedProcess) -> None:
    """What writes the training log."""
    metrics = Metrics(CollectorRegistry())
    letters = DeadLetters(SimulatedEvents(system.broker), NAMES.dead_letters, metrics)
    config = LogConfig(collector=CollectorConfig(BatchPolicy(size=32, age=0.5), capacity=64))
    counts = LogMetrics(metrics.registry)
    log: Any = SimulatedLog(system.logged)
    store, monotonic = SimulatedStore(system.redis), system.world.loop.time
    ways = partial(log_pipelines, log, store, letters, metrics, counts, config, process.now, monotonic)
    await _streams(system, process, NAMES.log_group, ways)


async def watch(system: "System", process: SimulatedProcess) -> None:
    """The watch over what is served."""
    monitor = Monitor(
        SimulatedStore(system.redis),
        SimulatedTowers(system.triton),
        SimulatedGenerations(system.redis),
        WATCHING,
        process.now,
    )
    metrics = Metrics(CollectorRegistry())
    ways = partial(watch_pipelines, monitor, metrics, WATCHING, process.now, system.world.loop.time)
    await _streams(system, process, WATCHING.group, ways)


async def _streams(
    system: "System", process: SimulatedProcess, group: str, ways: Ways, progress: StoreProgress | None = None
) -> None:
    """A worker, started anew as `run_worker` and whoever supervises it do, until it is asked to stop."""
    readiness = ProcessReadiness()
    worker = runner.StreamWorker(CONNECTION, group, ways, MEMBERSHIP, STALLING, readiness, progress)
    streak = FailureStreak("worker", process.world.loop.time)

    def note(state: RetryCallState) -> None:
        streak.note(state)
        error = None if state.outcome is None else state.outcome.exception()
        stalled = isinstance(error, Stalled) and system.quiet_for(STALLING.quiet)
        stalled = stalled and not system.plan.has("lost commits")  # which nobody tells a worker of
        process.world.expect(not stalled, "a worker took nothing though every part was there:", str(error))

    retrying = until_it_succeeds(longest=LONGEST_PAUSE, note=note, also=(KafkaError, LostTail, Stalled))
    running: asyncio.Task[None] = asyncio.create_task(retrying(runner._run_once, worker, readiness, streak))
    stopping = asyncio.create_task(process.asked_to_stop.wait())
    done, _ = await asyncio.wait({running, stopping}, return_when=asyncio.FIRST_COMPLETED)
    for task in (running, stopping):
        task.cancel()
        await asyncio.wait({task})
    if running in done and not running.cancelled() and (error := running.exception()) is not None:
        process.world.violated(f"{process.name} ended by a defect: {error!r}")


class RankingService:
    """The ranking service: what its callers reach."""

    def __init__(self, system: "System", process: SimulatedProcess) -> None:
        world, registry = system.world, CollectorRegistry()
        clock, metrics = world.loop.time, RankingMetrics(registry)
        generations, towers = SimulatedGenerations(system.redis), SimulatedTowers(system.triton)
        self.impressions = BufferedImpressions(
            SimulatedEvents(system.broker),
            NAMES.ranked,
            EVENTS.encode,
            metrics,
            ImpressionBuffer(BatchPolicy(size=8, age=0.2), longest_pause=1.0),
            clock,
        )
        name = system.next_name()
        self._ids = (f"{name}-{number}" for number in count(1))
        self.ranking = Ranking(
            SimulatedStore(system.redis),
            towers,
            generations,
            ActiveGeneration(generations, towers, clock),
            metrics,
            clock,
            policy=ImpressionPolicy(self.impressions, shown=3, now=process.now, new_id=lambda: next(self._ids)),
            limits=RankingLimits(seconds=2.0),
        )
        self._joined: Joined[RankRequest, RankResponse] = Joined(self.ranking.rank)

    async def rank(self, request: RankRequest) -> RankResponse:
        return await self._joined.ask(request, self.ranking.clock())


async def ranking_service(system: "System", process: SimulatedProcess) -> None:
    """A process that answers rankings until it is asked to stop."""
    service = process.parts = RankingService(system, process)
    bringing = asyncio.create_task(service.ranking.popularity.run())
    await process.asked_to_stop.wait()
    process.parts = None
    await service.impressions.close()
    bringing.cancel()
    await asyncio.wait({bringing})
