"""What users did in the data, replayed live: they are ranked, and act on what they are shown."""

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import aiohttp
import numpy as np

from foretaste.demo.context import DemoContext
from foretaste.demo.ranking_client import rank
from foretaste.kernel.events import Topic, UserBehaved
from streams.codec import EVENTS

if TYPE_CHECKING:
    import pandas as pd

    from models.data.dataset import Dataset
    from models.data.sampling import NegativeSampler
    from models.runtime.encoding import Encoding

EVENTS_A_RANKING = 10
"""Consecutive events of a user that become actions on one ranking."""
RANKINGS_A_USER = 3
"""At most: about one while the user is cold, one warming and one warm."""
NEGATIVES = 4
"""Candidates that the user did not act on, for each one that the user acted on."""
AT_ONCE = 8
"""Users replayed at once."""
PATIENCE = 2.0
"""Seconds to wait until a user's actions are readable; after them the next ranking is requested anyway."""
LOOK_EVERY = 0.005


@dataclass(frozen=True, slots=True)
class ReplayedRanking:
    """Items shown to a user together, and the user's actions on some of them, by item."""

    candidates: Sequence[str]
    actions: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class InteractionResult:
    """Numbers of users, rankings and actions that were replayed, and when."""

    users: int
    rankings: int
    actions: int
    started: float
    """Seconds since the epoch, before the first ranking; likewise `ended`, after the last action."""
    ended: float


@dataclass(frozen=True, slots=True)
class InteractionReplay:
    """Makes rankings of what users did from `since_ms` on and before `until_ms`.

    A ranking holds the items of `EVENTS_A_RANKING` consecutive events, a user's first ones, and `NEGATIVES` times as
    many others that the user never met. Those are drawn by the popularity until `until_ms`, which is that of the later
    users' candidates too; an event whose item cannot be drawn is left out, since it would always be acted on. Where the
    data have labels, a ranking is as many consecutive impressions, and its actions are those of label 1.
    """

    dataset: "Dataset"
    encoding: "Encoding"
    since_ms: int
    until_ms: int
    rng: np.random.Generator

    def of(self, live_ids: Mapping[str, str]) -> dict[str, list[ReplayedRanking]]:
        """At most `RANKINGS_A_USER` for each user with events, by the id that signed up, in the order of `live_ids`."""
        from models.data.sampling import NegativeSampler
        from models.data.vocabulary import item_counts

        counts = item_counts(self.dataset, self.encoding, self.until_ms)
        sampler = NegativeSampler(self.dataset, self.encoding, counts, self.rng)
        frame = self.dataset.interactions
        inside = frame["time_ms"].between(self.since_ms, self.until_ms, inclusive="left")
        own = frame[inside & frame["user_id"].isin(set(live_ids))]
        if not self.dataset.has_labels:
            own = sampler.drawable_rows(own)
        rows_of = {str(user_id): rows for user_id, rows in own.groupby("user_id", sort=False, observed=True)}
        return {
            live_id: list(self._rankings(user, rows_of[user], sampler))
            for user, live_id in live_ids.items()
            if user in rows_of
        }

    def _rankings(self, user_id: str, rows: "pd.DataFrame", sampler: "NegativeSampler") -> Iterator[ReplayedRanking]:
        labelled = self.dataset.has_labels
        size = EVENTS_A_RANKING * (1 + NEGATIVES) if labelled else EVENTS_A_RANKING
        distinct = rows.drop_duplicates("item_id")
        for begin in range(0, min(len(distinct), RANKINGS_A_USER * size), size):
            chunk = distinct.iloc[begin : begin + size]
            liked = chunk[chunk["label"] == 1]
            actions = {str(item): str(did) for item, did in zip(liked["item_id"], liked["action"], strict=True)}
            items = [str(item) for item in chunk["item_id"]]
            others = [] if labelled else self._negatives(user_id, len(items), sampler)
            together: list[Any] = [*items, *others]
            yield ReplayedRanking([together[place] for place in self.rng.permutation(len(together))], actions)

    def _negatives(self, user_id: str, positives: int, sampler: "NegativeSampler") -> list[str]:
        from models.runtime.encoding import FIRST_KNOWN

        row = self.dataset.user_rows([user_id])[0]
        drawn = np.unique(sampler.sample(np.full(positives, row), NEGATIVES))
        return [self.encoding.items[index - FIRST_KNOWN] for index in drawn if index >= FIRST_KNOWN]


async def replay_interactions(
    context: DemoContext, rankings: Mapping[str, Sequence[ReplayedRanking]], advance: Callable[[int], None]
) -> InteractionResult:
    """Replay each user's rankings, one after the other, `AT_ONCE` users at a time.

    1. The service answers the ranking, and logs that all of it was shown.
    2. The actions go through Kafka, with the ranking's id and the time by the clock.
    3. The next ranking waits until the actions can be read: so the user is seen to warm up.
    Raises `Unavailable` (in an exception group) when a part is away.
    """
    started, done, actions = time.time(), 0, 0
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(user_id: str, own: Sequence[ReplayedRanking], session: aiohttp.ClientSession) -> None:
        nonlocal done, actions
        async with gate:
            seen = 0
            for ranking in own:
                answer = await rank(
                    session, context.api, user_id, ranking.candidates, shown=len(ranking.candidates)
                )  # 1
                await _send(context, user_id, ranking, answer.ranking_id)  # 2
                seen += len(ranking.actions)
                actions += len(ranking.actions)
                await _until_readable(context, user_id, seen)  # 3
                done += 1
                advance(done)

    async with aiohttp.ClientSession() as session, asyncio.TaskGroup() as users:
        for user_id, own in rankings.items():
            users.create_task(one(user_id, own, session))
    return InteractionResult(len(rankings), done, actions, started, time.time())


async def _send(context: DemoContext, user_id: str, ranking: ReplayedRanking, ranking_id: str) -> None:
    now = datetime.now(UTC)
    events = [
        UserBehaved(user_id=user_id, item_id=item, action=action, at=now, ranking_id=ranking_id)
        for item, action in ranking.actions.items()
    ]
    keyed = [(user_id.encode(), EVENTS.encode(event)) for event in events]
    await context.parts.events.send_all(context.topic(Topic.BEHAVED), keyed)


async def _until_readable(context: DemoContext, user_id: str, actions: int) -> None:
    given_up = time.monotonic() + PATIENCE
    while time.monotonic() < given_up:
        (user,) = await context.parts.store.read([user_id], context.generation.number)
        if len(user.behaviour) >= actions:
            return
        await asyncio.sleep(LOOK_EVERY)
