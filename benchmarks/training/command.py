"""`python -m benchmarks train`: training speed beside other libraries."""

import json
import math
from typing import Annotated

import typer

from benchmarks.machine import machine
from benchmarks.training.benchmark import TrainingBenchmarkPlan, default_threads, train_benchmark
from benchmarks.training.peers import chosen
from benchmarks.training.report import show, to_json
from foretaste.console import console, errors
from foretaste.settings import Settings
from models.data.sources.public import open_dataset
from models.training.config import TrainingConfig


def train(  # noqa: PLR0913, PLR0917  # a command's options
    data: Annotated[str, typer.Option("--data", help="ml-1m, ml-100k, alimama, or a dataset folder.")] = "ml-1m",
    rows: Annotated[int, typer.Option(min=1, help="Training rows of an epoch, about.")] = 200_000,
    seconds: Annotated[float, typer.Option(min=1, help="A run ends after as many, if its epoch has not ended.")] = 20.0,
    full: Annotated[bool, typer.Option("--full", help="A whole epoch each, with all rows and to its end.")] = False,
    rounds: Annotated[int, typer.Option(min=1, help="Runs of each contestant.")] = 3,
    threads: Annotated[int | None, typer.Option(min=1, help="Of torch; half the cores where absent.")] = None,
    precision: Annotated[str, typer.Option(help="Of Foretaste's products: auto, float32 or bfloat16.")] = "auto",
    peers: Annotated[str, typer.Option(help="Libraries to run beside, or none.")] = "torch-rechub,deepctr-torch",
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as one JSON object.")] = False,
) -> None:
    """Time the training of Foretaste's towers and of other libraries' nearest models, side by side."""
    plan = TrainingBenchmarkPlan(
        rows=None if full else rows,
        seconds=math.inf if full else seconds,
        rounds=rounds,
        threads=threads or default_threads(),
        peers=chosen(peers),
        training=TrainingConfig(precision=precision),  # type: ignore[arg-type]  # it checks its fields
    )
    facts = machine()
    cache = Settings().home / "data"
    dataset = open_dataset(data, cache, lambda step, done, total: errors.print(step) if not done else None)
    result = train_benchmark(dataset, plan, progress=errors.print)
    if as_json:
        typer.echo(json.dumps(to_json(plan, result, facts)))
    else:
        show(console, plan, result, facts)
