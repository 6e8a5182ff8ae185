"""Swaps of generations under load, on an embedded stack of the benchmark's own."""

import asyncio
import multiprocessing
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Event
from typing import TYPE_CHECKING, Any

import numpy as np
from aiokafka import AIOKafkaConsumer, TopicPartition

from benchmarks.apache_kafka import ApacheKafka
from benchmarks.swap.figures import SETTLED, Swap, SwapRun
from benchmarks.swap.load import AGE_MS, LoadPlan, LoadRecord, UserGroup
from benchmarks.swap.load import run as run_load
from benchmarks.swap.processor_use import ProcessorMeter
from benchmarks.swap.starting import wait_for_all_parts
from benchmarks.trained_stack import Broker, own_stack
from foretaste import compose, embedded
from foretaste.kernel.errors import ForetasteError, InvalidInput
from foretaste.kernel.events import Topic, UserEnriched
from foretaste.kernel.ports import Report
from foretaste.kernel.users import BehavedUser, Behaviour, EnrichedUser, VirtualBehaviour
from foretaste.settings import Settings
from foretaste.stack.environment import TritonEnvironment
from foretaste.stack.progress import silent
from foretaste.stack.stack import Stack
from models.generations import publish as publishing
from models.runtime.priority import quietly
from streams.parts import SignUpParts

if TYPE_CHECKING:
    from benchmarks.swap.generations import LoadUser
    from models.data.dataset import Dataset
    from models.training.config import TrainingConfig

FIRST = 1
SPAWN = multiprocessing.get_context("spawn")
LONGEST = 3600.0
"""Seconds of load, at most."""
PAGE = 500
SHARES: Mapping[UserGroup, float] = {"cold": 0.6, "warming": 0.15, "warm": 0.15, "new": 0.1}
"""Of the ranking requests, by the group of the user."""
ACTED = "acted"


@dataclass(frozen=True, slots=True)
class SwapPlan:
    """The load and the swaps. Rates are a second; `users` are cold, and a quarter as many each are warming and warm."""

    swaps: int = 10
    rank_rate: float = 300.0
    sign_up_rate: float = 100.0
    users: int = 2000
    seconds_before: float = 20.0
    rest: float = 3.0
    warm_up: float = 5.0
    """Seconds of load before anything counts."""
    candidates: int = 20
    sample_every: int = 20
    seed: int = 0
    broker: Broker = "tansu"


@dataclass(frozen=True, slots=True)
class SwapResult:
    """The recorded run, and the cores that each process used before the swaps and during them."""

    run: SwapRun
    cores: Mapping[str, Mapping[str, float]]


def swap_benchmark(
    settings: Settings,
    plan: SwapPlan,
    dataset: "Dataset",
    training: "TrainingConfig",
    environment: TritonEnvironment,
    report: Report = silent,
) -> SwapResult:
    """Run the whole benchmark, on a stack of its own in `settings.home`.

    1. Training; a generation for each swap. 2. The stack; generation 1 active; stored users of every kind.
    3. The load, and the swaps under it. 4. Sampled answers are compared with those of the artifacts.
    Raises `ForetasteError` when a swap fails, or the load's process, and `InvalidInput` for a home that is in use.
    """
    if settings.generations.exists():
        raise InvalidInput("home", str(settings.home), "expected a folder without generations")
    if plan.broker == "apache":
        ApacheKafka.found(settings.home)  # or it is missed once all is trained
    from benchmarks.swap.generations import write_generations  # noqa: PLC0415  # torch, which the load has no use for

    write_generations(dataset, training, settings.generations, plan.swaps + 1, plan.seed, report)
    with own_stack(settings, environment, plan.broker, report) as (stack, resolved):
        asyncio.run(_published(resolved))
        api = embedded.start_processes(stack, resolved)
        people = asyncio.run(_store_users(resolved, plan, dataset, training.warm_after))
        load = _load_plan(plan, api, people, dataset)
        asyncio.run(wait_for_all_parts(resolved, api, load.attributes[0], load.items[0]))
        return _under_load(stack, resolved, plan, load, people, report)


