"""The live part of the demo: users sign up, are ranked, act; the towers are refreshed; later users compare both."""

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

import aiohttp
import numpy as np

from foretaste.demo.background_traffic import BackgroundTraffic
from foretaste.demo.context import DemoContext
from foretaste.demo.evaluation import CandidateSampler, HeldOutCandidates, LiveEvaluation, evaluate
from foretaste.demo.first_session import FirstSessions, SessionPlanner, first_sessions
from foretaste.demo.interactions import InteractionReplay, InteractionResult, replay_interactions
from foretaste.demo.new_users import NewUsers, fresh_ids
from foretaste.demo.ranking_client import rank
from foretaste.demo.refresh import DemoRefresh, RefreshPorts, refresh_under_traffic
from foretaste.demo.result import DemoResult, FirstUsersResult
from foretaste.demo.sign_ups import SignUpLoad, SignUpResult
from foretaste.kernel.events import Topic
from foretaste.kernel.generations import Generation
from foretaste.kernel.values import Attributes
from serving.requests import RankResponse

EVENTS_A_USER = 40
NEGATIVES = 4
PATIENCE = 30.0
"""Seconds after the last sign-up in which its virtual behaviour must become readable."""


@dataclass(frozen=True, slots=True)
class SignUpGroup:
    """Users with the ids that sign up (by id in the data), their attributes, and their held-out candidates."""

    ids: Mapping[str, str]
    attributes: Mapping[str, Attributes]
    held_out: Sequence[HeldOutCandidates]


async def run_scenario(
    context: DemoContext,
    users: NewUsers,
    rate: float,
    pool: Sequence[str],
    ports: RefreshPorts,
    count_dead_letters: Callable[[], Awaitable[int]],
) -> DemoResult:
    """Run steps 6 to 12 of the demo. `pool`: candidates of the two top tens, and of the traffic."""
    run = f"{int(time.time()):x}"
    letters = await count_dead_letters()
    first = _group(context, users.first, run, users.since_ms)
    later = _group(context, users.later, run, users.until_ms)
    first_users = await _first_users(context, first, rate, pool)  # 6, 7
    with context.timer.step("act"):  # 8
        interactions = await _replay_interactions(context, users, first)
    with context.timer.step("later users sign up"):  # 9
        sign_ups = await _sign_up(context, rate, "enriched, later", later.attributes)
    with context.timer.step("rank them"):
        before = await _evaluate(context, later, context.generation)
    traffic = BackgroundTraffic(
        api=context.api,
        topic=context.topic(Topic.REGISTERED),
        open_events=ports.open_events,
        newcomers=list(users.later.values()),
        prefix=f"meanwhile.{run}.",
        users=list(later.attributes),
        items=pool,
        seed=context.seed,
    )
    with context.timer.step("refresh"):  # 10
        refresh = await refresh_under_traffic(context, traffic, ports, interactions)
    after = await _evaluate_again(context, later, refresh)  # 11
    sessions = await _first_sessions(context, users, run, rate, refresh.active)  # 12
    letters = await count_dead_letters() - letters
    return DemoResult(
        context.generation.number,
        first_users,
        interactions,
        sign_ups,
        before,
        refresh,
        after,
        sessions,
        letters,
        context.seed,
    )


async def _first_users(context: DemoContext, group: SignUpGroup, rate: float, pool: Sequence[str]) -> FirstUsersResult:
    user_ids = list(group.attributes)
    opening_user, others = user_ids[0], user_ids[1:]
    before = await _top_ten(context, opening_user, pool)
    with context.timer.step("first sign-up"):  # the worker then has its partitions
        opening = await _sign_up(context, 1.0, "first", {opening_user: group.attributes[opening_user]})
    with context.timer.step("sign up"):
        users = {user_id: group.attributes[user_id] for user_id in others}
        sign_ups = await _sign_up(context, rate, "enriched", users)
    with context.timer.step("rank"):
        evaluation = await _evaluate(context, group, context.generation)
    after = await _top_ten(context, opening_user, pool)
    in_data = next(iter(group.ids))
    frame = context.dataset.interactions
    liked = frame[(frame["user_id"] == in_data) & (frame["label"] == 1)]["item_id"].astype(str).tolist()
    return FirstUsersResult(opening, sign_ups, evaluation, before, after, liked)


async def _replay_interactions(context: DemoContext, users: NewUsers, group: SignUpGroup) -> InteractionResult:
    rng = np.random.default_rng(context.seed)
    replay = InteractionReplay(context.dataset, context.encoding, users.since_ms, users.until_ms, rng)
    rankings = replay.of(group.ids)
    total = sum(map(len, rankings.values()))
    return await replay_interactions(context, rankings, lambda done: context.report("acted", done, total))


async def _first_sessions(
    context: DemoContext, users: NewUsers, run: str, rate: float, active: Generation
) -> FirstSessions:
    """Of later users, under other ids: the refresh has learned nothing of them."""
    ids = fresh_ids(users.later, f"session.{run}")
    rng = np.random.default_rng(context.seed)
    sessions = SessionPlanner(context.dataset, context.encoding, users.until_ms, rng).of(ids)
    attributes = {live: users.later[user_id] for user_id, live in ids.items() if live in sessions}
    with context.timer.step("first sessions"):
        await _sign_up(context, rate, "enriched, in a session", attributes, active)
        return await first_sessions(context, sessions)


async def _evaluate_again(context: DemoContext, later: SignUpGroup, refresh: DemoRefresh) -> LiveEvaluation | None:
    if not refresh.swapped:
        return None
    with context.timer.step("rank them again"):
        return await _evaluate(context, later, refresh.active)


async def _evaluate(context: DemoContext, group: SignUpGroup, generation: Generation) -> LiveEvaluation:
    return await evaluate(
        context, group.held_out, generation, group.attributes, f"ranked by generation {generation.number}"
    )


async def _sign_up(
    context: DemoContext, rate: float, step: str, users: Mapping[str, Attributes], by: Generation | None = None
) -> SignUpResult:
    """Until each has virtual behaviour of a generation, the first by default."""
    load = SignUpLoad(
        topic=context.topic(Topic.REGISTERED),
        events=context.parts.events,
        store=context.parts.store,
        generation=(by or context.generation).number,
        rate=rate,
        patience=PATIENCE,
        clock=time.monotonic,
        advance=lambda done: context.report(step, done, len(users)),
    )
    return await load.run(users)


async def _top_ten(context: DemoContext, user_id: str, pool: Sequence[str]) -> RankResponse:
    async with aiohttp.ClientSession() as session:
        return await rank(session, context.api, user_id, pool, shown=0)


def _group(context: DemoContext, users: Mapping[str, Attributes], run: str, known_until_ms: int) -> SignUpGroup:
    """Users under fresh ids, with candidates drawn by the popularity of the interactions before `known_until_ms`."""
    from models.data.vocabulary import item_counts

    ids = fresh_ids(users, run)
    candidates = CandidateSampler(
        context.dataset,
        context.encoding,
        item_counts(context.dataset, context.encoding, known_until_ms),
        EVENTS_A_USER,
        NEGATIVES,
        np.random.default_rng(context.seed),
    )
    return SignUpGroup(ids, {ids[user_id]: own for user_id, own in users.items()}, candidates.of(ids))
