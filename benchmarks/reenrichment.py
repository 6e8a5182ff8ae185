"""How many users a second re-enrichment fills, beside what the exported tower alone computes in the same run.

    python -m benchmarks.reenrichment --users 1000000 --json

A stack of its own in a temporary folder: real Kafka protocol, Redis and Triton; workers and the coordinator are
processes of their own. The towers are the default ones, trained for one epoch on the data; how good they are does not
matter here. Every user is cold, with the data's own attributes and virtual behaviour of generation 1.
"""

import asyncio
import json
import multiprocessing
import os
import random
import signal
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from benchmarks.report import machine
from foretaste import compose, embedded, jobs
from foretaste.console import errors
from foretaste.contracts import Attributes, EnrichedUser, Generation, VirtualBehaviour
from foretaste.settings import Settings
from foretaste.stack.environment import ensure_triton_environment
from foretaste.stack.stack import Stack, plan
from streams.filling import SHARE
from streams.reenrichment import Coverage

OLD, NEW = 1, 2
TOWER_SECONDS = 4.0
SPAWN = multiprocessing.get_context("spawn")


@dataclass
class Seen:
    """What was seen while the users were filled. Times in seconds, memory in MiB."""

    began: float = 0.0
    filled: float = 0.0
    """When every page was acknowledged."""
    ended: float = 0.0
    """When the last walk had found nobody missing."""
    killed: int = 0
    coverage: Coverage | None = None
    memory: dict[str, list[tuple[float, float]]] = field(default_factory=dict)

    def peaks(self, name: str) -> tuple[float, float]:
        """The peak within the first tenth of the time, and over all of it."""
        samples = self.memory.get(name, [])
        early = [used for at, used in samples if at <= self.began + (self.filled - self.began) / 10]
        return max(early, default=0.0), max((used for _, used in samples), default=0.0)


