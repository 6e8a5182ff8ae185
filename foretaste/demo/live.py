"""The live part of the demo: users sign up, are ranked, act; the towers are refreshed; later users judge both."""

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

import aiohttp
import numpy as np

from foretaste.demo.acting import Acted, Script, act
from foretaste.demo.asking import rank
from foretaste.demo.judging import Candidates, HeldOut, Judged, judge
from foretaste.demo.load import Load, SignUps
from foretaste.demo.people import People, under_new_ids
from foretaste.demo.refreshing import Refreshed, Refreshing, refresh_under
from foretaste.demo.result import Found, Introduced
from foretaste.demo.stage import Stage
from foretaste.demo.traffic import Traffic
from foretaste.kernel.events import Topic
from foretaste.kernel.generations import Generation
from foretaste.kernel.values import Attributes
from serving.requests import RankResponse

EVENTS_A_USER = 40
NEGATIVES = 4
PATIENCE = 30.0
"""Seconds after the last sign-up in which its virtual behaviour must become readable."""


@dataclass(frozen=True, slots=True)
class Crowd:
    """Users under the ids that sign up, with what they are asked about: `ids` are by the id in the data."""

    ids: Mapping[str, str]
    attributes: Mapping[str, Attributes]
    held_out: Sequence[HeldOut]


async def live(
    stage: Stage,
    everybody: People,
    rate: float,
    pool: Sequence[str],
    refreshing: Refreshing,
    count_dead_letters: Callable[[], Awaitable[int]],
) -> Found:
    """Steps 6 to 11 of the demo. `pool`: candidates of the two top tens, and of the traffic."""
    run = f"{int(time.time()):x}"
    letters = await count_dead_letters()
    first = _crowd(stage, everybody.first, run, everybody.since_ms)
    later = _crowd(stage, everybody.later, run, everybody.until_ms)
    introduced = await _introduce(stage, first, rate, pool)  # 6, 7
    with stage.timer.step("act"):  # 8
        acted = await _act(stage, everybody, first)
    with stage.timer.step("later users sign up"):  # 9
        came = await _load(stage, rate, "enriched, later", later.attributes)
    with stage.timer.step("rank them"):
        before = await _judge(stage, later, stage.generation)
    traffic = Traffic(
        api=stage.api,
        topic=stage.topic(Topic.REGISTERED),
        open_events=refreshing.open_events,
        newcomers=list(everybody.later.values()),
        prefix=f"meanwhile.{run}.",
        users=list(later.attributes),
        items=pool,
        seed=stage.seed,
    )
    with stage.timer.step("refresh"):  # 10
        refreshed = await refresh_under(stage, traffic, refreshing, acted)
    after = await _judged_again(stage, later, refreshed)  # 11
    letters = await count_dead_letters() - letters
    return Found(stage.generation.number, introduced, acted, came, before, refreshed, after, letters, stage.seed)


async def _introduce(stage: Stage, crowd: Crowd, rate: float, pool: Sequence[str]) -> Introduced:
    user_ids = list(crowd.attributes)
    opening_user, others = user_ids[0], user_ids[1:]
    before = await _top_ten(stage, opening_user, pool)
    with stage.timer.step("first sign-up"):  # the worker then has its partitions
        opening = await _load(stage, 1.0, "first", {opening_user: crowd.attributes[opening_user]})
    with stage.timer.step("sign up"):
        sign_ups = await _load(stage, rate, "enriched", {user_id: crowd.attributes[user_id] for user_id in others})
    with stage.timer.step("rank"):
        judged = await _judge(stage, crowd, stage.generation)
    after = await _top_ten(stage, opening_user, pool)
    in_data = next(iter(crowd.ids))
    frame = stage.dataset.interactions
    liked = frame[(frame["user_id"] == in_data) & (frame["label"] == 1)]["item_id"].astype(str).tolist()
    return Introduced(opening, sign_ups, judged, before, after, liked)


async def _act(stage: Stage, everybody: People, crowd: Crowd) -> Acted:
    from models.data.sampling import NegativeSampler
    from models.data.vocabulary import item_counts

    rng = np.random.default_rng(stage.seed)
    counts = item_counts(stage.dataset, stage.encoding, everybody.since_ms)
    sampler = NegativeSampler(stage.dataset, stage.encoding, counts, rng)
    script = Script(stage.dataset, stage.encoding, sampler, everybody.since_ms, everybody.until_ms, rng)
    turns = script.of(crowd.ids)
    total = sum(map(len, turns.values()))
    return await act(stage, turns, lambda done: stage.report("acted", done, total))


async def _judged_again(stage: Stage, later: Crowd, refreshed: Refreshed) -> Judged | None:
    if not refreshed.swapped:
        return None
    with stage.timer.step("rank them again"):
        return await _judge(stage, later, refreshed.active)


async def _judge(stage: Stage, crowd: Crowd, generation: Generation) -> Judged:
    return await judge(stage, crowd.held_out, generation, crowd.attributes, f"ranked by generation {generation.number}")


async def _load(stage: Stage, rate: float, step: str, users: Mapping[str, Attributes]) -> SignUps:
    load = Load(
        topic=stage.topic(Topic.REGISTERED),
        events=stage.parts.events,
        store=stage.parts.store,
        generation=stage.generation.number,
        rate=rate,
        patience=PATIENCE,
        clock=time.monotonic,
        advance=lambda done: stage.report(step, done, len(users)),
    )
    return await load.run(users)


async def _top_ten(stage: Stage, user_id: str, pool: Sequence[str]) -> RankResponse:
    async with aiohttp.ClientSession() as session:
        return await rank(session, stage.api, user_id, pool, shown=0)


def _crowd(stage: Stage, users: Mapping[str, Attributes], run: str, known_until_ms: int) -> Crowd:
    """`known_until_ms`: the popularity by which candidates are drawn is that of the interactions before it."""
    from models.data.vocabulary import item_counts

    ids = under_new_ids(users, run)
    candidates = Candidates(
        stage.dataset,
        stage.encoding,
        item_counts(stage.dataset, stage.encoding, known_until_ms),
        EVENTS_A_USER,
        NEGATIVES,
        np.random.default_rng(stage.seed),
    )
    return Crowd(ids, {ids[user_id]: own for user_id, own in users.items()}, candidates.of(ids))
