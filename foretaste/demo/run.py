"""`foretaste demo`: the whole system on real data, from an empty folder to a second generation that serves."""

import asyncio
import json
import time
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from foretaste import compose, embedded
from foretaste.console import console, progress
from foretaste.demo.context import DemoContext, StepTimer
from foretaste.demo.new_users import new_users
from foretaste.demo.refresh import RefreshPorts
from foretaste.demo.report import show
from foretaste.demo.result import as_json, problems
from foretaste.demo.scenario import run_scenario
from foretaste.kernel.errors import ForetasteError, InvalidInput
from foretaste.kernel.ports import Report
from foretaste.kernel.values import DAY_SECONDS
from foretaste.settings import Settings
from foretaste.stack.stack import Stack
from models.data.sources.public import open_dataset
from models.generations import publish as publishing

if TYPE_CHECKING:
    from foretaste.demo.result import DemoResult
    from models.data.dataset import Dataset
    from models.refresh.records import RefreshRecord

HURRIED = {"outcome_window": 2.0, "log_settles": 6.0}
"""Settings of the refresh: in the demo a user acts at once, and half an hour of waiting would be too long."""
PATIENT = {"redis_timeout": 10.0, "triton_timeout": 10.0}
"""Timeouts of the demo's own process, which trains on the cores that it measures; the services keep theirs."""
OWN = {"project": "foretaste_demo", "topic_prefix": "foretaste-demo-"}
MANY = 10_000
"""Dead letters of a partition that are counted, at most."""
POOL = 200
"""Number of most popular items, of which the top tens are made."""
MARGIN = 1.0
"""Seconds by which the window of the refresh reaches back before the first ranking."""


@dataclass(frozen=True, slots=True)
class DemoPlan:
    """The size of the demo: `users` real users after the split sign up at `rate` a second, then as many later ones."""

    data: str = "ml-1m"
    users: int = 1000
    rate: float = 100.0
    keep: bool = False
    retrain: bool = False
    seed: int = 0


def run(settings: Settings, plan: DemoPlan) -> None:
    """Run the demo, in this order.

    1. The stack starts. 2. The data are read. 3. Generation 1 is trained, or found. 4. It is published.
    5. Worker, writer of the log, watch and ranking service start.
    6. Users sign up, and 7. are ranked over what they did later, held out. 8. They act, and so warm up.
    9. Later users sign up, and are ranked by the first generation.
    10. Both towers are refreshed from what the first users did, while others sign up and are ranked.
    11. The later users are ranked by the generation that serves now.
    12. Some of them come again under other ids and click ten times each; after each click they are ranked.
    13. Tables, and `demo.json`.

    Where a part is the user's own, the demo keeps to a project, topics and a log of its own, so that no pointer,
    feature, event or row of theirs is touched. Raises `ForetasteError` with the problems, once everything is
    shown.
    """
    if settings.feature_store is not None:
        problem = "the demo signs its users up in a feature store of its own: unset it"
        raise InvalidInput("FORETASTE_FEATURE_STORE", str(settings.feature_store), problem)
    if settings.api_tokens is not None or settings.api_token_file is not None:
        problem = "the demo's own service asks for no token: unset FORETASTE_API_TOKENS and FORETASTE_API_TOKEN_FILE"
        raise InvalidInput("tokens", "set", problem)
    timer = StepTimer()
    settings = settings.model_copy(update=HURRIED | PATIENT)
    if settings.kafka or settings.redis or settings.triton:
        settings = settings.model_copy(update={**OWN, "log": settings.home / "demo-log"})
        console.print("a part is your own: the demo keeps to project foretaste_demo and topics foretaste-demo-*")
    with ExitStack() as stacked:
        with progress() as report:
            with timer.step("stack"):  # 1
                planned = embedded.plan_stack(settings, report)
                stack = stacked.enter_context(Stack(settings.home, planned, report=report))
            result = _run_on(stack, settings, plan, timer, report)
        path = settings.home / "demo.json"
        figures = as_json(result, plan.data, timer.seconds)
        path.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
        show(figures, console)  # 12
        console.print(f"the same figures are in {path}")
        if plan.keep:
            console.print(f"still running; the console shows all of it: {stack.addresses['api']}/ (Ctrl-C ends it)")
            embedded.keep_running(stack, settings, console.print)
    if faults := list(problems(result)):
        raise ForetasteError(f"{'; '.join(faults)}: see {path}")


