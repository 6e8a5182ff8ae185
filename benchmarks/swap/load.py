"""The load during swaps, in a process of its own: ranking requests over HTTP and sign-ups through Kafka.

An open loop: each request is due at a time of the clock, whatever became of those before it, and its latency counts
from when it was due. So a slow system cannot slow its own load down, nor hide what it made others wait for.
"""

import asyncio
import gc
import itertools
import json
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Event
from typing import Any, Literal, Protocol, TypeAlias

import aiohttp
import numpy as np

from foretaste import compose
from foretaste.kernel.errors import ForetasteError
from foretaste.kernel.events import Topic, UserRegistered
from foretaste.kernel.ports import Clock, Events
from foretaste.kernel.values import DAY_MS, Attributes
from foretaste.settings import Settings
from streams.codec import EVENTS

MOST_IN_FLIGHT = 500
"""Requests without an answer, at most; one beyond that has failed."""
PATIENCE = 10.0
"""Seconds that a request may take."""
IDLE = 2.0
"""Seconds after which an idle connection is not used again: the server closes it after five."""
RECENT = 300
"""Number of the newest sign-ups from which users of the group `new` are drawn."""
MOST_PROBLEMS = 10
"""Different problems that are counted, at most."""
AGE_MS = 400 * DAY_MS
"""Since every user registered first: in the last bin of ages, throughout a run."""
NO_ANSWER, NOT_SENT = 0, -1
"""In place of a status: the connection broke or the time ran out; too many requests were in flight."""

Send: TypeAlias = Callable[[int, float], Coroutine[Any, Any, None]]
"""Sends the request of this number, which is due at this time."""
UserGroup: TypeAlias = Literal["cold", "warming", "warm", "new"]
"""The group of a user; new: signed up during the load."""


@dataclass(frozen=True, slots=True)
class LoadPlan:
    """The requests of the load, and their rates. `seconds` bounds the load; a stop ends it earlier."""

    api: str
    rank_rate: float
    sign_up_rate: float
    seconds: float
    users: Mapping[UserGroup, Sequence[str]]
    """Stored users by group, without the new ones."""
    shares: Mapping[UserGroup, float]
    """Of the requests, by group of the user."""
    attributes: Sequence[Attributes]
    """Attributes of the users who sign up, taken in turn."""
    items: Sequence[str]
    candidates: int
    sample_every: int
    """One in so many answers is kept whole, to be compared with what its generation answers."""
    seed: int

    def sign_up(self, number: int) -> tuple[str, Attributes]:
        """Id and attributes of the `number`th user who signs up."""
        return f"new-{number}", self.attributes[number % len(self.attributes)]


@dataclass(frozen=True, slots=True)
class Answer:
    """The result of a ranking request; times are seconds of the monotonic clock."""

    due: float
    sent: float
    ended: float
    status: int
    served_by: str = ""
    fallback: str | None = None
    zero_shot: int | None = None
    """The generation of the virtual behaviour that was read."""
    ranking: int | None = None
    """The generation of the tower that scored."""


@dataclass(frozen=True, slots=True)
class SampledAnswer:
    """An answer kept whole: the scores by item."""

    user_id: str
    answer: Answer
    scores: Mapping[str, float]
    sent_ms: int
    """When it was asked for, by the clock on the wall (epoch milliseconds)."""


@dataclass(frozen=True, slots=True)
class SentSignUp:
    """A registration: when it was sent by the monotonic clock, and by the clock on the wall (epoch seconds)."""

    user_id: str
    sent: float
    sent_at: float
    durable: bool


@dataclass(frozen=True, slots=True)
class LoadRecord:
    """All answers, samples, sign-ups and problems of a load."""

    answers: Sequence[Answer] = ()
    samples: Sequence[SampledAnswer] = ()
    sign_ups: Sequence[SentSignUp] = ()
    problems: Mapping[str, int] = field(default_factory=dict)
    """The texts of failures, and how often each came."""


class RankEndpoint(Protocol):
    """The ranking service: takes the body of a request, returns the status and the body of the answer."""

    async def __call__(self, body: bytes) -> tuple[int, bytes]:
        """Raises `aiohttp.ClientError` or `TimeoutError` where no answer comes."""
        ...


