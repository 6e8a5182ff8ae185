"""`python -m benchmarks enrich`: sign-ups, from Kafka to virtual behaviour that can be read."""

import asyncio
import json
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.enrich.benchmark import EnrichBenchmark, EnrichPlan
from benchmarks.enrich.figures import figures, text_of
from benchmarks.machine import machine
from benchmarks.own_stack import own_settings
from benchmarks.trained_stack import Broker, trained_stack
from foretaste.settings import Settings


def enrich(  # noqa: PLR0913, PLR0917  # a command's options
    broker: Annotated[Broker, typer.Option(help="tansu, or apache: the Kafka that KAFKA_HOME names.")] = "tansu",
    rounds: Annotated[int, typer.Option(min=1, help="Of each contestant, after one that warms up.")] = 5,
    burst: Annotated[int, typer.Option(min=1000, help="Sign-ups that wait when a worker or the floor starts.")] = 10000,
    peer_burst: Annotated[int, typer.Option(min=50, help="Likewise for the naive peer.")] = 200,
    rate: Annotated[float, typer.Option(min=1, help="Sign-ups a second, for the latencies.")] = 200.0,
    steady_seconds: Annotated[float, typer.Option(min=1, help="For which they come at that rate.")] = 5.0,
    data: Annotated[str, typer.Option(help="ml-100k, ml-1m, or a dataset folder.")] = "ml-100k",
    home: Annotated[Path | None, typer.Option(help="Folder of the stack; a temporary one where absent.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Time one worker, its floor and a naive peer: sign-ups a second in a burst, and latency at a steady rate."""
    facts = machine()
    plan = EnrichPlan(rounds, burst, peer_burst, rate, steady_seconds)
    with tempfile.TemporaryDirectory(prefix="foretaste-enrich-") as folder:
        settings = own_settings(Settings().model_copy(update={"home": home or Path(folder)}))
        with trained_stack(settings, data, broker) as stack:
            benchmark = EnrichBenchmark(stack, plan)
            asyncio.run(benchmark.run())
    found = figures(benchmark.measured, plan, broker, settings.consumer)
    typer.echo(json.dumps({"machine": facts, **found}) if as_json else text_of(found))
