"""`foretaste bench`: each command times Foretaste beside others on this machine."""

import json
import math
from typing import Annotated

import typer

bench = typer.Typer(no_args_is_help=True, help="Benchmarks: Foretaste beside other libraries, on this machine.")


@bench.callback()
def group() -> None:
    """Each command says what it counts; benchmarks/README.md tells how to read it."""


@bench.command()
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
    from benchmarks import report, training  # noqa: PLC0415  # a command loads what it runs and nothing else
    from benchmarks.peers import chosen  # noqa: PLC0415
    from foretaste import jobs  # noqa: PLC0415
    from foretaste.console import console, errors  # noqa: PLC0415
    from foretaste.settings import Settings  # noqa: PLC0415

    plan = training.Plan(
        rows=None if full else rows,
        seconds=math.inf if full else seconds,
        rounds=rounds,
        threads=threads or training.default_threads(),
        peers=chosen(peers),
        training=jobs.training_config({"precision": precision}),
    )
    facts = report.machine()
    dataset = jobs.open_dataset(Settings(), data, lambda step, done, total: errors.print(step) if not done else None)
    outcome = training.train_benchmark(dataset, plan, progress=errors.print)
    if as_json:
        typer.echo(json.dumps(report.to_json(plan, outcome, facts)))
    else:
        report.show(console, plan, outcome, facts)