@dataclass
class LoadGenerator:
    """Sends the requests of one run, records the results. `now` is the clock on the wall, `clock` a monotonic one."""

    plan: LoadPlan
    endpoint: RankEndpoint
    events: Events
    topic: str
    clock: Clock = time.monotonic
    now: Clock = time.time
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep
    most_in_flight: int = MOST_IN_FLIGHT
    _answers: list[Answer] = field(default_factory=list)
    _samples: list[SampledAnswer] = field(default_factory=list)
    _sign_ups: list[SentSignUp] = field(default_factory=list)
    _problems: Counter[str] = field(default_factory=Counter)
    _in_flight: int = 0

    def __post_init__(self) -> None:
        self._rng = np.random.default_rng(self.plan.seed)
        self._groups = list(self.plan.shares)
        self._weights = np.array(list(self.plan.shares.values())) / sum(self.plan.shares.values())
        self._recent: deque[str] = deque(maxlen=RECENT)

    async def run(self, ended: Callable[[], bool]) -> LoadRecord:
        """Send until `ended` or for `plan.seconds`; then wait for the requests in flight, and return the record."""
        start = self.clock()

        def over() -> bool:
            return ended() or self.clock() - start > self.plan.seconds

        async with asyncio.TaskGroup() as both:
            both.create_task(self._paced(start, self.plan.sign_up_rate, over, self._sign_up))
            both.create_task(self._paced(start, self.plan.rank_rate, over, self._rank))
        return LoadRecord(self._answers, self._samples, self._sign_ups, self._problems)

    async def _paced(
        self,
        start: float,
        rate: float,
        over: Callable[[], bool],
        send: Callable[[int, float], Coroutine[Any, Any, None]],
    ) -> None:
        async with asyncio.TaskGroup() as sent:
            for number in itertools.count() if rate else ():
                due = start + number / rate
                await self.sleep(max(0.0, due - self.clock()))
                if over():
                    return
                sent.create_task(send(number, due))

    async def _rank(self, number: int, due: float) -> None:
        if self._in_flight >= self.most_in_flight:
            self._failed(Answer(due, due, self.clock(), NOT_SENT), f"{self.most_in_flight} requests were in flight")
            return
        user_id = self._someone()
        body = json.dumps({"user_id": user_id, "items": self._candidates()}).encode()
        self._in_flight += 1
        sent = self.clock()
        try:
            status, answered = await self.endpoint(body)
        except (aiohttp.ClientError, TimeoutError) as error:
            self._failed(Answer(due, sent, self.clock(), NO_ANSWER), repr(error))
            return
        finally:
            self._in_flight -= 1
        ended = self.clock()
        if status == 200:
            self._keep(user_id, due, sent, ended, answered, whole=number % self.plan.sample_every == 0)
        else:
            self._failed(Answer(due, sent, ended, status), answered.decode(errors="replace"))

    def _keep(self, user_id: str, due: float, sent: float, ended: float, answered: bytes, *, whole: bool) -> None:
        fields = json.loads(answered)
        answer = Answer(
            due,
            sent,
            ended,
            200,
            fields["served_by"],
            fields["fallback"],
            fields["zero_shot_generation"],
            fields["ranking_generation"],
        )
        self._answers.append(answer)
        if whole:
            scores = {each["item_id"]: each["score"] for each in fields["ranked"]}
            sent_ms = round(1000 * (self.now() - (self.clock() - sent)))
            self._samples.append(SampledAnswer(user_id, answer, scores, sent_ms))

    def _failed(self, answer: Answer, problem: str) -> None:
        self._answers.append(answer)
        self._count_problem(problem)

    def _count_problem(self, problem: str) -> None:
        if problem in self._problems or len(self._problems) < MOST_PROBLEMS:
            self._problems[problem] += 1

    async def _sign_up(self, number: int, _due: float) -> None:
        user_id, attributes = self.plan.sign_up(number)
        event = UserRegistered(user_id=user_id, attributes=attributes)
        sent, sent_at = self.clock(), self.now()
        try:
            await self.events.send(self.topic, user_id.encode(), EVENTS.encode(event))
        except ForetasteError as error:
            self._sign_ups.append(SentSignUp(user_id, sent, sent_at, durable=False))
            self._count_problem(str(error))
            return
        self._sign_ups.append(SentSignUp(user_id, sent, sent_at, durable=True))
        self._recent.append(user_id)

    def _someone(self) -> str:
        group = self._groups[self._rng.choice(len(self._groups), p=self._weights)]
        known = self._recent if group == "new" and self._recent else self.plan.users.get(group) or self._stored
        return known[int(self._rng.integers(len(known)))]

    @property
    def _stored(self) -> Sequence[str]:
        return self.plan.users["cold"]

    def _candidates(self) -> list[str]:
        first = int(self._rng.integers(len(self.plan.items)))
        return [self.plan.items[(first + step) % len(self.plan.items)] for step in range(self.plan.candidates)]


def run(plan: LoadPlan, settings: Settings, ended: Event, to: Connection) -> None:
    """The main function of the process: sends None once everything is connected, and the record in the end."""
    to.send(asyncio.run(_run(plan, settings, ended, to)))


async def _run(plan: LoadPlan, settings: Settings, ended: Event, to: Connection) -> LoadRecord:
    events = compose.events(settings)
    connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=IDLE)
    timeout = aiohttp.ClientTimeout(total=PATIENCE)
    headers = {"Content-Type": "application/json"}
    try:
        async with aiohttp.ClientSession(plan.api, connector=connector, timeout=timeout, headers=headers) as session:

            async def ask(body: bytes) -> tuple[int, bytes]:
                async with session.post("/v1/rank", data=body) as answer:
                    return answer.status, await answer.read()

            load = LoadGenerator(plan, ask, events, f"{settings.topic_prefix}{Topic.REGISTERED}")
            gc.collect()
            gc.freeze()  # the collector's walks through what was imported would count as latency
            to.send(None)
            return await load.run(ended.is_set)
    finally:
        await events.close()