def _under_load(
    stack: Stack, settings: Settings, plan: SwapPlan, load: LoadPlan, people: "Mapping[str, LoadUser]", report: Report
) -> SwapResult:
    from benchmarks.swap.generations import LoadUser, check_answers  # noqa: PLC0415

    with _loading(load, settings) as loading:
        processors = ProcessorMeter(stack.home, {"load": loading.pid})
        report("steady load", 0, 1)
        time.sleep(plan.warm_up)
        steady, beginning = time.monotonic(), processors.read()
        time.sleep(plan.seconds_before)
        report("steady load", 1, 1)
        before = processors.read()
        swaps, incidents = [], []
        for number in range(FIRST + 1, FIRST + plan.swaps + 1):
            swaps.append(quietly(partial(asyncio.run, _swap(settings, number))))  # as `foretaste cotrain` runs
            incidents += [f"{each.part} {each.what}: {each.detail}" for each in stack.watch()]
            report("swap", number - FIRST, plan.swaps)
            time.sleep(max(plan.rest, SETTLED))
        after, ended = processors.read(), time.monotonic()
        record = loading.end()
    new = dict(load.sign_up(number) for number in range(len(record.sign_ups)))
    registered_ms = {each.user_id: round(1000 * each.sent_at) for each in record.sign_ups}
    enriched_at, unfilled = asyncio.run(_settled(settings, [each.user_id for each in record.sign_ups], plan))
    newcomers = {
        user_id: LoadUser(attributes, Behaviour(), registered_ms[user_id]) for user_id, attributes in new.items()
    }
    everyone = {**people, **newcomers}
    checked = check_answers(record.samples, everyone, settings.generations)
    run = SwapRun(steady, ended, swaps, record, enriched_at, unfilled, checked, incidents)
    return SwapResult(run, {"before": before.since(beginning), "during": after.since(before)})


async def _swap(settings: Settings, number: int) -> Swap:
    """Swap one generation in, by the steps that a refresh takes once the gate admits it."""
    async with compose.refresh_parts(settings) as parts:
        began = time.monotonic()
        await publishing.load(parts.publish, number)
        loaded = time.monotonic()
        await parts.reenrich(number, silent)
        filled = time.monotonic()
        await publishing.activate(parts.publish, number, number - 1, "swap benchmark", filled=True)
        moved = time.monotonic()
        if number - 2 >= FIRST:
            await publishing.retire(parts.publish, number - 2, delete=False)
        return Swap(number, began, loaded, filled, moved, time.monotonic())


async def _published(settings: Settings) -> None:
    async with compose.publish_parts(settings) as parts:
        await publishing.publish(parts, FIRST)


