"""Sign-ups and rankings from a process of their own, so that training cannot slow their measurement down."""

import asyncio
import multiprocessing
import signal
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from multiprocessing.connection import Connection
from typing import Any

import aiohttp
import numpy as np

from foretaste.demo.ranking_client import rank
from foretaste.kernel.errors import ForetasteError, Unavailable
from foretaste.kernel.events import UserRegistered
from foretaste.kernel.ports import Events
from foretaste.kernel.values import Attributes
from serving.requests import RankResponse
from streams.codec import EVENTS

SIGN_UPS, RANKINGS = 5.0, 20.0
"""Rates a second."""
CANDIDATES = 50
SETTLED = 2.0
"""Seconds after which a user who signed up is ranked too."""
GRACE = 30.0
"""Seconds within which the process must begin, and end."""


@dataclass(frozen=True, slots=True)
class BackgroundTraffic:
    """The traffic: users sign up into `topic`, and stored users are ranked by `api`. It must pickle."""

    api: str
    topic: str
    open_events: Callable[[], Events]
    newcomers: Sequence[Attributes]
    """Attributes of those who sign up, taken in turn, each under a new id: `prefix` and a number."""
    prefix: str
    users: Sequence[str]
    """Ids of users who are stored already; at least one."""
    items: Sequence[str]
    """Candidates are drawn from these."""
    seed: int


@dataclass(slots=True)
class TrafficResult:
    """The answers, failures and latencies of the traffic."""

    newcomers: list[str] = field(default_factory=list)
    """Ids that signed up."""
    rankings: int = 0
    failed: int = 0
    """Rankings without an answer, and sign-ups that Kafka did not take."""
    mixed: int = 0
    """Answers whose virtual behaviour was of another generation than the tower."""
    first_failure: str = ""
    """Type and text of its error; empty where nothing failed."""
    latencies_ms: list[float] = field(default_factory=list)
    """Latencies of rankings, from the request to the whole answer."""
    by_generation: Counter[int] = field(default_factory=Counter)
    """Answers by the generation of the ranking tower; 0 stands for popularity."""
    served_by: Counter[str] = field(default_factory=Counter)

    def answered(self, answer: RankResponse, seconds: float) -> None:
        self.rankings += 1
        self.latencies_ms.append(1000 * seconds)
        self.by_generation[answer.ranking_generation or 0] += 1
        self.served_by[answer.served_by.value] += 1
        self.mixed += answer.zero_shot_generation not in {None, answer.ranking_generation}

    def missed(self, error: Exception) -> None:
        self.failed += 1
        self.first_failure = self.first_failure or f"{type(error).__name__}: {error}"

    def percentile(self, q: float) -> float:
        """Milliseconds; nan where nothing was answered."""
        return float(np.percentile(self.latencies_ms, q)) if self.latencies_ms else float("nan")


@contextmanager
def running_traffic(traffic: BackgroundTraffic) -> Iterator[Callable[[], TrafficResult]]:
    """Keep the traffic running while inside; the function given ends it, and returns its result.

    That function raises `ForetasteError` when the process of the traffic died.
    """
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    process = spawn.Process(target=_serve, args=(traffic, theirs), daemon=True)
    process.start()
    theirs.close()

    def receive(*, stop: bool) -> TrafficResult:
        with suppress(EOFError, ConnectionError):
            if stop:
                ours.send(None)
            if ours.poll(GRACE):
                answer: TrafficResult = ours.recv()
                return answer
        raise ForetasteError(f"the process of the traffic does not answer (exit status {process.exitcode})")

    try:
        receive(stop=False)  # it has begun
        yield partial(receive, stop=True)
    finally:
        ours.close()
        process.join(GRACE)
        process.kill()


def _serve(traffic: BackgroundTraffic, theirs: Connection) -> None:
    """Generate traffic until the other end stops it, or is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the other end's to hear
    theirs.send(TrafficResult())
    try:
        theirs.send(asyncio.run(generate_traffic(traffic, partial(_stop_received, theirs))))
    except BrokenPipeError:
        return


async def _stop_received(theirs: Connection) -> None:
    with suppress(EOFError):
        await asyncio.to_thread(theirs.recv)


async def generate_traffic(traffic: BackgroundTraffic, until: Callable[[], Awaitable[object]]) -> TrafficResult:
    """Sign up and rank until `until` returns, paced by the clock and not by the answers; await those under way."""
    result, events = TrafficResult(), traffic.open_events()
    try:
        async with aiohttp.ClientSession() as session, asyncio.TaskGroup() as group:
            arrived: dict[str, float] = {}
            pacing = [
                group.create_task(_paced(SIGN_UPS, group, lambda n: _sign_up(traffic, n, events, arrived, result))),
                group.create_task(_paced(RANKINGS, group, lambda n: _ranking(traffic, n, session, arrived, result))),
            ]
            await until()
            for each in pacing:
                each.cancel()
    finally:
        await events.close()
    return result


async def _paced(rate: float, group: asyncio.TaskGroup, make: Callable[[int], Coroutine[Any, Any, None]]) -> None:
    start, number = time.monotonic(), 0
    while True:
        group.create_task(make(number))
        number += 1
        await asyncio.sleep(max(start + number / rate - time.monotonic(), 0.0))


async def _sign_up(
    traffic: BackgroundTraffic, number: int, events: Events, arrived: dict[str, float], result: TrafficResult
) -> None:
    user_id = f"{traffic.prefix}{number}"
    attributes = traffic.newcomers[number % len(traffic.newcomers)]
    event = UserRegistered(user_id=user_id, attributes=attributes)
    try:
        await events.send(traffic.topic, user_id.encode(), EVENTS.encode(event))
    except Unavailable as error:
        result.missed(error)
        return
    result.newcomers.append(user_id)
    arrived[user_id] = time.monotonic()


async def _ranking(
    traffic: BackgroundTraffic,
    number: int,
    session: aiohttp.ClientSession,
    arrived: Mapping[str, float],
    result: TrafficResult,
) -> None:
    """Rank a user who was stored before and one who signed up during the traffic, by turns."""
    started = time.monotonic()
    settled = [user_id for user_id, at in arrived.items() if started - at > SETTLED]
    users = settled if settled and number % 2 else traffic.users
    rng = np.random.default_rng((traffic.seed, number))
    items = rng.choice(len(traffic.items), size=min(CANDIDATES, len(traffic.items)), replace=False)
    try:
        chosen = [traffic.items[place] for place in items]
        answer = await rank(session, traffic.api, users[number // 2 % len(users)], chosen, shown=0)
    except (Unavailable, aiohttp.ClientError, TimeoutError) as error:
        result.missed(error)
        return
    result.answered(answer, time.monotonic() - started)
