"""How fast the ranking service answers, beside what the parts under it need alone, in the same run.

    python -m benchmarks rank --json

A stack of its own in a temporary folder: a broker, Redis, Triton, and the service as `foretaste serve` runs it. The
towers are trained for one epoch; how good they are does not matter here. A third of the users is cold, a third warming,
a third warm. Each round times, one after the other: the floor (one read of Redis and one call of Triton with the
tensors of a ranking), ONNX Runtime in this process, the service with one request at a time, and with 64 at once.
"""

import asyncio
import itertools
import json
import tempfile
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import numpy as np
import typer

from benchmarks.machine import machine
from benchmarks.processes import family, processor_seconds
from benchmarks.ranking.http_client import Connection
from benchmarks.ranking.served import Service, prepared, served
from benchmarks.trained_stack import Broker
from foretaste import compose
from foretaste.console import errors
from foretaste.kernel.ports import OnlineStore
from foretaste.kernel.ranking import RankingInput, account_age_ms
from foretaste.kernel.users import UserFeatures
from foretaste.settings import Settings
from foretaste.stack.record import running_stack

CANDIDATES = 100
AT_ONCE = 64
WARM_UP = 200
"""Requests before anything is timed."""
ONE_BY_ONE = 300
"""Requests of a round, one at a time."""
SECONDS = 4.0
"""Of a round with 64 at once."""


@dataclass
class RankMeasurement:
    """What the rounds gave: seconds of each request, by what was asked, one list a round."""

    seconds: dict[str, list[list[float]]] = field(default_factory=lambda: defaultdict(list))
    per_second: list[float] = field(default_factory=list)
    """With 64 at once."""
    processor_ms: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    """Milliseconds a ranking by process, one request at a time."""
    processor_ms_64: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    served_by: dict[str, int] = field(default_factory=lambda: defaultdict(int))


