"""The system that is hurt: real servers and processes, one generation that serves, and a log to learn from."""

import asyncio
import json
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np

from benchmarks.swap.generations import LoadUser, attributes_of
from foretaste import compose, embedded
from foretaste.cli.user import send
from foretaste.demo.ranking_client import rank
from foretaste.kernel.events import Topic, UserBehaved, UserRegistered
from foretaste.kernel.generations import Generation
from foretaste.kernel.ports import OnlineStore
from foretaste.kernel.users import UserFeatures
from foretaste.settings import Settings, variable
from foretaste.stack.environment import TritonEnvironment
from foretaste.stack.parts import Api, LogWriter, Part, Redis, Triton, Watch, Worker
from foretaste.stack.running import Incident
from foretaste.stack.stack import Stack, StackPlan
from models.data.dataset import Dataset, read_dataset
from models.generations.repository import published
from models.towers.architecture import Architecture
from models.training.config import TrainingConfig
from tests import opened
from tests.data_factory import GENRES, SEGMENTS, write_dataset
from tests.faults.swaps.cases import Victim
from tests.integration.brokers import Broker

USERS = 2500
"""Who signed up before: a re-enrichment of them takes some seconds."""
ACTORS = 40
"""So many of the first half of them act before each case, in turn; the others stay cold."""
TURNS, SHOWN = 2, 8
"""Lists that each of them is shown, and their length."""
PATIENCE = 60.0
LOOK_EVERY = 0.1
SETTINGS: Mapping[str, Any] = {
    "kafka_fetch_wait": 0.02,
    "kafka_session_timeout": 6.0,
    "partitions": 4,
    "rank_timeout": 2.0,
    "redis_timeout": 2.0,
    "triton_timeout": 5.0,
    "reenrich_rate": 2000.0,
    "shown": 0,
    "outcome_window": 1.0,
    "log_settles": 0.5,
    "lease_seconds": 5.0,
}
"""What is shown counts where a request says so: the load teaches nothing."""
TRAINING: Mapping[str, Any] = {
    "architecture": Architecture(dimension=8, encoder=(32, 16, 16), hidden=(32, 16)),
    "epochs": 3,
    "least_steps": 1,
    "batch": 128,
    "device": "cpu",
    "threads": 1,
}


@dataclass(frozen=True, slots=True)
class State:
    """What can be read of the system while all its parts are there."""

    active: Generation
    previous: int | None
    filling: int | None
    lacking: int
    """Cold and warming users without current virtual behaviour of the active generation."""
    published: Sequence[int]
    """Versions in Triton's repository."""

    @property
    def left(self) -> set[int]:
        """Versions that nobody needs any more."""
        return set(self.published) - {self.active.number, self.previous}


