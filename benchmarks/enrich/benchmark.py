"""Sign-ups in bursts and at a steady rate, taken by each contestant in turn."""

import asyncio
import gc
import multiprocessing
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from aiokafka import AIOKafkaConsumer, TopicPartition

from benchmarks.enrich import contestants
from benchmarks.processes import family, processor_seconds
from benchmarks.trained_stack import TrainedStack
from foretaste import compose
from foretaste.console import errors
from foretaste.kernel.events import UserEnriched, UserRegistered
from foretaste.kernel.values import Attributes
from foretaste.settings import Settings
from foretaste.stack.record import running_stack
from streams.codec import EVENTS
from streams.topics import TopicNames

SPAWN = multiprocessing.get_context("spawn")
CHUNK = 2000
LOOK_MS = 100
"""For which the look at `user-enriched` lets the broker hold a fetch."""
NOT_COUNTED = 0.2
"""Share of a burst, the first, in which the contestant still fills its caches."""
PATIENCE = 60.0
STEADY_WARM_UP = 100
"""Sign-ups at the steady rate that are not counted."""


@dataclass(frozen=True, slots=True)
class EnrichPlan:
    """The size of it; `rate` is a second."""

    rounds: int = 5
    burst: int = 10_000
    """Sign-ups that wait when the worker or the floor starts."""
    peer_burst: int = 200
    rate: float = 200.0
    steady_seconds: float = 5.0


@dataclass
class Measured:
    """A contestant's figures, one a round."""

    per_second: list[float] = field(default_factory=list)
    p50_ms: list[float] = field(default_factory=list)
    p99_ms: list[float] = field(default_factory=list)
    processor_us: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    """Microseconds of a processor for each counted sign-up of the burst, by process."""


@dataclass(frozen=True, slots=True)
class EnrichContestant:
    """One who takes part: the main function of its process, and the size of its burst."""

    run: Callable[[Settings], None]
    burst: int
    steady: bool = True


class EnrichBenchmark:
    """All contestants on one stack, each with topics of its own."""

    def __init__(self, stack: TrainedStack, plan: EnrichPlan) -> None:
        self._stack = stack
        self._plan = plan
        self._contestants = {
            "worker": EnrichContestant(contestants.worker, plan.burst),
            "floor": EnrichContestant(contestants.floor, plan.burst),
            "peer": EnrichContestant(contestants.peer, plan.peer_burst, steady=False),
        }
        self.measured: dict[str, Measured] = {name: Measured() for name in self._contestants}

    async def run(self) -> None:
        """A round to warm up, then those that count; each round begins with another contestant."""
        names = list(self._contestants)
        for name in names:
            await compose.create_topics(self._settings_of(name))
        for number in range(self._plan.rounds + 1):
            start = number % len(names)
            for name in names[start:] + names[:start]:
                errors.print(f"round {number} of {self._plan.rounds}: {name}")
                found = await self._round(name, self._contestants[name], number)
                if number:
                    self._keep(self.measured[name], found)

    def _settings_of(self, name: str) -> Settings:
        return self._stack.settings.model_copy(update={"topic_prefix": f"{name}-"})

    @staticmethod
    def _keep(measured: Measured, found: Measured) -> None:
        measured.per_second += found.per_second
        measured.p50_ms += found.p50_ms
        measured.p99_ms += found.p99_ms
        for process, used in found.processor_us.items():
            measured.processor_us[process] += used

    async def _round(self, name: str, contestant: EnrichContestant, number: int) -> Measured:
        settings, found = self._settings_of(name), Measured()
        users = [f"{name}-{number}-{each}" for each in range(contestant.burst)]
        async with EnrichLoad(settings, self._stack.attributes) as load:
            await load.send_all(users)
            with running(contestant.run, settings) as pid:
                used = await load.enriched(users, lambda: processor_use(settings, {name: pid}))
                at = sorted(load.written[user] for user in users)
                first = round(NOT_COUNTED * len(users))
                counted = len(users) - 1 - first
                found.per_second.append(counted / (at[-1] - at[first]))
                for process, seconds in used.items():
                    found.processor_us[process].append(1e6 * seconds / counted)
                if contestant.steady:
                    steady = await load.steady(f"{name}-{number}-steady", self._plan.rate, self._plan.steady_seconds)
                    found.p50_ms.append(quantile(steady, 0.5))
                    found.p99_ms.append(quantile(steady, 0.99))
        return found


