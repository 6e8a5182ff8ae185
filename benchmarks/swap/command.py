"""`python -m benchmarks swap`: swaps of generations under load."""

import json
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.machine import machine
from benchmarks.own_stack import own_settings
from benchmarks.swap.benchmark import SwapPlan, swap_benchmark
from benchmarks.swap.report import show, to_json
from benchmarks.trained_stack import Broker
from foretaste.console import console, errors
from foretaste.settings import Settings
from foretaste.stack.environment import ensure_triton_environment
from models.data.sources.public import open_dataset
from models.training.config import TrainingConfig


def swap(  # noqa: PLR0913, PLR0917  # a command's options
    swaps: Annotated[int, typer.Option(min=1, help="Generations that are swapped in, one after the other.")] = 10,
    rank_rate: Annotated[float, typer.Option(min=1, help="Ranking requests a second.")] = 300.0,
    sign_up_rate: Annotated[float, typer.Option(min=1, help="Sign-ups a second, through Kafka.")] = 100.0,
    users: Annotated[int, typer.Option(min=4, help="Stored cold users; warming and warm ones come on top.")] = 2000,
    seconds_before: Annotated[float, typer.Option(min=1, help="Steady load before the first swap.")] = 20.0,
    warm_up: Annotated[float, typer.Option(min=0, help="Seconds of load before that, which do not count.")] = 5.0,
    rest: Annotated[float, typer.Option(min=0, help="Seconds between a swap and the next.")] = 3.0,
    data: Annotated[str, typer.Option("--data", help="ml-1m, ml-100k, or a dataset folder.")] = "ml-100k",
    broker: Annotated[Broker, typer.Option(help="tansu, or apache: the Kafka that KAFKA_HOME names.")] = "tansu",
    home: Annotated[Path | None, typer.Option(help="Folder of the stack; a temporary one where absent.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as one JSON object.")] = False,
) -> None:
    """Swap generations under ranking requests and sign-ups: failures, mixed answers, latencies.

    On a stack of its own. FORETASTE_KAFKA may name a Kafka of yours; it gets topics of the benchmark's own.
    """
    settings, facts = Settings(), machine()
    plan = SwapPlan(swaps, rank_rate, sign_up_rate, users, seconds_before, rest, warm_up, broker=broker)
    dataset = open_dataset(data, settings.home / "data", _print_step)
    environment = ensure_triton_environment(settings.home, _print_step)
    training = TrainingConfig(device="cpu").with_epochs(1)
    with tempfile.TemporaryDirectory(prefix="foretaste-swap-") as temporary:
        own = own_settings(settings.model_copy(update={"home": home or Path(temporary)}))
        result = swap_benchmark(own, plan, dataset, training, environment, _print_step)
    found = to_json(plan, result, facts)
    if as_json:
        typer.echo(json.dumps(found))
    else:
        show(console, found)


def _print_step(step: str, done: int, total: int | None) -> None:
    if done in (0, total):
        errors.print(f"{step}: {'done' if done else '…'}")
