"""Sign-ups and rankings that go on in a process of their own, so that training cannot slow down what measures them."""

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

from foretaste.demo.asking import rank
from foretaste.kernel.errors import ForetasteError, Unavailable
from foretaste.kernel.events import UserRegistered
from foretaste.kernel.ports import Events
from foretaste.kernel.values import Attributes
from serving.requests import RankResponse
from streams.codec import JSON

SIGN_UPS, RANKINGS = 5.0, 20.0
"""A second."""
CANDIDATES = 50
SETTLED = 2.0
"""Seconds after which a user who signed up is ranked too."""
GRACE = 30.0
"""Seconds in which the process must begin, and end."""


@dataclass(frozen=True, slots=True)
class Traffic:
    """What goes on: users sign up into `topic`, and users who are there are ranked by `api`. It travels by pickle."""

    api: str
    topic: str
    open_events: Callable[[], Events]
    newcomers: Sequence[Attributes]
    """In turn, each time under an id of its own, `prefix` and a number."""
    prefix: str
    users: Sequence[str]
    """Who is there already; at least one."""
    items: Sequence[str]
    """Candidates are drawn from these."""
    seed: int


@dataclass(slots=True)
class During:
    """What became of it."""

    newcomers: list[str] = field(default_factory=list)
    """Ids that signed up."""
    rankings: int = 0
    failed: int = 0
    """Rankings without an answer, and sign-ups that Kafka did not take."""
    mixed: int = 0
    """Answers whose virtual behaviour was of another generation than the tower."""
    why: str = ""
    """The first failure."""
    latencies_ms: list[float] = field(default_factory=list)
    """Of rankings, from the request to the whole answer."""
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
        self.why = self.why or f"{type(error).__name__}: {error}"

    def percentile(self, q: float) -> float:
        """Milliseconds; nan where nothing was answered."""
        return float(np.percentile(self.latencies_ms, q)) if self.latencies_ms else float("nan")


@contextmanager
def in_background(traffic: Traffic) -> Iterator[Callable[[], During]]:
    """Inside, the traffic goes on; what is given ends it, and says what became of it.

    Raises `ForetasteError` when its process died.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(traffic, theirs), daemon=True)
    process.start()
    theirs.close()

    def told(*, ask: bool) -> During:
        with suppress(EOFError, ConnectionError):
            if ask:
                ours.send(None)
            if ours.poll(GRACE):
                answer: During = ours.recv()
                return answer
        raise ForetasteError(f"the process of the traffic does not answer (exit status {process.exitcode})")

    try:
        told(ask=False)  # it has begun
        yield partial(told, ask=True)
    finally:
        ours.close()
        process.join(GRACE)
        process.kill()


def _serve(traffic: Traffic, theirs: Connection) -> None:
    """Until the other end says so, or is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the other end's to hear
    theirs.send(During())
    try:
        theirs.send(asyncio.run(going_on(traffic, partial(_heard, theirs))))
    except BrokenPipeError:
        return


async def _heard(theirs: Connection) -> None:
    with suppress(EOFError):
        await asyncio.to_thread(theirs.recv)


async def going_on(traffic: Traffic, until: Callable[[], Awaitable[object]]) -> During:
    """Sign-ups and rankings, paced by the clock and not by the answers, `until` it returns; those under way are
    awaited."""
    during, events = During(), traffic.open_events()
    try:
        async with aiohttp.ClientSession() as session, asyncio.TaskGroup() as group:
            arrived: dict[str, float] = {}
            pacing = [
                group.create_task(_paced(SIGN_UPS, group, lambda n: _sign_up(traffic, n, events, arrived, during))),
                group.create_task(_paced(RANKINGS, group, lambda n: _ranking(traffic, n, session, arrived, during))),
            ]
            await until()
            for each in pacing:
                each.cancel()
    finally:
        await events.close()
    return during


async def _paced(rate: float, group: asyncio.TaskGroup, make: Callable[[int], Coroutine[Any, Any, None]]) -> None:
    start, number = time.monotonic(), 0
    while True:
        group.create_task(make(number))
        number += 1
        await asyncio.sleep(max(start + number / rate - time.monotonic(), 0.0))


async def _sign_up(traffic: Traffic, number: int, events: Events, arrived: dict[str, float], during: During) -> None:
    user_id = f"{traffic.prefix}{number}"
    attributes = traffic.newcomers[number % len(traffic.newcomers)]
    event = UserRegistered(user_id=user_id, attributes=attributes)
    try:
        await events.send(traffic.topic, user_id.encode(), JSON.encode(event))
    except Unavailable as error:
        during.missed(error)
        return
    during.newcomers.append(user_id)
    arrived[user_id] = time.monotonic()


async def _ranking(
    traffic: Traffic, number: int, session: aiohttp.ClientSession, arrived: Mapping[str, float], during: During
) -> None:
    """Of somebody who was there before and of somebody who came meanwhile, by turns."""
    began = time.monotonic()
    came = [user_id for user_id, at in arrived.items() if began - at > SETTLED]
    who = came if came and number % 2 else traffic.users
    rng = np.random.default_rng((traffic.seed, number))
    items = rng.choice(len(traffic.items), size=min(CANDIDATES, len(traffic.items)), replace=False)
    try:
        chosen = [traffic.items[place] for place in items]
        answer = await rank(session, traffic.api, who[number // 2 % len(who)], chosen, shown=0)
    except (Unavailable, aiohttp.ClientError, TimeoutError) as error:
        during.missed(error)
        return
    during.answered(answer, time.monotonic() - began)
