"""One load and all that comes of it, in one loop: records out, announcements in, rankings beside them."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from random import Random

import aiohttp
from aiokafka import AIOKafkaConsumer

from features.online.redis_store import RedisStore
from foretaste.kernel.errors import Unavailable
from tests.faults.streams.history import History, Logged, Ranked
from tests.faults.streams.listening import PAGE, Listener
from tests.faults.streams.load import LoadPlan
from tests.faults.streams.reached import Offsets, Reached
from tests.faults.streams.sending import Sender

RANK_EVERY, RANK_SECONDS = 0.2, 10.0
CANDIDATES = 20
LOOK_EVERY = 0.25
CAUGHT_UP_SECONDS, LOGGED_SECONDS = 30.0, 5.0


class Drive:
    """Carries one plan out and writes its history."""

    def __init__(self, reached: Reached, store: RedisStore, plan: LoadPlan, history: History) -> None:
        self._reached = reached
        self._store = store
        self._plan = plan
        self._history = history
        self._sender = Sender(reached, plan, history)
        self._listener: Listener
        self._asking: asyncio.Task[None]

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Inside, what comes of the load is heard, and rankings are asked for. Raises what ended either."""
        consumer = AIOKafkaConsumer(bootstrap_servers=self._reached.kafka, enable_auto_commit=False)
        async with consumer, aiohttp.ClientSession() as session:
            self._listener = Listener(self._reached, self._store, consumer, f"{self._plan.name}-", self._history)
            self._asking = asyncio.create_task(self._ask(session))
            tasks = [asyncio.create_task(self._listener.run()), self._asking]
            try:
                yield
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.wait(tasks)
                self._reached.sent.update(self._sender.ends)
            for task in tasks:
                if not task.cancelled():
                    task.result()

    async def send(self) -> None:
        """All of the plan; returns once each record was answered, or will not be."""
        await self._sender.send()

    async def until_handled(self, seconds: float) -> bool:
        """Whether the store has, by its own word, the effects of all that was sent by now within so many seconds."""
        try:
            async with asyncio.timeout(seconds):
                await self._sender.answered()
        except TimeoutError:
            return False
        return await _within(seconds, partial(self._handled, dict(self._sender.ends)))

    async def settle(self, seconds: float) -> bool:
        """Whether all of the load was handled and heard of within so many seconds; then what the store holds is read.

        Rankings end here; what was noted of them comes to its topic within some seconds, or not.
        """
        handled = await self.until_handled(seconds)
        self._asking.cancel()
        await _within(LOGGED_SECONDS, self._logged)
        caught_up = await _within(CAUGHT_UP_SECONDS, self._listener.caught_up)
        self._listener.give_up()
        users = list(self._sender.users)
        for place in range(0, len(users), PAGE):
            page = partial(self._read, users[place : place + PAGE])
            if not await _within(CAUGHT_UP_SECONDS, page):
                return False
        return handled and caught_up

    async def _ask(self, session: aiohttp.ClientSession) -> None:
        """Rankings of users who were sent, one after the other."""
        rng = Random(0)  # noqa: S311  # no secret
        while True:
            await asyncio.sleep(RANK_EVERY)
            if not self._sender.users:
                continue
            user = rng.choice(list(self._sender.users))
            items = rng.sample(list(self._plan.items), min(CANDIDATES, len(self._plan.items)))
            start = time.time()
            try:
                async with session.post(
                    f"{self._reached.api}/v1/rank",
                    json={"user_id": user, "items": items},
                    timeout=aiohttp.ClientTimeout(RANK_SECONDS),
                ) as answer:
                    status, body = answer.status, json.loads(await answer.text())
            except (aiohttp.ClientError, TimeoutError):
                status, body = 0, {}
            self._history.add(Ranked(user, start, time.time(), status, body.get("fallback"), body.get("ranking_id")))

    async def _handled(self, ends: Offsets) -> bool:
        if not ends:
            return True
        nowhere = dict.fromkeys(ends, (-1, -1))  # where no partition stands, so that each says where it does
        try:
            stands = await self._store.advance_offsets(nowhere)
        except Unavailable:
            return False
        return all((stands[each] or 0) >= end for each, end in ends.items())

    async def _read(self, users: list[str]) -> bool:
        """Whether the store said what it holds of these users."""
        try:
            found = await self._reached.read(self._store, users)
        except Unavailable:
            return False
        self._history.extend(replace(each, at=time.time()) for each in found)
        return True

    async def _logged(self) -> bool:
        """Whether all rankings that were answered came to their topic."""
        operations = self._history.operations
        answered = {each.ranking_id for each in operations if isinstance(each, Ranked) and each.ranking_id}
        return answered <= {each.ranking_id for each in operations if isinstance(each, Logged)}


async def _within(seconds: float, done: Callable[[], Awaitable[bool]]) -> bool:
    """Whether it is done within so many seconds."""
    deadline = time.monotonic() + seconds
    while not await done():
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(LOOK_EVERY)
    return True
