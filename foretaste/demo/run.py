"""`foretaste demo`: the whole system on real data, from an empty folder to ranked lists for new users."""

import asyncio
import json
import math
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import aiohttp
import numpy as np

from foretaste import compose, embedded, jobs, publishing
from foretaste.console import Report, console, progress
from foretaste.contracts import Attributes, RankResponse, Source, Topic
from foretaste.demo import judging
from foretaste.demo.judging import Verdict
from foretaste.demo.load import Load, SignUps
from foretaste.demo.report import show
from foretaste.errors import ForetasteError, InvalidInput
from foretaste.settings import Settings
from foretaste.stack.stack import Stack

if TYPE_CHECKING:
    from models.dataset import Dataset

EVENTS_A_USER = 40
NEGATIVES = 4
POOL = 200
"""Most popular items, for the two top tens."""
MANY = 10_000
"""Dead letters of a partition that are counted, at most."""
PATIENCE = 30.0
"""Seconds after the last sign-up in which its virtual behaviour must become readable."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What the demo does: `users` real users after the split sign up at `rate` a second."""

    data: str = "ml-1m"
    users: int = 1000
    rate: float = 100.0
    keep: bool = False
    retrain: bool = False
    seed: int = 0


@dataclass(slots=True)
class Timer:
    """Seconds by step, in the order of the steps."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        began = time.monotonic()
        try:
            yield
        finally:
            self.seconds[name] = round(time.monotonic() - began, 2)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the live part found."""

    opening: SignUps
    """The first sign-up alone, before which the worker had no partitions."""
    sign_ups: SignUps
    """All others, at the rate; the latencies are theirs."""
    verdict: Verdict
    dead_letters: int
    before: RankResponse
    after: RankResponse
    liked: list[str]

    @property
    def sent(self) -> int:
        return self.opening.sent + self.sign_ups.sent

    @property
    def enriched(self) -> int:
        return self.opening.enriched + self.sign_ups.enriched


def run(settings: Settings, plan: Plan) -> None:
    """1. stack, 2. data, 3. generation 1, 4. publish, 5. worker and service, 6. sign-ups, 7. rankings, 8. table.

    Where a part is the user's own, the demo keeps to a project and topics of its own, so that no pointer, feature or
    topic of theirs is touched. Raises `ForetasteError` when a sign-up was not enriched or became a dead letter.
    """
    timer = Timer()
    if settings.kafka or settings.redis or settings.triton:
        settings = settings.model_copy(update={"project": "foretaste_demo", "topic_prefix": "foretaste-demo-"})
        console.print("a part is your own: the demo keeps to project foretaste_demo and topics foretaste-demo-*")
    with ExitStack() as stacked:
        with progress() as report:
            with timer.step("stack"):
                planned = embedded.plan_stack(settings, report)
                stack = stacked.enter_context(Stack(settings.home, planned, report=report))
            result, met = _run_on(stack, settings, plan, timer, report)
        path = settings.home / "demo.json"
        path.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
        show(result, console)
        console.print(f"the same figures are in {path}")
        if plan.keep:
            console.print(f"still running: {stack.addresses['api']} (Ctrl-C ends it)")
            embedded.keep_running(stack, settings, console.print)
    if not met:
        raise ForetasteError(f"not every sign-up was enriched and served by its virtual behaviour: see {path}")


def _run_on(stack: Stack, settings: Settings, plan: Plan, timer: Timer, report: Report) -> tuple[dict[str, Any], bool]:
    with timer.step("data"):
        dataset = jobs.open_dataset(settings, plan.data, report)
    with timer.step("train"):
        folder = jobs.generation_for(settings, dataset, report, retrain=plan.retrain)
    resolved = compose.resolve(settings)
    with timer.step("publish"):
        embedded.prepare(resolved)
        number = asyncio.run(publishing.publish(resolved, int(folder.name)))
        report("publish", 1, 1)
    with timer.step("start worker and api"):
        api = embedded.start_processes(stack, settings)
    live = asyncio.run(_live(resolved, plan, dataset, number, api, timer, report))
    met = live.enriched == live.sent and not live.dead_letters and set(live.verdict.served_by) == {Source.VIRTUAL}
    return _result(plan, number, live, timer), met