@dataclass
class System:
    """All of Foretaste, and a broker that is the user's own."""

    stack: Stack
    broker: Broker
    settings: Settings
    api: str
    dataset: Dataset
    users: Sequence[str]
    turns: int = 0
    """So often some of them have acted."""
    incidents: list[Incident] = field(default_factory=list)

    @property
    def cold(self) -> Sequence[str]:
        return self.users[len(self.users) // 2 :]

    @property
    def acted(self) -> Sequence[str]:
        return self.users[: min(self.turns * ACTORS, len(self.users) // 2)]

    @property
    def items(self) -> list[str]:
        return [str(item) for item in self.dataset.items["item_id"]]

    def act(self) -> None:
        """The next users are shown items and act, and all of it can be read: each time another taste is in fashion.

        So every refresh learns something else, and generations can be told by what they answer.
        """
        may_act, first = self.users[: len(self.users) // 2], self.turns * ACTORS
        users = [may_act[number % len(may_act)] for number in range(first, first + ACTORS)]
        self.turns += 1
        asyncio.run(_act(self, users, fashion=self.turns))

    def kill(self, victim: Victim) -> None:
        """SIGKILL, and nothing else: the stack starts it again; the broker is started again here."""
        if victim == "kafka":
            asyncio.run(self.broker.stop(kill=True))
        else:
            record = json.loads((self.stack.home / "stack.json").read_text(encoding="utf-8"))
            os.kill(record["parts"][victim]["pid"], signal.SIGKILL)

    def well_again(self, victim: Victim, incidents_before: int) -> None:
        """Returns once a part that was killed since answers again."""
        if victim == "kafka":
            asyncio.run(self.broker.start_again())
            return
        wanted = (victim, "recovered")
        until(
            lambda: wanted in [(each.part, each.what) for each in self.incidents[incidents_before:]],
            f"{victim} does not answer",
        )

    def active(self) -> int:
        return asyncio.run(opened.active_number(self.settings)) or 0

    def state(self) -> State:
        return asyncio.run(self._state())

    async def _state(self) -> State:
        async with compose.parts(self.settings) as parts:
            serving = await parts.generations.serving()
            assert serving.active is not None
            lacking = 0
            cursor: str | None = ""
            while cursor is not None:
                page, cursor = await parts.store.users(cursor)
                read = await parts.store.read(page, serving.active.number)
                lacking += sum(serving.active.lacks(user) for user in read)
        filling = None if serving.filling is None else serving.filling.number
        return State(serving.active, serving.previous, filling, lacking, published(self.settings.repository))

    def read(self, users: Sequence[str], number: int) -> list[UserFeatures]:
        async def read() -> list[UserFeatures]:
            async with compose.parts(self.settings) as parts:
                return await parts.store.read(users, number)

        return asyncio.run(read())

    def missing(self, users: Sequence[str]) -> int:
        """How many of those who signed up lack virtual behaviour of the active generation: in the end, or for good."""
        active, deadline = self.state().active, time.monotonic() + PATIENCE
        while True:
            found = sum(active.virtual_of(user) is None for user in self.read(users, active.number))
            if not found or time.monotonic() > deadline:
                return found
            pause(LOOK_EVERY)

    def people(self, users: Sequence[str]) -> dict[str, LoadUser]:
        """What is stored of them."""
        return {
            user.user_id: LoadUser(user.attributes or {}, user.behaviour, user.registered_ms)
            for user in self.read(users, self.active())
        }


@contextmanager
def running(home: Path, broker: Broker, environment: TritonEnvironment) -> Iterator[System]:
    """1. Redis with its append-only file, and Triton, beside the broker; generation 1 is trained and active.
    2. A worker, a writer of the log, the watch and the ranking service. 3. Users sign up.
    4. Inside, what dies is started again.
    """
    dataset = read_dataset(write_dataset(home / "data"))
    given = {**SETTINGS, "home": home, "kafka": broker.address, "kafka_idempotent": broker.idempotent}
    repository = home / "triton_repo"
    parts: list[Part] = [Redis(home / "redis"), Triton(home / "triton", repository, environment)]
    with Stack(home, StackPlan(parts, {}, [])) as stack:  # 1
        given |= {part: stack.addresses[part] for part in ("redis", "triton")}
        settings = Settings(**given)
        asyncio.run(opened.train(settings, dataset, TrainingConfig(**TRAINING)))
        embedded.prepare(settings)
        asyncio.run(opened.publish(settings, None))
        env = {**os.environ, **{variable(name): str(value) for name, value in given.items()}}
        for part in (Worker(env), LogWriter(env), Watch(env)):  # 2
            stack.start(part)
        api = stack.start(Api(env))
        users = [f"user-{number}" for number in range(USERS)]
        system = System(stack, broker, settings, api, dataset, users)
        _sign_up(system)  # 3
        with _watched(system):  # 4
            yield system


def until(condition: Callable[[], bool], problem: str) -> None:
    """Fails with the problem when the condition is not true within `PATIENCE`."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, problem
        pause(LOOK_EVERY)


def pause(seconds: float) -> None:
    """The system is left to itself for so long."""
    threading.Event().wait(seconds)


def _sign_up(system: System) -> None:
    known = attributes_of(system.dataset)
    events = [
        UserRegistered(user_id=user, attributes=known[number % len(known)]) for number, user in enumerate(system.users)
    ]
    asyncio.run(send(system.settings, Topic.REGISTERED, events))
    until(lambda: all(user.virtual is not None for user in system.read(system.users, 1)), "not all were enriched")


async def _act(system: System, users: Sequence[str], fashion: int) -> None:
    """1. Lists are shown by the service. 2. The users act on items of the genre that their segment likes by now.
    3. The acts of each turn can be read before the next, and the log has all of it in the end.
    """
    rng, began = np.random.default_rng(fashion), _now_ms()
    genres = dict(zip(system.items, system.dataset.items["genre"], strict=True))
    async with aiohttp.ClientSession() as session, compose.parts(system.settings) as parts:
        done = Counter({user.user_id: len(user.behaviour) for user in await parts.store.read(users, 1)})
        before = done.total()
        for _ in range(TURNS):
            acts = []
            for user in await parts.store.read(users, 1):
                segment = SEGMENTS.index(str((user.attributes or {})["segment"]))
                liked = GENRES[(segment + fashion) % len(GENRES)]
                shown = [str(each) for each in rng.choice(system.items, SHOWN, replace=False)]
                answer = await rank(session, system.api, user.user_id, shown, shown=SHOWN)  # 1
                acts += [_act_on(user.user_id, each, answer.ranking_id) for each in shown if genres[each] == liked]
            await send(system.settings, Topic.BEHAVED, acts)  # 2
            done.update(act.user_id for act in acts)
            await _readable(parts.store, done)  # 3
    await _logged(system.settings, began, TURNS * len(users), done.total() - before)


def _act_on(user: str, item: str, ranking_id: str) -> UserBehaved:
    return UserBehaved(user_id=user, item_id=item, at=datetime.now(UTC), ranking_id=ranking_id, action="clicked")


async def _readable(store: OnlineStore, acts: Mapping[str, int]) -> None:
    async with asyncio.timeout(PATIENCE):
        while True:
            read = await store.read(list(acts), 1)
            if {user.user_id: len(user.behaviour) for user in read} == dict(acts):
                return
            await asyncio.sleep(LOOK_EVERY)


async def _logged(settings: Settings, since_ms: int, rankings: int, acts: int) -> None:
    log = compose.training_log(settings)
    async with asyncio.timeout(PATIENCE):
        while True:
            logged = await log.read(since_ms, _now_ms() + 1)
            if (len(logged.rankings), len(logged.behaviours)) == (rankings, acts):
                return
            await asyncio.sleep(LOOK_EVERY)


def _now_ms() -> int:
    return round(time.time() * 1000)


@contextmanager
def _watched(system: System) -> Iterator[None]:
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(LOOK_EVERY):
            system.incidents.extend(system.stack.watch())

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
