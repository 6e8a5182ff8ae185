"""A stack of its own with one trained generation, users of every stage, and the ranking service beside it."""

import asyncio
import json
import multiprocessing
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from benchmarks.http_client import Connection
from foretaste import compose, embedded
from foretaste.cli.processes import serve_api
from foretaste.kernel.generations import Generation
from foretaste.kernel.ranking import RankingInput
from foretaste.kernel.users import BehavedUser, Behaviour, EnrichedUser, VirtualBehaviour
from foretaste.kernel.values import FloatArray
from foretaste.settings import Settings
from foretaste.stack.environment import ensure_triton_environment
from foretaste.stack.stack import Stack, plan
from models.data.sources.public import open_dataset
from models.runtime import layout
from models.runtime.encoding import Encoding

NUMBER = 1
"""Of the one generation."""
SPAWN = multiprocessing.get_context("spawn")
SEEN = (0, 2, 40)
"""Behaviours of a user, in turn: cold, warming, warm."""
STARTING = 60.0
"""Seconds that the service may take to answer."""


@dataclass(frozen=True)
class Service:
    """The ranking service of a stack, and what is stored there."""

    settings: Settings
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
        return RankingSession(self.settings.generations / str(NUMBER))


class RankingSession:
    """The ranking graph alone, in ONNX Runtime in this process, on one thread."""

    def __init__(self, folder: Path) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(str(folder / layout.RANKING), options)
        self._encoding = Encoding.from_json((folder / layout.ENCODING).read_text(encoding="utf-8"))

    def feeds(self, requests: Sequence[RankingInput]) -> list[dict[str, Any]]:
        """The encoded inputs of each request."""
        made = []
        for request in requests:
            items, actions = self._encoding.encode_behaviour(request.behaviour.items, request.behaviour.actions)
            made.append(
                {
                    "attributes": self._encoding.encode_attributes([request.attributes]),
                    "context": self._encoding.encode_context([request.context]),
                    "items": items[None],
                    "actions": actions[None],
                    "virtual": request.virtual[None],
                    "candidates": self._encoding.encode_items(request.items),
                    "owner": np.zeros(len(request.items), dtype=np.int64),
                }
            )
        return made

    def run(self, feed: dict[str, Any]) -> None:
        self._session.run(None, feed)


def prepared(
    home: Path,
    data: str,
    opened: ExitStack,
    report: Callable[[str], None],
    train: Callable[[Settings, str], tuple[list[str], list[dict[str, Any]]]] | None = None,
) -> Service:
    """Train, start the stack within `opened`, publish, and store the users of the data set.

    `train` exports the generation `NUMBER` in place of one that is trained for an epoch; it returns the items that it
    knows and the attributes of the users.
    """
    settings = Settings(home=home, redis_timeout=30.0, triton_timeout=30.0, api_port=_free_port())
    report("training for one epoch")
    items, attributes = (train or _train)(settings, data)
    environment = ensure_triton_environment(Settings().home, lambda step, *_: report(step))
    opened.enter_context(Stack(home, plan(home, {}, triton_environment=environment)))
    settings = compose.resolve(settings)
    embedded.prepare(settings)
    generation = asyncio.run(_publish(settings))
    users = [f"user-{number}" for number in range(len(attributes))]
    report(f"writing {len(users)} users")
    asyncio.run(_store(settings, users, attributes, items, generation))
    return Service(settings, users, items, generation.mean_virtual)


def _train(settings: Settings, data: str) -> tuple[list[str], list[dict[str, Any]]]:
    """One generation; the items that it knows, and the attributes of the data's users."""
    from models.data.split import split_by_time  # noqa: PLC0415
    from models.generations.export import export  # noqa: PLC0415
    from models.training.config import TrainingConfig  # noqa: PLC0415
    from models.training.cotrain import cotrain  # noqa: PLC0415  # torch, which the service does not need

    dataset = open_dataset(data, Settings().home / "data")
    trained = cotrain(dataset, split_by_time(dataset), TrainingConfig(epochs=1, device="cpu"), lambda _: None)
    export(trained, dataset, {}, settings.generations, lowest=NUMBER)
    rows: list[dict[str, Any]] = json.loads(
        dataset.users[list(dataset.description.users.attributes)].to_json(orient="records")
    )
    return list(trained.encoding.items), rows


async def _publish(settings: Settings) -> Generation:
    from models.generations.publish import publish  # noqa: PLC0415

    async with compose.publish_parts(settings) as parts:
        await publish(parts, NUMBER)
        found = await parts.generations.get(NUMBER)
    assert found is not None
    return found


async def _store(
    settings: Settings,
    users: Sequence[str],
    attributes: Sequence[dict[str, Any]],
    items: Sequence[str],
    generation: Generation,
) -> None:
    store, towers = compose.store(settings), compose.towers(settings)
    rng, at_ms = np.random.default_rng(1), round(time.time() * 1000) - 1000
    virtual = await towers.virtual_behaviour(attributes, NUMBER)
    await store.write_enriched(
        [
            EnrichedUser(user, row, VirtualBehaviour(NUMBER, vectors), at_ms)
            for user, row, vectors in zip(users, attributes, virtual, strict=True)
        ]
    )
    behaved = []
    for number, user in enumerate(users):
        seen = SEEN[number % len(SEEN)]
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
    asyncio.run(serve_api(settings))


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