async def _live(
    settings: Settings,
    plan: Plan,
    dataset: "Dataset",
    number: int,
    api: str,
    timer: Timer,
    report: Report,
) -> Outcome:
    async with compose.parts(settings) as parts:
        generation = await parts.generations.get(number)
        if generation is None:
            raise InvalidInput("generation", number, "is not recorded")
        letters = len(await jobs.dead_letters(settings, MANY))
        real = _new_users(dataset, plan)
        live_ids = {user_id: f"{user_id}.{int(time.time()):x}" for user_id in real}  # a stranger again in each run
        users = {live_ids[user_id]: attributes for user_id, attributes in real.items()}
        first, *others = users
        pool = _most_popular(settings, number)
        async with aiohttp.ClientSession() as session:
            before = await judging.rank(session, api, first, pool)
        load = partial(
            Load,
            topic=f"{settings.topic_prefix}{Topic.REGISTERED}",
            events=parts.events,
            store=parts.store,
            generation=number,
            patience=PATIENCE,
            clock=time.monotonic,
        )
        with timer.step("first sign-up"):  # the worker then has its partitions
            opening = await load(rate=1.0).run({first: users[first]})
        with timer.step("sign up"):
            outcome = await load(rate=plan.rate, advance=lambda done: report("enriched", done, len(others))).run(
                {user_id: users[user_id] for user_id in others}
            )
        with timer.step("rank"):
            verdict = await judging.judge(
                _held_out(settings, plan, dataset, live_ids, number),
                api=api,
                towers=parts.towers,
                generations=parts.generations,
                generation=generation,
                attributes=users,
                advance=lambda done: report("ranked", done, len(users)),
            )
        async with aiohttp.ClientSession() as session:
            after = await judging.rank(session, api, first, pool)
    letters = len(await jobs.dead_letters(settings, MANY)) - letters
    frame = dataset.interactions
    liked = frame[(frame["user_id"] == next(iter(real))) & (frame["label"] == 1)]["item_id"].astype(str).tolist()
    return Outcome(opening, outcome, verdict, letters, before, after, liked)


def _new_users(dataset: "Dataset", plan: Plan) -> dict[str, Attributes]:
    """The first `plan.users` users whose first event lies after the split, in order of it, with raw attributes."""
    from models.split import split_by_time

    chosen = split_by_time(dataset).cold_users[: plan.users]
    if not chosen:
        raise InvalidInput("data", plan.data, "no user is new after the split")
    names = list(dataset.description.users.attributes)
    rows = dataset.users.iloc[dataset.user_rows(chosen)][names].to_dict("records")
    return {user_id: _scalars(row) for user_id, row in zip(chosen, rows, strict=True)}


def _scalars(row: dict[Any, Any]) -> Attributes:
    return {str(name): value.item() if isinstance(value, np.generic) else value for name, value in row.items()}


def _held_out(
    settings: Settings, plan: Plan, dataset: "Dataset", live_ids: dict[str, str], number: int
) -> list[judging.HeldOut]:
    from models.artifact import read_manifest
    from models.encoding import Encoding
    from models.files import ENCODING
    from models.fitting import item_counts

    folder = settings.generations / str(number)
    encoding = Encoding.from_json((folder / ENCODING).read_text(encoding="utf-8"))
    drawn = judging.Candidates(
        dataset,
        encoding,
        item_counts(dataset, encoding, read_manifest(folder).split_ms),
        EVENTS_A_USER,
        NEGATIVES,
        np.random.default_rng(plan.seed),
    )
    return drawn.of(live_ids)


def _most_popular(settings: Settings, number: int) -> list[str]:
    from models.artifact import generation_record

    _, shares = generation_record(settings.generations / str(number))
    return sorted(shares, key=lambda item: -shares[item])[:POOL]


def _result(plan: Plan, number: int, live: Outcome, timer: Timer) -> dict[str, Any]:
    """What `demo.json` holds."""
    sign_ups = live.sign_ups
    return {
        "data": plan.data,
        "generation": number,
        "sign_ups": live.sent,
        "enriched": live.enriched,
        "dead_letters": live.dead_letters,
        "latency_ms": {"p50": _rounded(sign_ups.percentile(50), 1), "p99": _rounded(sign_ups.percentile(99), 1)},
        "sign_ups_per_second": _rounded(sign_ups.enriched / sign_ups.seconds, 1),
        "auc": {way: _rounded(value, 4) for way, value in live.verdict.auc().items()},
        "gauc": {way: _rounded(value, 4) for way, value in live.verdict.gauc().items()},
        "ranked_users": sum(live.verdict.served_by.values()),
        "served_by": dict(live.verdict.served_by),
        "seconds": timer.seconds,
        "top_ten": {
            "user": live.after.user_id,
            "acted_on_later": live.liked,
            "before": {"served_by": live.before.served_by, "items": _top(live.before)},
            "after": {"served_by": live.after.served_by, "items": _top(live.after)},
        },
    }


def _top(response: RankResponse) -> list[str]:
    return [item.item_id for item in response.ranked[:10]]


def _rounded(value: float, digits: int) -> float | None:
    """JSON has no nan: null stands for it."""
    return None if math.isnan(value) else round(value, digits)
