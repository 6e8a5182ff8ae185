"""How many users a second the two forms of the online store write and read on the same Redis.

    python -m benchmarks online-store --json

A Redis of its own in a temporary folder. `redis` is the fast form of Feast's layout, `feast` goes through Feast's API
alone. Both take turns in one process, first one and then the other one first; each round writes users who are new.
"""

import asyncio
import json
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import numpy as np
import typer

from benchmarks.machine import machine
from foretaste import compose
from foretaste.kernel.ports import OnlineStore
from foretaste.kernel.users import BehavedUser, Behaviour, EnrichedUser, UserFeatures, VirtualBehaviour
from foretaste.kernel.values import Attributes
from foretaste.settings import Settings
from foretaste.stack.parts import Redis
from foretaste.stack.stack import Stack, StackPlan

BATCH = 256
SHAPE = (4, 32)
"""(M, D) of the virtual behaviour."""
SEEN = 20
"""Behaviours of a user."""
AT = 1_767_225_600_000
Call = Callable[[Sequence[str]], Awaitable[object]]


def online_store(
    batches: Annotated[int, typer.Option(min=1, help=f"Of {BATCH} users, of each round and form.")] = 20,
    rounds: Annotated[int, typer.Option(min=1, help="Of each form; medians are told.")] = 5,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Time both forms of the online store on one Redis: users written and read a second."""
    users = batches * BATCH
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        with Stack(home, StackPlan([Redis(home / "redis")], {}, [])) as stack:
            settings = Settings(home=home, redis=stack.addresses["redis"], redis_timeout=30)
            found = asyncio.run(_measured(settings, users, rounds))
    facts = {"machine": machine(), "users": users, "batch": BATCH, "rounds": rounds, **found}
    typer.echo(json.dumps(facts) if as_json else _table(facts))


async def _measured(settings: Settings, users: int, rounds: int) -> dict[str, Any]:
    forms = {
        "redis": settings.model_copy(update={"project": "fast", "registry": str(settings.home / "fast.db")}),
        "feast": settings.model_copy(
            update={"project": "slow", "registry": str(settings.home / "slow.db"), "online_store": "feast"}
        ),
    }
    stores: dict[str, OnlineStore] = {}
    for name, each in forms.items():
        await asyncio.to_thread(compose.apply_features, each)
        stores[name] = compose.store(each)
    seconds: dict[str, dict[str, list[float]]] = {name: {} for name in forms}
    for number in range(-1, rounds):  # the first one warms up
        for name in list(forms)[:: 1 if number % 2 else -1]:
            for what, taken in (await _round(stores[name], [f"u{number}-{each}" for each in range(users)])).items():
                if number >= 0:
                    seconds[name].setdefault(what, []).append(taken)
    for store in stores.values():
        await store.close()
    a_second = {
        name: {what: _figures([users / each for each in taken]) for what, taken in of_form.items()}
        for name, of_form in seconds.items()
    }
    ratio = {what: round(a_second["redis"][what]["median"] / a_second["feast"][what]["median"], 2) for what in WHAT}
    return {"users_per_second": a_second, "redis_to_feast": ratio}


WHAT = ("signed up", "behaved", "read")


async def _round(store: OnlineStore, users: Sequence[str]) -> dict[str, float]:
    """Seconds for each of what a store does, for all of the users."""
    vectors = np.random.default_rng(0).normal(size=(BATCH, *SHAPE)).astype(np.float32)
    times = [AT + each for each in range(SEEN)]
    behaviour = Behaviour([f"item {each}" for each in range(SEEN)], ["clicked"] * SEEN, times)

    async def sign_up(batch: Sequence[str]) -> None:
        attributes: Attributes = {"country": "NO", "age": 31, "device": "phone"}
        rows = [
            EnrichedUser(user, attributes, VirtualBehaviour(1, each), AT)
            for user, each in zip(batch, vectors, strict=True)
        ]
        await store.write_enriched(rows)

    async def behave(batch: Sequence[str]) -> None:
        assert await store.write_behaviour([BehavedUser(user, behaviour) for user in batch]) == []

    async def read(batch: Sequence[str]) -> list[UserFeatures]:
        return await store.read(batch, 1)

    calls: dict[str, Call] = dict(zip(WHAT, (sign_up, behave, read), strict=True))
    return {what: await _timed(call, users) for what, call in calls.items()}


async def _timed(call: Call, users: Sequence[str]) -> float:
    started = time.perf_counter()
    for start in range(0, len(users), BATCH):
        await call(users[start : start + BATCH])
    return time.perf_counter() - started


def _figures(values: Sequence[float]) -> dict[str, int]:
    return {"median": round(median(values)), "lowest": round(min(values)), "highest": round(max(values))}


def _table(facts: dict[str, Any]) -> str:
    lines = [f"{'users a second':16} {'redis':>24} {'feast':>24} {'redis / feast':>14}"]
    for what in WHAT:
        of_form = [facts["users_per_second"][name][what] for name in ("redis", "feast")]
        shown = [f"{each['median']} ({each['lowest']} to {each['highest']})" for each in of_form]
        lines.append(f"{what:16} {shown[0]:>24} {shown[1]:>24} {facts['redis_to_feast'][what]:>14}")
    return "\n".join(lines)
