"""What it costs a worker to tell Redis how far it has come, and to wait for its disk, for each batch of sign-ups.

    python -m benchmarks durability --json

A Redis of its own with an append-only file, synced once a second first, and before each answer then. The ways take
turns batch by batch: `users` writes the users alone, `offsets` tells the store of four partitions besides, `disk` waits
for the disk besides.
"""

import asyncio
import json
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import numpy as np
import redis
import typer

from benchmarks.machine import machine
from features.online.redis_store import RedisStore
from foretaste import compose
from foretaste.kernel.users import EnrichedUser, VirtualBehaviour
from foretaste.settings import Settings
from foretaste.stack.parts import Redis
from foretaste.stack.stack import Stack, StackPlan

BATCH = 256
PARTITIONS = 4
SHAPE = (4, 32)
"""(M, D) of the virtual behaviour."""
AT = 1_767_225_600_000
WAYS = ("users", "offsets", "disk")
SYNCS = ("everysec", "always")
"""Redis' `appendfsync`."""


def durability(
    batches: Annotated[int, typer.Option(min=1, help=f"Of {BATCH} users, of each way.")] = 40,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Time a batch of sign-ups with and without what makes it durable, and the processor time of both sides."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        with Stack(home, StackPlan([Redis(home / "redis")], {}, [])) as stack:
            settings = Settings(home=home, redis=stack.addresses["redis"], redis_timeout=30)
            compose.apply_features(settings)
            found = asyncio.run(_measured(settings, batches))
    facts = {"machine": machine(), "batches": batches, "batch": BATCH, "ways": found}
    typer.echo(json.dumps(facts) if as_json else _table(found))


async def _measured(settings: Settings, batches: int) -> dict[str, dict[str, float]]:
    """By sync and way: the median milliseconds of a batch, and those of the processor here and in Redis."""
    store = compose.store(settings)
    if not isinstance(store, RedisStore):
        raise TypeError("the fast form is what is measured")
    taken: defaultdict[str, list[tuple[float, float, float]]] = defaultdict(list)
    with redis.Redis.from_url(settings.redis or "") as server:
        for syncs in SYNCS:
            server.config_set("appendfsync", syncs)
            await store.begin_offsets({(syncs, each): 0 for each in range(PARTITIONS)})
            for number in range(-1, batches):  # the first one warms up
                for way in WAYS[:: 1 if number % 2 else -1]:
                    clocks = await _batch(store, server, syncs, way, number)
                    if number >= 0:
                        taken[f"{syncs} {way}"].append(clocks)
    await store.close()
    return {way: _figures(each) for way, each in taken.items()}


async def _batch(
    store: RedisStore, server: redis.Redis, syncs: str, way: str, number: int
) -> tuple[float, float, float]:
    """Milliseconds of one batch: on the wall, of this process, of the server."""
    vectors = np.random.default_rng(0).normal(size=(BATCH, *SHAPE)).astype(np.float32)
    users = [
        EnrichedUser(f"{syncs} {way} {number} {each}", {"country": "NO", "age": 31}, VirtualBehaviour(1, vector), AT)
        for each, vector in enumerate(vectors)
    ]
    before = _clocks(server)
    await store.write_enriched(users)
    if way == "offsets":
        await store.advance_offsets({(syncs, each): (number + 1, number + 2) for each in range(PARTITIONS)})
    elif way == "disk":
        await store.synced()
    wall, own, servers = (1000 * (end - begin) for begin, end in zip(before, _clocks(server), strict=True))
    return wall, own, servers


def _clocks(server: redis.Redis) -> tuple[float, float, float]:
    """Seconds on the wall, of this process, and of the server."""
    used: Any = server.info("cpu")
    servers = used["used_cpu_user"] + used["used_cpu_sys"]
    return time.perf_counter(), time.process_time(), servers


def _figures(taken: list[tuple[float, float, float]]) -> dict[str, float]:
    walls, own, servers = zip(*taken, strict=True)
    return {
        "ms": round(median(walls), 2),
        "longest_ms": round(max(walls), 2),
        "processor_ms": round(median(own), 2),
        "redis_processor_ms": round(median(servers), 2),
    }


def _table(found: dict[str, dict[str, float]]) -> str:
    lines = [f"{'a batch':18} {'ms':>9} {'longest':>9} {'processor ms':>13} {'of Redis':>9}"]
    for way, figures in found.items():
        ms, longest, own, servers = figures.values()
        lines.append(f"{way:18} {ms:>9} {longest:>9} {own:>13} {servers:>9}")
    return "\n".join(lines)
