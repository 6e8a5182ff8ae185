"""How long it takes until a new item is ranked: from its registration over HTTP to rankings by its attributes.

    python -m benchmarks new-items --json

A stack of its own with a worker and a service. Items are registered one after the other, each timed until the service
has taken it in (`wait`), which is looked for every 50 ms.
"""

import asyncio
import json
import tempfile
import time
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from benchmarks.enrich.figures import text_of
from benchmarks.machine import machine
from benchmarks.own_stack import own_settings
from benchmarks.trained_stack import Broker, own_stack, publish, train
from foretaste import embedded
from foretaste.client import Foretaste, TryPolicy
from foretaste.console import errors
from foretaste.kernel.errors import Unavailable
from foretaste.settings import Settings
from foretaste.stack.environment import ensure_triton_environment

WARM_UP = 5
"""Items before those that are timed: a worker may only just be starting."""
SECONDS = 10.0


def new_items(
    broker: Annotated[Broker, typer.Option(help="tansu, or apache: the Kafka that KAFKA_HOME names.")] = "tansu",
    items: Annotated[int, typer.Option(min=10)] = 200,
    data: Annotated[str, typer.Option(help="ml-100k, ml-1m, or a dataset folder.")] = "ml-100k",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Time new items from their registration until they are ranked by their attributes."""
    facts = machine()
    with tempfile.TemporaryDirectory(prefix="foretaste-items-") as folder:
        settings = own_settings(Settings().model_copy(update={"home": Path(folder)}))
        train(settings, data, [1])
        environment = ensure_triton_environment(Settings().home, lambda step, *_: errors.print(step))
        with own_stack(settings, environment, broker) as (stack, resolved):
            asyncio.run(publish(resolved, [1]))
            api = embedded.start_processes(stack, resolved)
            with Foretaste(api, tries=TryPolicy(deadline=60.0, timeout=2 * SECONDS)) as service:
                seconds = [_registered(service, number) for number in range(WARM_UP + items)][WARM_UP:]
    p50, p99 = np.percentile(np.array(seconds) * 1000, [50, 99])
    found = {"broker": broker, "items": items, "ranked_within_ms": {"p50": round(p50), "p99": round(p99)}}
    typer.echo(json.dumps({"machine": facts, **found}) if as_json else text_of(found))


def _registered(service: Foretaste, number: int) -> float:
    """Seconds until the service ranks it. Raises `Unavailable` where it does not."""
    began = time.perf_counter()
    if not service.register_item(
        f"new-{number}", {"genre": "Drama", "year": 1900 + number % 100}, wait=SECONDS
    ).readable:
        raise Unavailable("api", f"item {number} is not ranked after {SECONDS:g} s")
    return time.perf_counter() - began
