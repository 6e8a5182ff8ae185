"""New users ranked live over held-out candidates, and how good the answers were."""

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import aiohttp
import numpy as np
import numpy.typing as npt
import pandas as pd

from foretaste.contracts import Behaviour, Generation, RankingInput, RankResponse
from foretaste.errors import Unavailable
from foretaste.ports import Generations, Towers
from models.dataset import Dataset
from models.encoding import FIRST_KNOWN, Encoding
from models.metrics import auc, gauc
from models.sampling import NegativeSampler

IN_FLIGHT = 8
"""Requests at once."""


@dataclass(frozen=True, slots=True)
class HeldOut:
    """One new user's candidates: items that they acted on after the split, and as many times `negatives` that they did
    not. `labels` (K,) belongs to `items` (K,), which are distinct."""

    user_id: str
    items: Sequence[str]
    labels: npt.NDArray[np.int8]


@dataclass(slots=True)
class Verdict:
    """Labels, users and scores of each way of ranking, row by row, and what served the live answers."""

    users: list[int] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    scores: dict[str, list[float]] = field(default_factory=lambda: {"virtual": [], "none": [], "popularity": []})
    served_by: Counter[str] = field(default_factory=Counter)

    def auc(self) -> dict[str, float]:
        return {way: auc(self.labels, scores) for way, scores in self.scores.items()}

    def gauc(self) -> dict[str, float]:
        return {way: gauc(self.users, self.labels, scores) for way, scores in self.scores.items()}


@dataclass(frozen=True)
class Candidates:
    """Draws each user's held-out candidates: at most `events_a_user` items that the user acted on, and others that the
    user did not. These are impressions of label 0 where the data have labels, else sampled by popularity, `negatives`
    for each item acted on and none that the user ever met. Items that the generation does not know take part too."""

    dataset: Dataset
    encoding: Encoding
    counts: npt.NDArray[np.int64]
    events_a_user: int
    negatives: int
    rng: np.random.Generator

    def of(self, live_ids: Mapping[str, str]) -> list[HeldOut]:
        """For each user by the id in the data, under the id that signed up."""
        frame = self.dataset.interactions
        own = frame[frame["user_id"].isin(set(live_ids))]
        sampler = NegativeSampler(self.dataset, self.encoding, self.counts, self.rng)
        held = []
        for user_id, rows in own.groupby("user_id", sort=False, observed=True):
            best = rows.groupby("item_id", sort=False, observed=True)["label"].max()
            acted = self._drawn(best[best == 1].index, self.events_a_user)
            if self.dataset.has_labels:
                others = self._drawn(best[best == 0].index, self.events_a_user * self.negatives)
            else:
                others = self._sampled(sampler, str(user_id), len(acted))
            labels = np.array([1] * len(acted) + [0] * len(others), dtype=np.int8)
            order = self.rng.permutation(len(labels))
            together = [*acted, *others]
            held.append(HeldOut(live_ids[str(user_id)], [together[at] for at in order], labels[order]))
        return held

    def _drawn(self, items: "pd.Index[str]", most: int) -> list[str]:
        return [str(item) for item in self.rng.permutation(items.to_numpy(dtype=object))[:most]]

    def _sampled(self, sampler: NegativeSampler, user_id: str, positives: int) -> list[str]:
        row = self.dataset.user_rows([user_id])[0]
        drawn = np.unique(sampler.sample(np.full(positives, row), self.negatives))
        return [self.encoding.items[index - FIRST_KNOWN] for index in drawn if index >= FIRST_KNOWN]


async def judge(
    held: Sequence[HeldOut],
    *,
    api: str,
    towers: Towers,
    generations: Generations,
    generation: Generation,
    attributes: Mapping[str, Mapping[str, str | int | float | bool | None]],
    advance: Callable[[int], None],
) -> Verdict:
    """Rank each user's candidates by `POST {api}/v1/rank`; beside it by the same tower without virtual behaviour, and
    by popularity. Raises `Unavailable` when the service refuses an answer."""
    verdict = Verdict()
    nothing = np.zeros(generation.virtual_shape, dtype=np.float32)
    gate = asyncio.Semaphore(IN_FLIGHT)
    done = 0

    async def one(number: int, each: HeldOut, session: aiohttp.ClientSession) -> None:
        nonlocal done
        async with gate:
            live = await rank(session, api, each.user_id, each.items)
            without = await towers.score(
                RankingInput(attributes[each.user_id], {}, Behaviour(), nothing, each.items), generation.number
            )
            shares = await generations.popularity(generation.number, each.items)
        by_item = {item.item_id: item.score for item in live.ranked}
        verdict.served_by[live.served_by.value] += 1
        verdict.users += [number] * len(each.items)
        verdict.labels += each.labels.tolist()
        verdict.scores["virtual"] += [by_item[item] for item in each.items]
        verdict.scores["none"] += without.tolist()
        verdict.scores["popularity"] += [share or 0.0 for share in shares]
        done += 1
        advance(done)

    async with aiohttp.ClientSession() as session, asyncio.TaskGroup() as requests:
        for number, each in enumerate(held):
            requests.create_task(one(number, each, session))
    return verdict


async def rank(session: aiohttp.ClientSession, api: str, user_id: str, items: Sequence[str]) -> RankResponse:
    """One request to the ranking service. Raises `Unavailable` with its problem document when it refuses."""
    async with session.post(f"{api}/v1/rank", json={"user_id": user_id, "items": list(items)}) as answer:
        body = await answer.text()
        if answer.status != 200:  # noqa: PLR2004  # HTTP's OK
            raise Unavailable("api", f"{answer.status}: {body}")
    return RankResponse.model_validate_json(body)