def _run_on(stack: Stack, settings: Settings, plan: DemoPlan, timer: StepTimer, report: Report) -> "DemoResult":
    with timer.step("data"):  # 2
        dataset = open_dataset(plan.data, settings.made_home() / "data", report)
    resolved = compose.resolve(settings)
    with timer.step("train"):  # 3
        folder = _first_generation(resolved, plan, dataset, report)
    with timer.step("publish"):  # 4
        embedded.prepare(resolved)
        number = asyncio.run(_published(resolved, int(folder.name)))
        report("publish", 1, 1)
    with timer.step("start worker and api"):  # 5
        api = embedded.start_processes(stack, settings)
    return asyncio.run(_run_live(resolved, plan, dataset, number, api, timer, report))  # 6 to 12


def _first_generation(settings: Settings, plan: DemoPlan, dataset: "Dataset", report: Report) -> Path:
    """The folder of a generation that was trained on these data with the default settings, or of one trained now."""
    from models.refresh.train import train, trained_before
    from models.training.config import TrainingConfig

    config, spent = TrainingConfig(), asyncio.run(_spent(settings))
    found = None if plan.retrain else trained_before(dataset, config, settings.generations, spent, report)
    return found or train(dataset, config, settings.generations, lambda: asyncio.run(_free(settings)), report)


async def _spent(settings: Settings) -> frozenset[int]:
    async with compose.publish_parts(settings) as parts:
        return await publishing.spent_numbers(parts.generations)


async def _free(settings: Settings) -> tuple[int, int | None]:
    async with compose.publish_parts(settings) as parts:
        return await publishing.free_number(parts.generations)


async def _published(settings: Settings, number: int) -> int:
    async with compose.publish_parts(settings) as parts:
        return await publishing.publish(parts, number)


async def _run_live(
    settings: Settings,
    plan: DemoPlan,
    dataset: "Dataset",
    number: int,
    api: str,
    timer: StepTimer,
    report: Report,
) -> "DemoResult":
    from models.evaluation.verdict import read_verdict, verdict_path
    from models.runtime.encoding import Encoding
    from models.runtime.layout import ENCODING

    encoding = Encoding.from_json((settings.generations / str(number) / ENCODING).read_text(encoding="utf-8"))
    async with compose.parts(settings) as parts:
        generation = await parts.generations.get(number)
        if generation is None:
            raise InvalidInput("generation", number, "is not recorded")
        context = DemoContext(
            parts, api, settings.topic_prefix, dataset, encoding, generation, plan.seed, timer, report
        )
        ports = RefreshPorts(
            refresh=partial(_refresh, settings, report),
            verdict_of=lambda candidate: read_verdict(verdict_path(settings.home, candidate)),
            open_events=partial(compose.events, settings),
            settles=settings.outcome_window + settings.log_settles,
        )
        users, pool = new_users(dataset, plan.users), _most_popular(settings, number)
        return await run_scenario(context, users, plan.rate, pool, ports, partial(_dead_letters, settings))


async def _refresh(settings: Settings, report: Report, started: float) -> "RefreshRecord":
    """Run what `foretaste cotrain --once` runs, on the log since `started` (seconds since the epoch).

    The first generation has learned what lies before the split, long ago by the clock: without a window, the log of
    every earlier demo would be learned from too. For the same reason no interrupted run of theirs is resumed.
    """
    from models.refresh.parts import RefreshRequest
    from models.refresh.refresh import refresh

    days = (time.time() - started + MARGIN) / DAY_SECONDS
    async with compose.refresh_parts(settings) as parts:
        parts.records.forget()
        return await refresh(parts, RefreshRequest(window_days=days), report)


def _most_popular(settings: Settings, number: int) -> list[str]:
    from models.generations.manifest import generation_record

    _, shares = generation_record(settings.generations / str(number))
    return sorted(shares, key=lambda item: -shares[item])[:POOL]


async def _dead_letters(settings: Settings) -> int:
    from streams.topics import TopicNames
    from streams.worker.dead_letter_reader import newest_dead_letters

    topic = TopicNames(settings.topic_prefix).dead_letters
    return len(await newest_dead_letters(compose.kafka_connection(settings), topic, MANY))