async def _store_users(
    settings: Settings, plan: SwapPlan, dataset: "Dataset", warm_after: int
) -> "dict[str, LoadUser]":
    """Write users of every group as the workers write them, with virtual behaviour of generation 1; return them."""
    from benchmarks.swap.generations import LoadUser, attributes_of  # noqa: PLC0415

    rng = np.random.default_rng(plan.seed)
    attributes, items = attributes_of(dataset), _items(dataset)
    groups: dict[UserGroup, tuple[int, int, int]] = {
        "cold": (plan.users, 0, 0),
        "warming": (max(plan.users // 4, 1), 1, warm_after - 1),
        "warm": (max(plan.users // 4, 1), warm_after, 2 * warm_after),
    }
    people: dict[str, LoadUser] = {}
    for group, (count, least, most) in groups.items():
        for number in range(count):
            seen = int(rng.integers(least, most + 1))
            chosen = [items[at] for at in rng.permutation(len(items))[:seen]]
            behaviour = Behaviour(chosen, [ACTED] * len(chosen), [1000 * (1 + at) for at in range(len(chosen))])
            people[f"{group}-{number}"] = LoadUser(attributes[int(rng.integers(len(attributes)))], behaviour)
    async with compose.parts(settings) as parts:
        for start in range(0, len(people), PAGE):
            await _write(parts, dict(list(people.items())[start : start + PAGE]))
    return people


async def _write(parts: SignUpParts, people: "Mapping[str, LoadUser]") -> None:
    vectors = await parts.towers.virtual_behaviour([person.attributes for person in people.values()], FIRST)
    at_ms = round(time.time() * 1000)
    await parts.store.write_enriched(
        [
            EnrichedUser(user_id, person.attributes, VirtualBehaviour(FIRST, vector), at_ms, first_ms=at_ms - AGE_MS)
            for (user_id, person), vector in zip(people.items(), vectors, strict=True)
        ]
    )
    await parts.store.write_behaviour(
        [BehavedUser(user_id, person.behaviour) for user_id, person in people.items() if person.behaviour]
    )


def _load_plan(plan: SwapPlan, api: str, people: "Mapping[str, LoadUser]", dataset: "Dataset") -> LoadPlan:
    from benchmarks.swap.generations import attributes_of  # noqa: PLC0415

    groups: tuple[UserGroup, ...] = ("cold", "warming", "warm")
    return LoadPlan(
        api=api,
        rank_rate=plan.rank_rate,
        sign_up_rate=plan.sign_up_rate,
        seconds=LONGEST,
        users={group: [user_id for user_id in people if user_id.startswith(f"{group}-")] for group in groups},
        shares=SHARES,
        attributes=attributes_of(dataset),
        items=_items(dataset),
        candidates=plan.candidates,
        sample_every=plan.sample_every,
        seed=plan.seed,
    )


def _items(dataset: "Dataset") -> list[str]:
    return [str(item) for item in dataset.items["item_id"]]


@dataclass(frozen=True, slots=True)
class _Loading:
    """The load's process."""

    pid: int
    _ended: Event
    _from: Connection

    def end(self) -> LoadRecord:
        """Tell the process to end, and return its record. Raises `ForetasteError` where it died."""
        self._ended.set()
        record: LoadRecord = _received(self._from)
        return record


@contextmanager
def _loading(plan: LoadPlan, settings: Settings) -> Iterator[_Loading]:
    """Run the load in a process of its own while inside; the process is connected on entry."""
    ended = SPAWN.Event()
    here, there = SPAWN.Pipe(duplex=False)
    process = SPAWN.Process(target=run_load, args=(plan, settings, ended, there), daemon=True)
    process.start()
    there.close()  # so that its death is seen
    try:
        _received(here)
        yield _Loading(process.pid or 0, ended, here)
    finally:
        ended.set()
        process.join(5)
        process.kill()
        process.join()


def _received(pipe: Connection) -> Any:
    try:
        return pipe.recv()
    except EOFError as error:
        raise ForetasteError("the load's process died") from error


async def _settled(settings: Settings, signed_up: Sequence[str], plan: SwapPlan) -> tuple[dict[str, float], int]:
    """When each new user's virtual behaviour was written, and how many users lack that of the last generation."""
    enriched_at = await _enriched(settings, set(signed_up))
    last = FIRST + plan.swaps
    async with compose.parts(settings) as parts:
        generation = await parts.generations.get(last)
        if generation is None:
            raise InvalidInput("generation", last, "is not recorded")
        lacking = 0
        for start in range(0, len(signed_up), PAGE):
            found = await parts.store.read(signed_up[start : start + PAGE], last)
            lacking += sum(generation.virtual_of(user) is None for user in found)
    return enriched_at, lacking


async def _enriched(settings: Settings, wanted: set[str], patience: float = 10.0) -> dict[str, float]:
    """Epoch seconds by user, read from `user-enriched` until all are found or nothing comes for `patience` seconds."""
    topic = f"{settings.topic_prefix}{Topic.ENRICHED}"
    found: dict[str, float] = {}
    arguments = compose.kafka_connection(settings).client_arguments()
    consumer = AIOKafkaConsumer(**arguments, group_id=None, enable_auto_commit=False, auto_offset_reset="earliest")
    await consumer.start()
    try:
        consumer.assign([TopicPartition(topic, partition) for partition in range(settings.partitions)])
        heard = time.monotonic()
        while wanted - found.keys() and time.monotonic() - heard < patience:
            for records in (await consumer.getmany(timeout_ms=500)).values():
                heard = time.monotonic()
                for record in records:
                    event = UserEnriched.model_validate_json(record.value)
                    found.setdefault(event.user_id, _epoch(event.enriched_at))
    finally:
        await consumer.stop()
    return found


def _epoch(at: datetime) -> float:
    return at.astimezone(UTC).timestamp()
