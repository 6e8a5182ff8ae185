"""How many users a second re-enrichment fills, beside what the exported tower alone computes in the same run.

    python -m benchmarks reenrichment --users 1000000 --json

A stack of its own in a temporary folder: a broker, Redis and Triton; workers and the coordinator are processes of their
own. The towers are trained for one epoch; how good they are does not matter here. Every user is cold, with attributes
of the data's users and virtual behaviour of generation 1.
"""

import asyncio
import gc
import json
import multiprocessing
import os
import random
import signal
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from benchmarks.machine import machine
from benchmarks.processes import family, processor_seconds, watched_memory
from benchmarks.trained_stack import publish, train
from foretaste import compose, embedded
from foretaste.cli.processes import serve_worker
from foretaste.console import errors
from foretaste.kernel.generations import Generation
from foretaste.kernel.ports import Coverage
from foretaste.kernel.users import EnrichedUser, VirtualBehaviour
from foretaste.kernel.values import Attributes
from foretaste.settings import Settings
from foretaste.stack.environment import ensure_triton_environment
from foretaste.stack.record import running_stack
from foretaste.stack.stack import Stack, plan
from streams.reenrich_worker import SHARE

OLD, NEW = 1, 2
TOWER_SECONDS = 4.0
FORMING_SECONDS = 10.0
"""For the workers to start and their group to form, before anything is timed."""
SPAWN = multiprocessing.get_context("spawn")


@dataclass(frozen=True)
class TowerThroughput:
    """The throughput of the zero-shot tower alone, in calls of `SHARE` users one after the other."""

    users_per_second: float
    processor_us: Mapping[str, float]
    """Microseconds a user, of this process and of Triton."""


@dataclass
class FillMeasurement:
    """What was measured while the users were filled; times are seconds since the epoch."""

    started: float = 0.0
    filled: float = 0.0
    """When every page was acknowledged."""
    ended: float = 0.0
    """When the last walk had found no missing user."""
    killed: int = 0
    coverage: Coverage | None = None
    used: dict[str, float] = field(default_factory=dict)
    """Processor seconds by part, from `started` to `filled`."""
    memory: Mapping[str, list[tuple[float, float]]] = field(default_factory=dict)