def main(
    users: Annotated[int, typer.Option(min=SHARE, help="Cold users.")] = 100_000,
    workers: Annotated[int, typer.Option(min=1, help="Stream workers.")] = 1,
    data: Annotated[str, typer.Option(help="ml-100k, ml-1m, or a dataset folder.")] = "ml-100k",
    zero_shot: Annotated[
        str, typer.Option(help="Which zero-shot tower: effects (the default one) or mail.")
    ] = "effects",
    kill: Annotated[bool, typer.Option("--kill", help="Kill workers and the coordinator at random times.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Fill a new generation for all users, and print users a second."""
    facts = machine()
    with tempfile.TemporaryDirectory(prefix="foretaste-bench-") as folder, ExitStack() as opened:
        settings = Settings(home=Path(folder), reenrich_rate=None)
        attributes = _train(settings, data, zero_shot)
        environment = ensure_triton_environment(Settings().home, lambda step, *_: errors.print(step))
        opened.enter_context(Stack(settings.home, plan(settings.home, {}, triton_environment=environment)))
        settings = compose.resolve(settings)
        embedded.prepare(settings)
        generation = asyncio.run(_publish(settings))
        errors.print(f"writing {users} users")
        asyncio.run(_sign_up(settings, users, attributes, generation))
        before = asyncio.run(_tower_alone(settings, attributes))
        errors.print(f"tower alone: {before:.0f} users a second; filling")
        seen = _fill(settings, workers, kill=kill)
        after = asyncio.run(_tower_alone(settings, attributes))
    alone = (before + after) / 2
    outcome = _outcome(users, seen, alone)
    typer.echo(json.dumps({"machine": facts, "zero_shot": zero_shot, **outcome}) if as_json else _told(outcome))


def _train(settings: Settings, data: str, zero_shot: str) -> list[Attributes]:
    """Generations 1 and 2, of one training; the attributes of the data's users."""
    from models.cotrain import cotrain  # noqa: PLC0415  # torch, which no child process of this module needs
    from models.export import export  # noqa: PLC0415
    from models.split import split_by_time  # noqa: PLC0415

    dataset = jobs.open_dataset(Settings(), data, lambda *_: None)
    errors.print("training for one epoch")
    config = jobs.training_config({"epochs": 1, "device": "cpu"}, {"zero_shot": zero_shot})
    trained = cotrain(dataset, split_by_time(dataset), config, lambda _: None)
    for number in (OLD, NEW):
        export(trained, dataset, {}, settings.generations, lowest=number)
    names = list(dataset.description.users.attributes)
    return [
        {str(name): getattr(value, "item", lambda value=value: value)() for name, value in row.items()}
        for row in dataset.users[names].astype(object).to_dict("records")
    ]


async def _publish(settings: Settings) -> Generation:
    """Both generations in Triton and on record, the old one active."""
    from models.artifact import generation_record  # noqa: PLC0415
    from models.publish import publish  # noqa: PLC0415

    towers, generations = compose.towers(settings), compose.generations(settings)
    for number in (OLD, NEW):
        folder = settings.generations / str(number)
        await asyncio.to_thread(publish, folder, settings.repository, "cpu")
        await towers.load(number)
        await generations.record(*generation_record(folder))
    await generations.activate(OLD, None)
    found = await generations.get(OLD)
    await towers.close()
    await generations.close()
    assert found is not None
    return found


async def _sign_up(settings: Settings, users: int, attributes: Sequence[Attributes], generation: Generation) -> None:
    store = compose.store(settings.model_copy(update={"redis_timeout": 60.0}))
    rng = np.random.default_rng(0)
    virtual = [
        VirtualBehaviour(OLD, rng.normal(size=generation.virtual_shape).astype(np.float32)) for _ in range(SHARE)
    ]
    at_ms = round(time.time() * 1000) - 1
    for start in range(0, users, SHARE):
        page = range(start, min(start + SHARE, users))
        rows = [
            EnrichedUser(f"user-{each}", attributes[each % len(attributes)], virtual[each % SHARE], at_ms)
            for each in page
        ]
        await store.write_enriched(rows)
    await store.close()


async def _tower_alone(settings: Settings, attributes: Sequence[Attributes]) -> float:
    """Users a second that the tower computes, in calls of `SHARE` users one after the other."""
    towers = compose.towers(settings.model_copy(update={"triton_timeout": 60.0}))
    batch = [attributes[each % len(attributes)] for each in range(SHARE)]
    for _ in range(5):
        await towers.virtual_behaviour(batch, NEW)
    began, calls = time.perf_counter(), 0
    while time.perf_counter() - began < TOWER_SECONDS:
        await towers.virtual_behaviour(batch, NEW)
        calls += 1
    rate = calls * SHARE / (time.perf_counter() - began)
    await towers.close()
    return rate


def _fill(settings: Settings, workers: int, *, kill: bool) -> Seen:
    """All of it: the workers, the coordinator, what is killed and started again, and the memory that they take."""
    seen = Seen()
    receiver, sender = SPAWN.Pipe(duplex=False)
    targets: dict[str, Any] = {f"worker-{each}": (_work, (settings,)) for each in range(workers)}
    running = {name: _started(*target) for name, target in targets.items()}
    time.sleep(8)  # until the group has formed
    targets["coordinator"] = _coordinate, (settings, sender)
    running["coordinator"] = _started(*targets["coordinator"])
    chance = random.Random(0)  # noqa: S311  # of when to kill
    next_kill = time.monotonic() + chance.uniform(1, 4)
    with _watched_memory(running, seen), _ending(running):
        while seen.coverage is None:
            if receiver.poll(0.05):
                _note(seen, *receiver.recv())
            for name, process in running.items():
                if not process.is_alive() and seen.coverage is None:
                    running[name] = _started(*targets[name])
            if kill and seen.began and not seen.filled and time.monotonic() >= next_kill:
                victim = running[chance.choice(list(running))]
                if victim.pid is not None:
                    os.kill(victim.pid, signal.SIGKILL)
                    seen.killed += 1
                next_kill = time.monotonic() + chance.uniform(2, 6)
    return seen


def _note(seen: Seen, at: float, what: str, coverage: Coverage | None) -> None:
    if what == "walking":
        seen.began = seen.began or at
    elif what == "counting":
        seen.filled = seen.filled or at
    else:
        seen.ended, seen.coverage = at, coverage


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


@contextmanager
def _watched_memory(running: dict[str, Any], seen: Seen) -> Iterator[None]:
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.25):
            for name, process in list(running.items()):
                seen.memory.setdefault(name, []).append((time.time(), _resident(process.pid)))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _resident(pid: int) -> float:
    """MiB; 0 for a process that is gone."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0.0
    lines = [line for line in status.splitlines() if line.startswith("VmRSS")]
    return int(lines[0].split()[1]) / 1024 if lines else 0.0


def _work(settings: Settings) -> None:
    asyncio.run(jobs.serve_worker(settings))


def _coordinate(settings: Settings, sender: Any) -> None:
    asyncio.run(_coordinated(settings, sender))


async def _coordinated(settings: Settings, sender: Any) -> None:
    from features.progress import RedisProgress  # noqa: PLC0415
    from features.redis_address import RedisAddress  # noqa: PLC0415
    from streams.backlog import KafkaBacklog  # noqa: PLC0415
    from streams.reenrichment import Reenrichment, ReenrichmentConfig  # noqa: PLC0415
    from streams.topics import TopicNames  # noqa: PLC0415

    names = TopicNames(settings.topic_prefix)
    progress = RedisProgress(RedisAddress.parse(settings.redis or ""), prefix=settings.project)
    backlog = KafkaBacklog(compose.kafka_connection(settings), names.group, names.reenrich)
    told: set[bool] = set()

    def report(_done: int, total: int | None) -> None:
        counting = total is not None
        if counting not in told:
            told.add(counting)
            sender.send((time.time(), "counting" if counting else "walking", None))

    async with compose.parts(settings) as parts:
        config = ReenrichmentConfig(grace=0.0, look_every=0.1)
        way = Reenrichment(parts, progress, backlog, topic=names.reenrich, config=config)
        coverage = await way.run(NEW, report)
        sender.send((time.time(), "done", coverage))
    await backlog.close()
    await progress.close()


def _outcome(users: int, seen: Seen, alone: float) -> dict[str, Any]:
    rate = users / (seen.filled - seen.began)
    return {
        "users": users,
        "users_per_second": round(rate),
        "tower_alone_per_second": round(alone),
        "ratio": round(rate / alone, 3),
        "seconds_filling": round(seen.filled - seen.began, 2),
        "seconds_with_the_last_look": round(seen.ended - seen.began, 2),
        "killed": seen.killed,
        "coverage": asdict(seen.coverage) if seen.coverage else None,
        "peak_mib": {
            name: dict(zip(("first_tenth", "all"), map(round, seen.peaks(name)), strict=True)) for name in seen.memory
        },
    }


def _told(outcome: dict[str, Any]) -> str:
    return "\n".join(f"{name:28} {value}" for name, value in outcome.items())


if __name__ == "__main__":
    typer.run(main)