class EnrichLoad:
    """Sends sign-ups and looks at `user-enriched` for when each could be read."""

    def __init__(self, settings: Settings, attributes: Sequence[Attributes]) -> None:
        self._settings = settings
        self._names = TopicNames(settings.topic_prefix)
        self._attributes = attributes
        self.written: dict[str, float] = {}
        """By user, when the row was durable as the contestant tells it; seconds since the epoch."""

    async def __aenter__(self) -> "EnrichLoad":
        self._events = compose.events(self._settings)
        self._consumer = AIOKafkaConsumer(
            **compose.kafka_connection(self._settings).client_arguments(),
            group_id=None,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            fetch_max_wait_ms=LOOK_MS,
        )
        await self._consumer.start()
        self._consumer.assign(
            [TopicPartition(self._names.enriched, partition) for partition in range(self._settings.partitions)]
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._consumer.stop()
        await self._events.close()

    async def send_all(self, users: Sequence[str]) -> None:
        """All at once, in chunks."""
        for start in range(0, len(users), CHUNK):
            chunk = [self._event(each, number) for number, each in enumerate(users[start : start + CHUNK], start)]
            await self._events.send_all(self._names.registered, chunk)

    async def enriched(self, users: Sequence[str], use: Callable[[], Mapping[str, float]]) -> dict[str, float]:
        """Wait until all were enriched; what `use` counted meanwhile, from where the counted share begins."""
        wanted = set(users)
        first: Mapping[str, float] | None = None
        heard = time.monotonic()
        while wanted:
            seen = await self._look()
            if seen:
                heard = time.monotonic()
            wanted.difference_update(seen)
            if first is None and len(wanted) <= (1 - NOT_COUNTED) * len(users):
                first = use()
            if time.monotonic() - heard > PATIENCE:
                raise TimeoutError(f"{len(wanted)} of {len(users)} sign-ups were not enriched")
        last = use()
        return {name: seconds - (first or {}).get(name, 0.0) for name, seconds in last.items()}

    async def steady(self, name: str, rate: float, seconds: float) -> list[float]:
        """Milliseconds from produce to readable of each sign-up at a steady rate, but for the first ones."""
        count = STEADY_WARM_UP + round(rate * seconds)
        users = [f"{name}-{each}" for each in range(count)]
        sent: dict[str, float] = {}
        gc.collect()
        start = time.monotonic()

        async def send(user: str, number: int) -> None:
            await asyncio.sleep(max(0.0, start + number / rate - time.monotonic()))
            sent[user] = time.time()
            await self._events.send(self._names.registered, *self._event(user, number))

        async with asyncio.TaskGroup() as sending:
            for number, user in enumerate(users):
                sending.create_task(send(user, number))
        await self.enriched(users, dict)
        return [1000 * (self.written[user] - sent[user]) for user in users[STEADY_WARM_UP:]]

    def _event(self, user: str, number: int) -> tuple[bytes, bytes]:
        attributes = self._attributes[number % len(self._attributes)]
        return user.encode(), EVENTS.encode(UserRegistered(user_id=user, attributes=attributes))

    async def _look(self) -> list[str]:
        fetched = await self._consumer.getmany(timeout_ms=LOOK_MS)
        events = [UserEnriched.model_validate_json(each.value) for records in fetched.values() for each in records]
        for each in events:
            self.written.setdefault(each.user_id, each.enriched_at.timestamp())
        return [each.user_id for each in events]


@contextmanager
def running(run: Callable[[Settings], None], settings: Settings) -> Iterator[int]:
    """A contestant's process while inside; its id."""
    process = SPAWN.Process(target=run, args=(settings,), daemon=True)
    process.start()
    try:
        yield process.pid or 0
    finally:
        process.terminate()
        process.join(20)
        process.kill()
        process.join()


def processor_use(settings: Settings, pids: Mapping[str, int]) -> dict[str, float]:
    """Processor seconds so far of these processes and of the stack's servers, with their descendants."""
    stack = running_stack(settings.home)
    servers = {} if stack is None else {name: part.pid for name, part in stack.parts.items()}
    return {name: processor_seconds(family(pid)) for name, pid in {**servers, **pids}.items()}


def quantile(values: Sequence[float], share: float) -> float:
    """The value that this share of them does not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