def reenrichment(
    users: Annotated[int, typer.Option(min=SHARE, help="Cold users.")] = 100_000,
    workers: Annotated[int, typer.Option(min=1, help="Stream workers.")] = 1,
    data: Annotated[str, typer.Option(help="ml-100k, ml-1m, or a dataset folder.")] = "ml-100k",
    zero_shot: Annotated[str, typer.Option(help="The zero-shot tower: effects, the default one, or mail.")] = "effects",
    kill: Annotated[bool, typer.Option("--kill", help="Kill workers and the coordinator at random times.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Fill a new generation for all users, and print users a second beside the tower alone."""
    facts = machine()
    with tempfile.TemporaryDirectory(prefix="foretaste-bench-") as folder, ExitStack() as opened:
        settings = Settings(home=Path(folder), reenrich_rate=None, redis_timeout=30.0, triton_timeout=30.0)
        attributes = train(settings, data, [OLD, NEW], zero_shot)
        environment = ensure_triton_environment(Settings().home, lambda step, *_: errors.print(step))
        opened.enter_context(Stack(settings.home, plan(settings.home, {}, triton_environment=environment)))
        settings = compose.resolve(settings)
        embedded.prepare(settings)
        generation = asyncio.run(publish(settings, [OLD, NEW]))
        gc.collect()
        gc.freeze()  # what training left is not walked again while the tower is timed
        errors.print(f"writing {users} users")
        asyncio.run(_sign_up(settings, users, attributes, generation))
        before = asyncio.run(_tower_alone(settings, attributes))
        errors.print(f"tower alone: {before.users_per_second:.0f} users a second; filling")
        fill = _fill(settings, workers, kill=kill)
        after = asyncio.run(_tower_alone(settings, attributes))
    figures = {"zero_shot": zero_shot, "workers": workers, **_figures(users, fill, [before, after])}
    typer.echo(json.dumps({"machine": facts, **figures}) if as_json else _text_of(figures))


async def _sign_up(settings: Settings, users: int, attributes: Sequence[Attributes], generation: Generation) -> None:
    store = compose.store(settings)
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(SHARE, *generation.virtual_shape)).astype(np.float32)
    virtual = [VirtualBehaviour(OLD, each) for each in vectors]
    at_ms = round(time.time() * 1000) - 1
    for start in range(0, users, SHARE):
        rows = [
            EnrichedUser(f"user-{each}", attributes[each % len(attributes)], virtual[each % SHARE], at_ms)
            for each in range(start, min(start + SHARE, users))
        ]
        await store.write_enriched(rows)
    await store.close()


async def _tower_alone(settings: Settings, attributes: Sequence[Attributes]) -> TowerThroughput:
    towers = compose.towers(settings)
    batch = [attributes[each % len(attributes)] for each in range(SHARE)]
    for _ in range(10):
        await towers.virtual_behaviour(batch, NEW)
    used = _used(settings, {"client": os.getpid()}, ("triton",))
    started, calls = time.perf_counter(), 0
    while time.perf_counter() - started < TOWER_SECONDS:
        await towers.virtual_behaviour(batch, NEW)
        calls += 1
    seconds = time.perf_counter() - started
    spent = _since(used, _used(settings, {"client": os.getpid()}, ("triton",)))
    await towers.close()
    users = calls * SHARE
    return TowerThroughput(users / seconds, {name: 1e6 * each / users for name, each in spent.items()})


def _fill(settings: Settings, workers: int, *, kill: bool) -> FillMeasurement:
    """Fill the new generation: run workers and coordinator, kill and start some of them, and measure them all."""
    fill = FillMeasurement()
    receiver, sender = SPAWN.Pipe(duplex=False)
    targets: dict[str, Any] = {f"worker-{each}": (_work, (settings,)) for each in range(workers)}
    running = {name: _started(*target) for name, target in targets.items()}
    time.sleep(FORMING_SECONDS)
    targets["coordinator"] = _coordinate, (settings, sender)
    running["coordinator"] = _started(*targets["coordinator"])
    chance = random.Random(0)  # noqa: S311  # of when to kill
    next_kill = time.monotonic() + chance.uniform(1, 4)
    pids = {name: process.pid for name, process in running.items()}
    with _ending(running), watched_memory(pids) as fill.memory:
        while fill.coverage is None:
            if receiver.poll(0.05):
                _note(fill, _used(settings, pids), *receiver.recv())
            for name, process in running.items():
                if not process.is_alive() and fill.coverage is None:
                    running[name] = _started(*targets[name])
                    pids[name] = running[name].pid
            if kill and fill.started and not fill.filled and time.monotonic() >= next_kill:
                os.kill(pids[chance.choice(list(pids))], signal.SIGKILL)
                fill.killed += 1
                next_kill = time.monotonic() + chance.uniform(2, 6)
    return fill


def _note(fill: FillMeasurement, used: dict[str, float], at: float, what: str, coverage: Coverage | None) -> None:
    if what == "walking" and not fill.started:
        fill.started, fill.used = at, used
    elif what == "counting" and not fill.filled:
        fill.filled, fill.used = at, _since(fill.used, used)
    elif coverage is not None:
        fill.ended, fill.coverage = at, coverage


def _used(
    settings: Settings, pids: Mapping[str, int], parts: Sequence[str] = ("kafka", "redis", "triton")
) -> dict[str, float]:
    """Processor seconds so far: of these processes alone, and of the stack's parts with their descendants."""
    stack = running_stack(settings.home)
    of_parts = {name: family(stack.parts[name].pid) for name in parts} if stack is not None else {}
    return {name: processor_seconds(each) for name, each in ({n: [pid] for n, pid in pids.items()} | of_parts).items()}


def _since(before: Mapping[str, float], now: Mapping[str, float]) -> dict[str, float]:
    return {name: used - before.get(name, 0.0) for name, used in now.items()}


def _started(target: Any, arguments: tuple[Any, ...]) -> Any:
    process = SPAWN.Process(target=target, args=arguments, daemon=True)
    process.start()
    return process


@contextmanager
def _ending(running: dict[str, Any]) -> Iterator[None]:
    try:
        yield
    finally:
        for process in running.values():
            process.terminate()
        for process in running.values():
            process.join(20)


def _work(settings: Settings) -> None:
    asyncio.run(serve_worker(settings))


def _coordinate(settings: Settings, sender: Any) -> None:
    asyncio.run(_coordinated(settings, sender))


async def _coordinated(settings: Settings, sender: Any) -> None:
    from features.generations.progress import RedisProgress  # noqa: PLC0415
    from features.redis.address import RedisAddress  # noqa: PLC0415
    from streams.reenrichment import Reenrichment, ReenrichmentConfig  # noqa: PLC0415
    from streams.topics import TopicNames  # noqa: PLC0415
    from streams.worker.lag import KafkaBacklog  # noqa: PLC0415

    names = TopicNames(settings.topic_prefix)
    progress = RedisProgress(RedisAddress.parse(settings.redis or ""), prefix=settings.project)
    backlog = KafkaBacklog(compose.kafka_connection(settings), names.group, names.reenrich)
    reported: set[str] = set()

    def report(_done: int, total: int | None) -> None:
        what = "walking" if total is None else "counting"
        if what not in reported:
            reported.add(what)
            sender.send((time.time(), what, None))

    async with compose.parts(settings) as parts:
        config = ReenrichmentConfig(grace=0.0, look_every=0.1)
        way = Reenrichment(parts, progress, backlog, topic=names.reenrich, config=config)
        coverage = await way.run(NEW, report)
        sender.send((time.time(), "done", coverage))
    await backlog.close()
    await progress.close()


def _figures(users: int, fill: FillMeasurement, alone: Sequence[TowerThroughput]) -> dict[str, Any]:
    rate = users / (fill.filled - fill.started)
    tower = sum(each.users_per_second for each in alone) / len(alone)
    return {
        "users": users,
        "users_per_second": round(rate),
        "tower_alone_per_second": round(tower),
        "ratio": round(rate / tower, 3),
        "seconds_filling": round(fill.filled - fill.started, 2),
        "seconds_with_the_last_look": round(fill.ended - fill.started, 2),
        "killed": fill.killed,
        "coverage": asdict(fill.coverage) if fill.coverage else None,
        "processor_us_a_user": {name: round(1e6 * used / users, 2) for name, used in fill.used.items()},
        "processor_us_a_user_alone": {name: round(each, 2) for name, each in alone[0].processor_us.items()},
        "peak_mib": {name: _peaks(fill, samples) for name, samples in fill.memory.items()},
    }


def _peaks(fill: FillMeasurement, samples: Sequence[tuple[float, float]]) -> dict[str, int]:
    """Within the first tenth of the time, and over all of it."""
    tenth = fill.started + (fill.filled - fill.started) / 10
    early = [used for at, used in samples if at <= tenth]
    return {"first_tenth": round(max(early, default=0)), "all": round(max((used for _, used in samples), default=0))}


def _text_of(figures: Mapping[str, Any]) -> str:
    return "\n".join(f"{name:28} {value}" for name, value in figures.items())
