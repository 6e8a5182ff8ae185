"""Sign-ups at a steady rate, timed until each can be read back: the latency that a product would see."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from foretaste.kernel.events import UserRegistered
from foretaste.kernel.ports import Clock, Events, OnlineStore
from foretaste.kernel.values import Attributes
from streams.codec import EVENTS

READ_AT_ONCE = 128
"""Users in one read of the store; the oldest first."""


@dataclass(frozen=True, slots=True)
class SignUpResult:
    """Numbers and latencies of sign-ups: `latencies_ms` run from before produce to readable in the online store."""

    sent: int
    enriched: int
    latencies_ms: Sequence[float]
    seconds: float
    """From the first produce until the last was readable."""

    def percentile(self, q: float) -> float:
        """Milliseconds; nan when nothing was enriched."""
        return float(np.percentile(self.latencies_ms, q)) if self.latencies_ms else float("nan")


@dataclass
class SignUpLoad:
    """Sign-ups at `rate` a second into `topic`, and a watch on the store for their virtual behaviour.

    Sends are paced by the clock, not by the answers, so that a slow system cannot slow its own load down. Gives up
    `patience` seconds after the last produce.
    """

    topic: str
    events: Events
    store: OnlineStore
    generation: int
    rate: float
    patience: float
    clock: Clock
    advance: Callable[[int], None] = lambda _: None
    _sent_at: dict[str, float] = field(default_factory=dict)
    _readable_at: dict[str, float] = field(default_factory=dict)

    async def run(self, users: Mapping[str, Attributes]) -> SignUpResult:
        """Sign all users up. Raises `Unavailable` (in an exception group) when the broker or the store is away."""
        start = self.clock()
        async with asyncio.TaskGroup() as both:
            producing = both.create_task(self._produce(users, start))
            both.create_task(self._watch(len(users), producing))
        latencies = [1000 * (at - self._sent_at[user_id]) for user_id, at in self._readable_at.items()]
        return SignUpResult(len(self._sent_at), len(self._readable_at), latencies, self.clock() - start)

    async def _produce(self, users: Mapping[str, Attributes], start: float) -> None:
        async with asyncio.TaskGroup() as sends:
            for number, (user_id, attributes) in enumerate(users.items()):
                await asyncio.sleep(max(0.0, start + number / self.rate - self.clock()))
                event = UserRegistered(user_id=user_id, attributes=attributes)
                self._sent_at[user_id] = self.clock()
                sends.create_task(self.events.send(self.topic, user_id.encode(), EVENTS.encode(event)))

    async def _watch(self, expected: int, producing: "asyncio.Task[None]") -> None:
        ended_at: float | None = None
        while len(self._readable_at) < expected:
            await self._read_waiting()
            if producing.done():
                ended_at = ended_at or self.clock()
                if self.clock() - ended_at > self.patience:
                    return
            await asyncio.sleep(0.001)

    async def _read_waiting(self) -> None:
        waiting = [user_id for user_id in self._sent_at if user_id not in self._readable_at][:READ_AT_ONCE]
        if not waiting:
            return
        for user in await self.store.read(waiting, self.generation):
            if user.virtual is not None and user.virtual.generation == self.generation:
                self._readable_at[user.user_id] = self.clock()
        self.advance(len(self._readable_at))
