"""How many behaviours a second one worker takes, from Kafka to the online store.

    python -m benchmarks behave --json

A stack of its own. Behaviours of many users wait in Kafka when the worker starts; it is timed from a fifth of them on,
by the counter that it shows to Prometheus.
"""

import asyncio
import json
import socket
import tempfile
import time
import urllib.request
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.enrich.benchmark import CHUNK, NOT_COUNTED, PATIENCE, processor_use, running
from benchmarks.enrich.contestants import worker
from benchmarks.enrich.figures import spread, text_of
from benchmarks.machine import machine
from benchmarks.own_stack import own_settings
from benchmarks.trained_stack import Broker, trained_stack
from foretaste import compose
from foretaste.console import errors
from foretaste.kernel.events import UserBehaved
from foretaste.settings import Settings
from streams.codec import EVENTS
from streams.topics import TopicNames

ITEMS = 1000
LOOK_EVERY = 0.05
"""Seconds between two looks at the worker's counter."""
COUNTER = "foretaste_behaviours_total"


def behave(  # a command's options
    broker: Annotated[Broker, typer.Option(help="tansu, or apache: the Kafka that KAFKA_HOME names.")] = "tansu",
    rounds: Annotated[int, typer.Option(min=1, help="After one that warms up.")] = 5,
    behaviours: Annotated[int, typer.Option(min=1000, help="Of each round.")] = 60000,
    users: Annotated[int, typer.Option(min=1, help="Whose they are, in turn.")] = 5000,
    passed_over: Annotated[int, typer.Option(min=0, max=ITEMS - 1, help="Items that each of them names.")] = 0,
    data: Annotated[str, typer.Option(help="ml-100k, ml-1m, or a dataset folder.")] = "ml-100k",
    home: Annotated[Path | None, typer.Option(help="Folder of the stack; a temporary one where absent.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Time one worker on behaviours: how many a second are appended to what is stored of their users."""
    facts = machine()
    with tempfile.TemporaryDirectory(prefix="foretaste-behave-") as folder:
        settings = own_settings(Settings().model_copy(update={"home": home or Path(folder)}))
        with trained_stack(settings, data, broker) as stack:
            own = stack.settings.model_copy(update={"metrics_port": _free_port()})
            measured = [_round(own, number, behaviours, users, passed_over) for number in range(rounds + 1)][1:]
    per_second = spread([each for each, _ in measured])
    used = {name: spread([each[name] for _, each in measured])["median"] for name in measured[0][1]}
    found = {
        "broker": broker,
        "consumer": settings.consumer,
        "per_second": round(per_second["median"]),
        "behaviours": behaviours,
        "users": users,
        "passed_over": passed_over,
        "rounds": per_second,
        "processor_us": used,
    }
    typer.echo(json.dumps({"machine": facts, **found}) if as_json else text_of(found))


def _round(settings: Settings, number: int, count: int, users: int, passed_over: int) -> tuple[float, dict[str, float]]:
    """Behaviours a second, and microseconds of a processor for each of them by process."""
    errors.print(f"round {number}")
    asyncio.run(_send(settings, number, count, users, passed_over))
    with running(worker, settings) as pid:

        def used() -> dict[str, float]:
            return processor_use(settings, {"worker": pid})

        first, first_at, before = _reached(settings, NOT_COUNTED * count), time.perf_counter(), used()
        last, last_at, after = _reached(settings, count), time.perf_counter(), used()
    counted = last - first
    each = {name: 1e6 * (seconds - before[name]) / counted for name, seconds in after.items()}
    return counted / (last_at - first_at), each


async def _send(settings: Settings, number: int, count: int, users: int, passed_over: int) -> None:
    """Each round's are later than those of the round before: a user's behaviour is what a user does after another."""
    events, topic = compose.events(settings), TopicNames(settings.topic_prefix).behaved
    start = datetime.now(UTC) - timedelta(days=1) + timedelta(hours=number)
    for first in range(0, count, CHUNK):
        acts = [
            UserBehaved(
                user_id=f"behaving-{each % users}",
                item_id=f"item-{each % ITEMS}",
                at=start + timedelta(milliseconds=each),
                action="clicked",
                passed_over=tuple(f"item-{(each + above) % ITEMS}" for above in range(1, passed_over + 1)),
            )
            for each in range(first, min(first + CHUNK, count))
        ]
        await events.send_all(topic, [(each.user_id.encode(), EVENTS.encode(each)) for each in acts])
    await events.close()


def _reached(settings: Settings, count: float) -> float:
    """Wait until the worker has counted so many; how many there are then. Raises `TimeoutError`."""
    given_up = time.monotonic() + PATIENCE
    while (done := _counted(settings)) < count:
        if time.monotonic() > given_up:
            raise TimeoutError(f"{done:.0f} of {count:.0f} behaviours were taken in {PATIENCE:.0f} s")
        time.sleep(LOOK_EVERY)
    return done


def _counted(settings: Settings) -> float:
    """What the worker shows; 0 before it listens."""
    address = f"http://{settings.metrics_host}:{settings.metrics_port}/metrics"
    try:
        with urllib.request.urlopen(address, timeout=5) as answer:  # a loopback address of ours
            lines = answer.read().decode().splitlines()
    except OSError:
        return 0.0
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(COUNTER))


def _free_port() -> Any:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