def rank(
    data: Annotated[str, typer.Option(help="ml-100k, ml-1m, or a dataset folder.")] = "ml-100k",
    broker: Annotated[Broker, typer.Option(help="tansu, or apache: the distribution in KAFKA_HOME.")] = "tansu",
    rounds: Annotated[int, typer.Option(min=1, help="Medians are told, with the lowest and the highest.")] = 5,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Time rankings of 100 candidates: one at a time and 64 at once, beside one Redis read and one Triton call."""
    facts = machine()
    with tempfile.TemporaryDirectory(prefix="foretaste-bench-") as folder, ExitStack() as opened:
        service = prepared(Path(folder), data, broker, opened)
        with served(service) as process:
            pids = _pids(service.settings, process.pid)
            measured = asyncio.run(_measured(service, pids, rounds))
    figures = _figures(measured, rounds)
    typer.echo(json.dumps({"machine": facts, **figures}) if as_json else _text(figures))


def _pids(settings: Settings, api: int) -> dict[str, list[int]]:
    stack = running_stack(settings.home)
    assert stack is not None
    triton, *stubs = family(stack.parts["triton"].pid)
    return {
        "api": [api],
        "triton": [triton],
        "triton stubs": stubs,
        "redis": family(stack.parts["redis"].pid),
        "kafka": family(stack.parts["kafka"].pid),
    }


async def _measured(service: Service, pids: Mapping[str, Sequence[int]], rounds: int) -> RankMeasurement:
    measured = RankMeasurement()
    bodies = itertools.cycle(service.bodies(CANDIDATES))
    store, towers = compose.store(service.settings), compose.towers(service.settings)
    users = itertools.cycle(service.users)
    inputs = itertools.cycle(await _inputs(service, store))
    session = service.ranking_session()
    feeds = itertools.cycle(session.feeds([next(inputs) for _ in range(64)]))

    async def one_by_one(count: int) -> list[float]:
        async with Connection(service.port) as connection:

            async def ask() -> None:
                status, answer = await connection.post("/v1/rank", next(bodies))
                assert status == 200, answer
                measured.served_by[json.loads(answer)["served_by"]] += 1

            return await _timed(ask, count)

    async def floor() -> None:
        await store.read([next(users)], 1)
        await towers.score([next(inputs)], 1)

    async def in_process() -> None:
        session.run(next(feeds))

    await _timed(floor, WARM_UP)
    await one_by_one(WARM_UP)
    for number in range(rounds):
        measured.seconds["floor"].append(await _timed(floor, ONE_BY_ONE))
        measured.seconds["in_process"].append(await _timed(in_process, ONE_BY_ONE))
        before = _used(pids)
        measured.seconds["one"].append(await one_by_one(ONE_BY_ONE))
        _add(measured.processor_ms, before, _used(pids), ONE_BY_ONE)
        before = _used(pids)
        taken, seconds = await _at_once(service.port, bodies)
        measured.seconds["64"].append(taken)
        measured.per_second.append(len(taken) / seconds)
        _add(measured.processor_ms_64, before, _used(pids), len(taken))
        errors.print(f"round {number + 1} of {rounds}")
    await store.close()
    await towers.close()
    return measured


async def _inputs(service: Service, store: OnlineStore) -> list[RankingInput]:
    """The towers' inputs of every user, as a ranking makes them."""
    users: list[UserFeatures] = await store.read(service.users, 1)
    now_ms = round(time.time() * 1000)
    items = itertools.cycle(service.candidates(CANDIDATES))
    return [
        RankingInput(
            each.attributes or {},
            {},
            each.behaviour,
            service.mean_virtual if each.virtual is None else each.virtual.vectors,
            next(items),
            account_age_ms(each.registered_ms, now_ms),
        )
        for each in users
    ]


async def _timed(call: Callable[[], Awaitable[None]], count: int) -> list[float]:
    taken = []
    for _ in range(count):
        began = time.perf_counter()
        await call()
        taken.append(time.perf_counter() - began)
    return taken


async def _at_once(port: int, bodies: "itertools.cycle[bytes]") -> tuple[list[float], float]:
    """Seconds of each request of 64 clients who ask again as soon as they are answered, and the seconds in all."""
    taken: list[float] = []
    end = time.perf_counter() + SECONDS

    async def client() -> None:
        async with Connection(port) as connection:
            while (began := time.perf_counter()) < end:
                status, answer = await connection.post("/v1/rank", next(bodies))
                assert status == 200, answer
                taken.append(time.perf_counter() - began)

    began = time.perf_counter()
    async with asyncio.TaskGroup() as clients:
        for _ in range(AT_ONCE):
            clients.create_task(client())
    return taken, time.perf_counter() - began


def _used(pids: Mapping[str, Sequence[int]]) -> dict[str, float]:
    return {name: processor_seconds(each) for name, each in pids.items()}


def _add(into: dict[str, list[float]], before: Mapping[str, float], now: Mapping[str, float], count: int) -> None:
    for name, used in now.items():
        into[name].append(1000 * (used - before[name]) / count)


OWN = ("api", "triton", "triton stubs")


def _figures(measured: RankMeasurement, rounds: int) -> dict[str, Any]:
    def at(name: str, percent: float) -> dict[str, float]:
        return _spread([1000 * float(np.percentile(each, percent)) for each in measured.seconds[name]])

    own = [sum(measured.processor_ms[name][number] for name in OWN) for number in range(rounds)]
    own_64 = [sum(measured.processor_ms_64[name][number] for name in OWN) for number in range(rounds)]
    spread = {
        "p50_ms": at("one", 50),
        "p99_ms": at("one", 99),
        "floor_p50_ms": at("floor", 50),
        "in_process_p50_ms": at("in_process", 50),
        "per_second_64": _spread(measured.per_second),
        "p99_64_ms": at("64", 99),
        "processor_ms": _spread(own),
        "processor_64_ms": _spread(own_64),
    }
    return {
        **{name: each["median"] for name, each in spread.items()},
        "to_floor": round(spread["p50_ms"]["median"] / spread["floor_p50_ms"]["median"], 2),
        "candidates": CANDIDATES,
        "rounds": rounds,
        "spread": spread,
        "processor_ms_by_process": {name: _spread(each) for name, each in measured.processor_ms.items()},
        "processor_64_ms_by_process": {name: _spread(each) for name, each in measured.processor_ms_64.items()},
        "served_by": dict(measured.served_by),
    }


def _spread(values: Sequence[float]) -> dict[str, float]:
    return {
        "median": round(median(values), 3),
        "lowest": round(min(values), 3),
        "highest": round(max(values), 3),
    }


def _text(figures: Mapping[str, Any]) -> str:
    return "\n".join(f"{name:28} {value}" for name, value in figures.items())
