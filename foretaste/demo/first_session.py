"""First sessions of new users: ten clicks each, and how the list learns from them."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING

import aiohttp
import numpy as np

from foretaste.demo.context import DemoContext
from foretaste.demo.ranking_client import rank
from foretaste.kernel.events import Topic, UserBehaved
from serving.requests import RankResponse
from streams.codec import EVENTS

if TYPE_CHECKING:
    from models.data.dataset import Dataset
    from models.runtime.encoding import Encoding

CLICKS = 10
CANDIDATES = 100
"""Of a ranking: the item that the user acts on next, and others that the user never met."""
MOST_USERS = 50
AT_ONCE = 2
"""Users who are in their session at once."""
PATIENCE = 5.0
"""Seconds in which a ranking must have read a click."""
SHOWN = 3
"""First items of the list that is shown of one user."""


@dataclass(frozen=True, slots=True)
class PlannedSession:
    """What a user will act on, one more than the clicks, and the other candidates; actions by item."""

    items: Sequence[str]
    others: Sequence[str]
    actions: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class SessionStep:
    """A ranking in the session of the user that is shown."""

    clicked: str | None
    """Just before; None before the first click."""
    first: Sequence[str]
    """The items at the top of the list."""
    next_item: str
    place: int
    """Of the item that the user acts on next; 1 is the top."""


@dataclass(slots=True)
class FirstSessions:
    """Where the items stood that users acted on next."""

    places: list[list[int]] = field(default_factory=lambda: [[] for _ in range(CLICKS + 1)])
    """By clicks before, one a user; 1 is the top."""
    waits: list[float] = field(default_factory=list)
    """Seconds from when each click was made until a ranking that had read it was answered."""
    unread: int = 0
    """Clicks that no ranking had read in time."""
    shown: list[SessionStep] = field(default_factory=list)
    """The session of the first user."""

    @property
    def users(self) -> int:
        return len(self.places[0])


@dataclass(frozen=True, slots=True)
class SessionPlanner:
    """Makes sessions of what users did first, with candidates drawn by popularity that they never met."""

    dataset: "Dataset"
    encoding: "Encoding"
    until_ms: int
    """Popularity is that of the interactions before it."""
    rng: np.random.Generator

    def of(self, live_ids: Mapping[str, str]) -> dict[str, PlannedSession]:
        """Of at most `MOST_USERS` who act on more than `CLICKS` items that can be drawn, by the id that signs up."""
        from models.data.sampling import NegativeSampler
        from models.data.vocabulary import item_counts
        from models.runtime.encoding import FIRST_KNOWN

        counts = item_counts(self.dataset, self.encoding, self.until_ms)
        sampler = NegativeSampler(self.dataset, self.encoding, counts, self.rng)
        frame = self.dataset.interactions
        own = sampler.drawable_rows(frame[frame["user_id"].isin(set(live_ids)) & (frame["label"] == 1)])
        planned: dict[str, PlannedSession] = {}
        for user_id, rows in own.groupby("user_id", sort=False, observed=True):
            acted = rows.drop_duplicates("item_id").iloc[: CLICKS + 1]
            if len(acted) > CLICKS and len(planned) < MOST_USERS:
                row = self.dataset.user_rows([str(user_id)])
                drawn = np.unique(sampler.sample(row, 4 * CANDIDATES))
                known = self.rng.permutation(drawn[drawn >= FIRST_KNOWN])[: CANDIDATES - 1]
                items = [str(item) for item in acted["item_id"]]
                actions = dict(zip(items, map(str, acted["action"]), strict=True))
                others = [self.encoding.items[index - FIRST_KNOWN] for index in known]
                planned[live_ids[str(user_id)]] = PlannedSession(items, others, actions)
        return planned


async def first_sessions(context: DemoContext, sessions: Mapping[str, PlannedSession]) -> FirstSessions:
    """Play the sessions of users who have signed up, `AT_ONCE` at a time. No ranking is logged for training.

    1. The service ranks what the user acts on next among the others.
    2. The user clicks on it, and passes over what stands above it: an event on Kafka.
    3. The service is asked until its ranking has read the click: that is the next one of 1.
    Raises `Unavailable` (in an exception group) when a part is away.
    """
    found, gate = FirstSessions(), asyncio.Semaphore(AT_ONCE)
    shown = next(iter(sessions), None)

    async def one(user_id: str, plan: PlannedSession, session: aiohttp.ClientSession) -> None:
        async with gate:
            began = time.monotonic()
            for clicks, item in enumerate(plan.items):
                asked = partial(rank, session, context.api, user_id, [item, *plan.others], shown=0)
                answer = await _ranking_after(clicks, began, asked, found)  # 1, 3
                order = [each["item_id"] for each in answer.ranked]
                found.places[clicks].append(order.index(item) + 1)
                if user_id == shown:
                    clicked = plan.items[clicks - 1] if clicks else None
                    found.shown.append(SessionStep(clicked, order[:SHOWN], item, order.index(item) + 1))
                began = time.monotonic()
                if clicks < CLICKS:
                    await _click(context, user_id, item, plan.actions[item], order[: order.index(item)])  # 2
            context.report("first session", len(found.places[CLICKS]), len(sessions))

    async with aiohttp.ClientSession() as session, asyncio.TaskGroup() as users:
        for user_id, plan in sessions.items():
            users.create_task(one(user_id, plan, session))
    return found


async def _ranking_after(
    clicks: int, began: float, asked: Callable[[], Awaitable[RankResponse]], found: FirstSessions
) -> RankResponse:
    """The first ranking that has read so many clicks, or the last within `PATIENCE`; how long since the last one
    `began` is noted."""
    while True:
        answer = await asked()
        waited = time.monotonic() - began
        if answer.behaviour_seen >= clicks or waited > PATIENCE:
            break
    if clicks:
        found.waits.append(waited)
        found.unread += answer.behaviour_seen < clicks
    return answer


async def _click(context: DemoContext, user_id: str, item: str, action: str, above: Sequence[str]) -> None:
    event = UserBehaved(user_id=user_id, item_id=item, action=action, at=datetime.now(UTC), passed_over=tuple(above))
    await context.parts.events.send_all(context.topic(Topic.BEHAVED), [(user_id.encode(), EVENTS.encode(event))])
