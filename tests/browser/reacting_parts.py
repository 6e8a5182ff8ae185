"""The HTTP service on parts in memory with a small worker in it: sign-ups and behaviours come true at once."""

import asyncio
import time
from dataclasses import replace

import numpy as np

from foretaste.kernel.events import UserBehaved, UserRegistered
from foretaste.kernel.ranking import RankingInput
from foretaste.kernel.users import BehavedUser, Behaviour, EnrichedUser, VirtualBehaviour
from foretaste.kernel.values import FloatArray
from serving.console.overview import OverviewReader
from serving.parts import ServiceParts
from tests.http_parts import NAMES, HttpParts
from tests.serving_parts import FakeTowers


class ReactingTowers(FakeTowers):
    """Virtual behaviour moves items by their number, and what a user acted on goes down."""

    def _score(self, request: RankingInput, generation: int) -> FloatArray:
        super()._score(request, generation)
        taste, seen = float(request.virtual.mean()), len(request.behaviour)
        weight = max(0.0, 1 - seen / 3)
        numbers = [int(item[1:]) if item[1:].isdecimal() else 0 for item in request.items]
        logits = np.sin(np.array(numbers) * (1.5 + weight * taste))
        logits -= 3 * np.array([item in request.behaviour.items for item in request.items])
        scores: FloatArray = (1 / (1 + np.exp(-logits))).astype(np.float32)
        return scores


class ReactingParts(HttpParts):
    """By the real clock, since a browser's is."""

    def __init__(self) -> None:
        super().__init__()
        self.towers = ReactingTowers()
        self.ranking._towers = self.towers
        self.working = True
        self._handled = 0

    def service_parts(self) -> ServiceParts:
        made = super().service_parts()
        return replace(made, overview=OverviewReader(self.store, self.active, self.counts, self.registry))

    def wall(self) -> float:
        return time.time()

    async def _sleep(self, seconds: float) -> None:
        self.now += seconds
        await asyncio.sleep(0)
        if self.working:
            await self.work()

    async def work(self) -> None:
        """Carry out what was sent."""
        for event in self.events.sent[self._handled :]:
            self._handled += 1
            if event.topic == NAMES.registered:
                await self._sign_up(UserRegistered.model_validate_json(event.value or b""))
            elif event.topic == NAMES.behaved:
                await self._behave(UserBehaved.model_validate_json(event.value or b""))

    async def _sign_up(self, event: UserRegistered) -> None:
        (vectors,) = await self.towers.virtual_behaviour([event.attributes], 1)
        virtual = VirtualBehaviour(1, vectors)
        await self.store.write_enriched(
            [EnrichedUser(event.user_id, event.attributes, virtual, round(self.wall() * 1000))]
        )
        await self.events.send(NAMES.enriched, event.user_id.encode(), b"{}")

    async def _behave(self, event: UserBehaved) -> None:
        (user,) = await self.store.read([event.user_id], 1)
        known, at_ms = user.behaviour, round(event.at.timestamp() * 1000)
        acts = Behaviour([*known.items, event.item_id], [*known.actions, event.action], [*known.times, at_ms])
        made = BehavedUser.after(user, acts)
        assert await self.store.write_behaviour([made]) == []
