"""New users ranked live over held-out candidates, and how good the answers were."""

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import aiohttp
import numpy as np
import numpy.typing as npt

from foretaste.contracts import Behaviour, Generation, RankingInput, RankResponse
from foretaste.errors import Unavailable
from foretaste.ports import Generations, Towers
from models.dataset import Dataset
from models.encoding import PADDING, Encoding
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


def hold_out(
    dataset: Dataset,
    encoding: Encoding,
    user_ids: Sequence[str],
    *,
    counts: npt.NDArray[np.int64],
    events_a_user: int,
    negatives: int,
    rng: np.random.Generator,
) -> list[HeldOut]:
    """Candidates of each user: at most `events_a_user` of their items, drawn at random, and popularity-sampled
    negatives that they never acted on. Items that the generation does not know take part as well."""
    frame = dataset.interactions
    acted = frame[(frame["label"] == 1) & frame["user_id"].isin(set(user_ids))]
    sampler = NegativeSampler(dataset, encoding, counts, rng)
    rows = dict(zip(user_ids, dataset.user_rows(user_ids), strict=True))
    names = (None, None, *encoding.items)
    held: list[HeldOut] = []
    for user_id, items in acted.groupby("user_id", sort=False)["item_id"]:
        distinct = items.unique()
        positives = [str(item) for item in rng.permutation(distinct)[:events_a_user]]
        drawn = np.unique(sampler.sample(np.full(len(positives), rows[str(user_id)]), negatives))
        others = [name for index in drawn if index != PADDING and (name := names[index]) is not None]
        labels = np.array([1] * len(positives) + [0] * len(others), dtype=np.int8)
        order = rng.permutation(len(labels))
        together = [*positives, *others]
        held.append(HeldOut(str(user_id), [together[at] for at in order], labels[order]))
    return held


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
