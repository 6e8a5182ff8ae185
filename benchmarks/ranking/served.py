"""A stack of its own with one trained generation, users of every stage, and the ranking service beside it."""

import asyncio
import json
import multiprocessing
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from benchmarks.ranking.http_client import Connection
from benchmarks.trained_stack import Broker, TrainedStack, trained_stack
from foretaste import compose
from foretaste.cli.processes import run_process, serve_api
from foretaste.console import errors
from foretaste.kernel.ranking import RankingInput
from foretaste.kernel.users import BehavedUser, Behaviour, EnrichedUser, VirtualBehaviour
from foretaste.kernel.values import FloatArray, IndexArray
from foretaste.settings import Settings
from models.runtime import layout
from models.runtime.encoding import Encoding
from models.runtime.towers import ServedRanking

Feed: TypeAlias = tuple[IndexArray, FloatArray, IndexArray, IndexArray]
"""Users, virtual behaviour, candidates and owners, as `ServedRanking.run` takes them."""
SHARE = 1000
"""Users of one call."""
SPAWN = multiprocessing.get_context("spawn")
SEEN = (0, 2, 40)
"""Behaviours of a user, in turn: cold, warming, warm."""
STARTING = 60.0
"""Seconds that the service may take to answer."""


@dataclass(frozen=True)
class Service:
    """The ranking service of a stack, and what is stored there."""

    settings: Settings
    generation: Path
    """The folder of the one generation."""
    users: Sequence[str]
    items: Sequence[str]
    mean_virtual: FloatArray

    @property
    def port(self) -> int:
        return self.settings.api_port

    def candidates(self, count: int) -> list[list[str]]:
        """A list of so many distinct items for each user."""
        rng = np.random.default_rng(0)
        return [[self.items[at] for at in rng.choice(len(self.items), count, replace=False)] for _ in self.users]

    def bodies(self, candidates: int) -> list[bytes]:
        """A ranking request of each user."""
        lists = self.candidates(candidates)
        return [
            json.dumps({"user_id": user, "items": items}).encode()
            for user, items in zip(self.users, lists, strict=True)
        ]

    def ranking_session(self) -> "RankingSession":
        return RankingSession(self.generation)


class RankingSession:
    """The ranking graph alone, in ONNX Runtime in this process, on one thread."""

    def __init__(self, folder: Path) -> None:
        self._tower = ServedRanking(folder)
        self._encoding = Encoding.from_json((folder / layout.ENCODING).read_text(encoding="utf-8"))

    def feeds(self, requests: Sequence[RankingInput]) -> list[Feed]:
        """The encoded inputs of each request."""
        return [
            (
                self._encoding.encode_users([request]),
                request.virtual[None],
                self._encoding.encode_items(request.items),
                np.zeros(len(request.items), dtype=np.int64),
            )
            for request in requests
        ]

    def run(self, feed: Feed) -> FloatArray:
        """The scores (R,)."""
        return self._tower.run(*feed)


def prepared(home: Path, data: str, broker: Broker, opened: ExitStack) -> Service:
    """A stack in `home` with one trained generation, until `opened` ends, and the users of the data set stored."""
    settings = Settings(home=home, redis_timeout=30.0, triton_timeout=30.0, api_port=_free_port())
    stack = opened.enter_context(trained_stack(settings, data, broker))
    folder = settings.generations / str(stack.generation.number)
    items = Encoding.from_json((folder / layout.ENCODING).read_text(encoding="utf-8")).items
    users = [f"user-{number}" for number in range(len(stack.attributes))]
    errors.print(f"writing {len(users)} users")
    asyncio.run(_store(stack, users, items))
    return Service(stack.settings, folder, users, items, stack.generation.mean_virtual)


async def _store(stack: TrainedStack, users: Sequence[str], items: Sequence[str]) -> None:
    store, towers = compose.store(stack.settings), compose.towers(stack.settings)
    rng, at_ms, number = np.random.default_rng(1), round(time.time() * 1000) - 1000, stack.generation.number
    for start in range(0, len(users), SHARE):
        attributes = stack.attributes[start : start + SHARE]
        virtual = await towers.virtual_behaviour(attributes, number)
        made = zip(users[start : start + SHARE], attributes, virtual, strict=True)
        await store.write_enriched(
            [EnrichedUser(user, row, VirtualBehaviour(number, vectors), at_ms) for user, row, vectors in made]
        )
    behaved = []
    for place, user in enumerate(users):
        seen = SEEN[place % len(SEEN)]
        chosen = [items[at] for at in rng.choice(len(items), seen, replace=False)]
        if seen:
            behaved.append(BehavedUser(user, Behaviour(chosen, ["liked"] * seen, [at_ms] * seen)))
    assert not await store.write_behaviour(behaved)
    await store.close()
    await towers.close()


@contextmanager
def served(service: Service) -> Iterator[Any]:
    """The ranking service in a process of its own, once it answers."""
    process = SPAWN.Process(target=_serve, args=(service.settings,), daemon=True)
    process.start()
    try:
        asyncio.run(_answering(service))
        yield process
    finally:
        process.terminate()
        process.join(20)


def _serve(settings: Settings) -> None:
    run_process(serve_api(settings))


async def _answering(service: Service) -> None:
    deadline = time.monotonic() + STARTING
    (body,) = service.bodies(1)[:1]
    while True:
        try:
            async with Connection(service.port) as connection:
                status, _ = await connection.post("/v1/rank", body)
        except OSError:
            status = 0
        if status == 200:
            return
        if time.monotonic() > deadline:
            raise TimeoutError(f"the service does not answer: {status}")
        await asyncio.sleep(0.1)


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])
