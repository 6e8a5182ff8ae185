"""The quality of live rankings of new users over held-out candidates."""

import asyncio
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import aiohttp
import numpy as np
import numpy.typing as npt
import pandas as pd

from foretaste.demo.context import DemoContext
from foretaste.demo.ranking_client import rank
from foretaste.kernel.generations import Generation
from foretaste.kernel.ranking import RankingInput, account_age_ms
from foretaste.kernel.users import Behaviour
from foretaste.kernel.values import Attributes
from models.data.dataset import Dataset
from models.data.sampling import NegativeSampler
from models.evaluation.metrics import auc, gauc
from models.runtime.encoding import FIRST_KNOWN, Encoding

if TYPE_CHECKING:
    from models.evaluation.bootstrap import Estimate

IN_FLIGHT = 8
"""Requests at once."""
RESAMPLES = 1000
"""Bootstrap draws of the users, for each interval."""


@dataclass(frozen=True, slots=True)
class HeldOutCandidates:
    """The candidates of one new user: `items` (K,) are distinct; `labels` (K,) are 1 where the user acted on them."""

    user_id: str
    items: Sequence[str]
    labels: npt.NDArray[np.int8]


@dataclass(slots=True)
class LiveEvaluation:
    """Labels, users and scores of each way of ranking, row by row, and the sources of the live answers."""

    users: list[int] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    scores: dict[str, list[float]] = field(default_factory=lambda: {"virtual": [], "none": [], "popularity": []})
    served_by: Counter[str] = field(default_factory=Counter)
    by_generation: Counter[int] = field(default_factory=Counter)
    """Live answers by the generation of their tower; 0 stands for popularity."""
    mixed: int = 0
    """Live answers whose virtual behaviour was of another generation than the tower."""

    def auc(self) -> dict[str, float]:
        return {way: auc(self.labels, scores) for way, scores in self.scores.items()}

    def gauc(self) -> dict[str, float]:
        return {way: gauc(self.users, self.labels, scores) for way, scores in self.scores.items()}

    def estimate(self, way: str, seed: int) -> "Estimate":
        """GAUC with its bootstrap over users; the same users and seed give the same draws."""
        from models.evaluation.bootstrap import Resamples
        from models.evaluation.scores import measure

        users = np.array(self.users, dtype=np.int64)
        return measure(users, self.labels, self.scores[way], Resamples.drawn(users, RESAMPLES, seed))["gauc"]


@dataclass(frozen=True)
class CandidateSampler:
    """Draws each user's held-out candidates.

    At most `events_a_user` are the items that the user acted on first: what follows a sign-up, when the account is as
    old as it is where it is ranked. The others are the first impressions of label 0 where the data have labels, else
    sampled by popularity: `negatives` for each item acted on, and none that the user ever met. Where the data
    have no labels, an item that cannot be sampled so is not asked about: it would always be right.
    """

    dataset: Dataset
    encoding: Encoding
    counts: npt.NDArray[np.int64]
    events_a_user: int
    negatives: int
    rng: np.random.Generator

    def of(self, live_ids: Mapping[str, str]) -> list[HeldOutCandidates]:
        """The candidates of each user in `live_ids`, which gives the id that signed up by the id in the data."""
        frame = self.dataset.interactions
        own = frame[frame["user_id"].isin(set(live_ids))]
        sampler = NegativeSampler(self.dataset, self.encoding, self.counts, self.rng)
        if not self.dataset.has_labels:
            own = sampler.drawable_rows(own)
        held = []
        for user_id, rows in own.groupby("user_id", sort=False, observed=True):
            liked = rows.loc[rows["label"] == 1, "item_id"].drop_duplicates()
            acted = _first(liked, self.events_a_user)
            if self.dataset.has_labels:
                never = rows.loc[~rows["item_id"].isin(liked), "item_id"].drop_duplicates()
                others = _first(never, self.events_a_user * self.negatives)
            else:
                others = self._sampled(sampler, str(user_id), len(acted))
            labels = np.array([1] * len(acted) + [0] * len(others), dtype=np.int8)
            order = self.rng.permutation(len(labels))
            together = [*acted, *others]
            held.append(HeldOutCandidates(live_ids[str(user_id)], [together[at] for at in order], labels[order]))
        return held

    def _sampled(self, sampler: NegativeSampler, user_id: str, positives: int) -> list[str]:
        row = self.dataset.user_rows([user_id])[0]
        drawn = np.unique(sampler.sample(np.full(positives, row), self.negatives))
        return [self.encoding.items[index - FIRST_KNOWN] for index in drawn if index >= FIRST_KNOWN]


def _first(items: "pd.Series[str]", most: int) -> list[str]:
    """The `most` that came first: interactions are sorted by time."""
    return [str(item) for item in items[:most]]


async def evaluate(
    context: DemoContext,
    held: Sequence[HeldOutCandidates],
    generation: Generation,
    attributes: Mapping[str, Attributes],
    step: str,
) -> LiveEvaluation:
    """Rank each user's candidates by the service, by the tower without virtual behaviour, and by popularity.

    Tower and popularity are those of `generation`. No ranking is logged for training. Raises `Unavailable` (in an
    exception group) when the service refuses an answer.
    """
    evaluation = LiveEvaluation()
    nothing = np.zeros(generation.virtual_shape, dtype=np.float32)
    gate = asyncio.Semaphore(IN_FLIGHT)

    async def one(number: int, each: HeldOutCandidates, session: aiohttp.ClientSession) -> None:
        async with gate:
            answer = await rank(session, context.api, each.user_id, each.items, shown=0)
            (user,) = await context.parts.store.read([each.user_id], generation.number)
            age_ms = account_age_ms(user.registered_ms, round(time.time() * 1000))
            given = RankingInput(attributes[each.user_id], {}, Behaviour(), nothing, each.items, age_ms)
            (without,) = await context.parts.towers.score([given], generation.number)
            shares = await context.parts.generations.popularity(generation.number, each.items)
        by_item = {item["item_id"]: item["score"] for item in answer.ranked}
        evaluation.served_by[answer.served_by.value] += 1
        evaluation.by_generation[answer.ranking_generation or 0] += 1
        evaluation.mixed += answer.zero_shot_generation not in {None, answer.ranking_generation}
        evaluation.users += [number] * len(each.items)
        evaluation.labels += each.labels.tolist()
        evaluation.scores["virtual"] += [by_item[item] for item in each.items]
        evaluation.scores["none"] += without.tolist()
        evaluation.scores["popularity"] += [share or 0.0 for share in shares]
        context.report(step, evaluation.served_by.total(), len(held))

    async with aiohttp.ClientSession() as session, asyncio.TaskGroup() as requests:
        for number, each in enumerate(held):
            requests.create_task(one(number, each, session))
    return evaluation
