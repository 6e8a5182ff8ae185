"""Users act: what they did in the data becomes rankings that are answered live, and acts that answer them."""

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import aiohttp
import numpy as np

from foretaste.demo.asking import rank
from foretaste.demo.stage import Stage
from foretaste.kernel.events import Topic, UserBehaved
from streams.codec import JSON

if TYPE_CHECKING:
    import pandas as pd

    from models.data.dataset import Dataset
    from models.data.sampling import NegativeSampler
    from models.runtime.encoding import Encoding

CHUNK = 10
"""Events of a user that one ranking is answered by."""
TURNS = 3
"""Rankings of a user, at most: about cold, warming and warm."""
NEGATIVES = 4
"""Candidates that the user did not act on, for each one that they did."""
AT_ONCE = 8
"""Users who act at once."""
PATIENCE = 2.0
"""Seconds in which what a user did must be readable before they come again; then they come anyway."""
LOOK_EVERY = 0.005


@dataclass(frozen=True, slots=True)
class Turn:
    """Items that a user gets to see together, and what they do about them: the action by item."""

    candidates: Sequence[str]
    acts: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Acted:
    """What came of it."""

    users: int
    rankings: int
    acts: int
    began: float
    """Seconds since the epoch, before the first ranking."""
    ended: float


@dataclass(frozen=True, slots=True)
class Script:
    """Makes turns of what users did from `since_ms` on and before `until_ms`.

    A turn holds the items of `CHUNK` consecutive events and `NEGATIVES` times as many others, drawn by popularity, none
    that the user ever met. Where the data have labels, a turn is as many consecutive impressions, and its acts are
    those of label 1.
    """

    dataset: "Dataset"
    encoding: "Encoding"
    sampler: "NegativeSampler"
    since_ms: int
    until_ms: int
    rng: np.random.Generator

    def of(self, live_ids: Mapping[str, str]) -> dict[str, list[Turn]]:
        """At most `TURNS` for each user who did anything, by the id that signed up, in the order of `live_ids`."""
        frame = self.dataset.interactions
        inside = frame["time_ms"].between(self.since_ms, self.until_ms, inclusive="left")
        own = frame[inside & frame["user_id"].isin(set(live_ids))]
        rows_of = {str(user_id): rows for user_id, rows in own.groupby("user_id", sort=False, observed=True)}
        return {live: list(self._turns(user, rows_of[user])) for user, live in live_ids.items() if user in rows_of}

    def _turns(self, user_id: str, rows: "pd.DataFrame") -> Iterator[Turn]:
        labelled = self.dataset.has_labels
        size = CHUNK * (1 + NEGATIVES) if labelled else CHUNK
        distinct = rows.drop_duplicates("item_id")
        for begin in range(0, min(len(distinct), TURNS * size), size):
            chunk = distinct.iloc[begin : begin + size]
            liked = chunk[chunk["label"] == 1]
            acts = {str(item): str(did) for item, did in zip(liked["item_id"], liked["action"], strict=True)}
            items = [str(item) for item in chunk["item_id"]]
            others = [] if labelled else self._others(user_id, len(items))
            together: list[Any] = [*items, *others]
            yield Turn([together[place] for place in self.rng.permutation(len(together))], acts)

    def _others(self, user_id: str, positives: int) -> list[str]:
        from models.runtime.encoding import FIRST_KNOWN

        row = self.dataset.user_rows([user_id])[0]
        drawn = np.unique(self.sampler.sample(np.full(positives, row), NEGATIVES))
        return [self.encoding.items[index - FIRST_KNOWN] for index in drawn if index >= FIRST_KNOWN]


async def act(stage: Stage, turns: Mapping[str, Sequence[Turn]], advance: Callable[[int], None]) -> Acted:
    """Each user's turns, one after the other, `AT_ONCE` users at a time.

    1. The ranking is answered by the service, which notes that all of it was shown.
    2. The acts go through Kafka, with the ranking's id and the time by the clock.
    3. The next turn waits until what was done can be read: so the user is seen to warm up.
    Raises `Unavailable` (in an exception group) when a part is away.
    """
    began, done, acts = time.time(), 0, 0
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(user_id: str, own: Sequence[Turn], session: aiohttp.ClientSession) -> None:
        nonlocal done, acts
        async with gate:
            seen = 0
            for turn in own:
                answer = await rank(session, stage.api, user_id, turn.candidates, shown=len(turn.candidates))  # 1
                await _send(stage, user_id, turn, answer.ranking_id)  # 2
                seen += len(turn.acts)
                acts += len(turn.acts)
                await _readable(stage, user_id, seen)  # 3
                done += 1
                advance(done)

    async with aiohttp.ClientSession() as session, asyncio.TaskGroup() as users:
        for user_id, own in turns.items():
            users.create_task(one(user_id, own, session))
    return Acted(len(turns), done, acts, began, time.time())


async def _send(stage: Stage, user_id: str, turn: Turn, ranking_id: str) -> None:
    now = datetime.now(UTC)
    events = [
        UserBehaved(user_id=user_id, item_id=item, action=action, at=now, ranking_id=ranking_id)
        for item, action in turn.acts.items()
    ]
    keyed = [(user_id.encode(), JSON.encode(event)) for event in events]
    await stage.parts.events.send_all(stage.topic(Topic.BEHAVED), keyed)


async def _readable(stage: Stage, user_id: str, acts: int) -> None:
    given_up = time.monotonic() + PATIENCE
    while time.monotonic() < given_up:
        (user,) = await stage.parts.store.read([user_id], stage.generation.number)
        if len(user.behaviour) >= acts:
            return
        await asyncio.sleep(LOOK_EVERY)
