"""How long it takes to fill an emptied online store again, while rankings go on.

    python -m benchmarks rebuild --users 1000000 --json

A stack of its own in a temporary folder; `user-profiles` and `user-behaved` are written beforehand. The towers are
trained for one epoch; how good they are does not matter here.
"""

import asyncio
import json
import threading
import time
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import typer
from prometheus_client import CollectorRegistry

from benchmarks.filling.stack import filled_stack, timed_command
from benchmarks.machine import machine
from benchmarks.trained_stack import Broker
from foretaste import compose
from foretaste.console import errors
from foretaste.kernel.errors import ForetasteError
from foretaste.kernel.event_order import AttributesVersion, Place
from foretaste.kernel.events import UserBehaved
from foretaste.kernel.values import Attributes
from foretaste.settings import Settings
from serving.metrics import RankingMetrics
from serving.requests import RankRequest
from streams.codec import EVENTS
from streams.profiles.profile import profile_record
from streams.topics import TopicNames

BATCH = 5000
CANDIDATES = [f"item-{each}" for each in range(20)]
RANK_EVERY = 0.2
"""Seconds between two rankings meanwhile."""


def rebuild(
    users: Annotated[int, typer.Option(min=1, help="In user-profiles.")] = 100_000,
    behaviours: Annotated[int, typer.Option(min=0, help="In user-behaved, of the users in turn.")] = 100_000,
    data: Annotated[str, typer.Option(help="ml-100k, ml-1m, or a dataset folder: what the towers know.")] = "ml-100k",
    broker: Annotated[Broker, typer.Option(help="tansu, or apache: the distribution in KAFKA_HOME.")] = "tansu",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Time `foretaste rebuild` from its start to its end, with rankings meanwhile."""
    facts = machine()
    with filled_stack(data, broker) as stack:
        errors.print(f"writing {users} users and {behaviours} behaviours to Kafka")
        asyncio.run(_written(stack.settings, stack.attributes, users, behaviours))
        errors.print("filling")
        with _Rankings(stack.settings, users) as rankings:
            found, seconds, used = timed_command(stack.settings, "rebuild")
    figures = {
        "broker": broker,
        "users": users,
        "behaviours": behaviours,
        "seconds": round(seconds, 2),
        "users_per_second": round(users / seconds),
        "processor_us_a_user": {name: round(1e6 * each / users, 2) for name, each in used.items()},
        "found": found,
        "rankings": rankings.counts,
    }
    typer.echo(json.dumps({"machine": facts, **figures}) if as_json else _text_of(figures))


async def _written(settings: Settings, attributes: Sequence[Attributes], users: int, behaviours: int) -> None:
    """What workers would have left in Kafka."""
    names, events = TopicNames(settings.topic_prefix), compose.events(settings)
    at_ms = round(time.time() * 1000) - 3_600_000
    for start in range(0, users, BATCH):
        records = []
        for each in range(start, min(start + BATCH, users)):
            version = AttributesVersion(at_ms, Place("user-registered-0", each, at_ms), (b"%08d" % each,))
            record = profile_record(f"user-{each}", attributes[each % len(attributes)], version)
            if record is not None:
                records.append(record)
        await events.send_all(names.profiles, records)
    first = datetime.now(UTC) - timedelta(seconds=1800)
    for start in range(0, behaviours, BATCH):
        acts = [
            UserBehaved(
                user_id=f"user-{each % users}", item_id=f"item-{each % 997}", at=first + timedelta(milliseconds=each)
            )
            for each in range(start, min(start + BATCH, behaviours))
        ]
        await events.send_all(names.behaved, [(act.user_id.encode(), EVENTS.encode(act)) for act in acts])
    await events.close()


class _Rankings:
    """Ranks for one user after the other while inside, five times a second; counts how it was answered."""

    def __init__(self, settings: Settings, users: int) -> None:
        self._settings = settings
        self._users = users
        self._over = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._rank()))
        self.counts: Counter[str] = Counter()

    def __enter__(self) -> "_Rankings":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    async def _rank(self) -> None:
        async with compose.parts(self._settings) as parts:
            way, _ = compose.ranking(self._settings, parts, RankingMetrics(CollectorRegistry()))
            number = 0
            while not self._over.is_set():
                request = RankRequest(user_id=f"user-{number * 7919 % self._users}", items=CANDIDATES)
                try:
                    (answer,) = await way.rank([request])
                except ForetasteError as error:
                    self.counts[f"failed: {type(error).__name__}"] += 1
                else:
                    self.counts[str(answer.fallback or answer.served_by)] += 1
                number += 1
                await asyncio.sleep(RANK_EVERY)


def _text_of(figures: dict[str, Any]) -> str:
    return "\n".join(f"{name:28} {value}" for name, value in figures.items())
