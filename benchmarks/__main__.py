"""`foretaste bench`: each command times Foretaste on this machine, alone or beside others."""

import json
import math
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.replay_cli import refresh

bench = typer.Typer(no_args_is_help=True, help="Benchmarks of this machine.")


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
    from foretaste.console import console, errors  # noqa: PLC0415
    from foretaste.settings import Settings  # noqa: PLC0415
    from models.data.sources.public import open_dataset  # noqa: PLC0415
    from models.training.config import TrainingConfig  # noqa: PLC0415

    plan = training.Plan(
        rows=None if full else rows,
        seconds=math.inf if full else seconds,
        rounds=rounds,
        threads=threads or training.default_threads(),
        peers=chosen(peers),
        training=TrainingConfig(precision=precision),  # type: ignore[arg-type]  # it checks its fields
    )
    facts = report.machine()
    dataset = open_dataset(
        data, Settings().home / "data", lambda step, done, total: errors.print(step) if not done else None
    )
    outcome = training.train_benchmark(dataset, plan, progress=errors.print)
    if as_json:
        typer.echo(json.dumps(report.to_json(plan, outcome, facts)))
    else:
        report.show(console, plan, outcome, facts)


@bench.command()
def swap(  # noqa: PLR0913, PLR0917  # a command's options
    swaps: Annotated[int, typer.Option(min=1, help="Generations that are swapped in, one after the other.")] = 10,
    rank_rate: Annotated[float, typer.Option(min=1, help="Ranking requests a second.")] = 300.0,
    sign_up_rate: Annotated[float, typer.Option(min=1, help="Sign-ups a second, through Kafka.")] = 100.0,
    users: Annotated[int, typer.Option(min=4, help="Stored cold users; warming and warm ones come on top.")] = 2000,
    seconds_before: Annotated[float, typer.Option(min=1, help="Steady load before the first swap.")] = 20.0,
    warm_up: Annotated[float, typer.Option(min=0, help="Seconds of load before that, which do not count.")] = 5.0,
    rest: Annotated[float, typer.Option(min=0, help="Seconds between a swap and the next.")] = 3.0,
    data: Annotated[str, typer.Option("--data", help="ml-1m, ml-100k, or a dataset folder.")] = "ml-100k",
    home: Annotated[Path | None, typer.Option(help="Folder of the stack; a temporary one where absent.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as one JSON object.")] = False,
) -> None:
    """Swap generations under ranking requests and sign-ups: what fails, what is mixed, and how long answers take.

    On a stack of its own. FORETASTE_KAFKA may name a Kafka of yours; it gets topics of the benchmark's own.
    """
    from benchmarks import report, swap_report  # noqa: PLC0415  # a command loads what it runs and nothing else
    from benchmarks.swap import Plan, own_settings, swap_benchmark  # noqa: PLC0415
    from foretaste.console import console, errors  # noqa: PLC0415
    from foretaste.settings import Settings  # noqa: PLC0415
    from foretaste.stack.environment import ensure_triton_environment  # noqa: PLC0415
    from models.data.sources.public import open_dataset  # noqa: PLC0415
    from models.training.config import TrainingConfig  # noqa: PLC0415

    def said(step: str, done: int, total: int | None) -> None:
        if done in (0, total):
            errors.print(f"{step}: {'done' if done else '…'}")

    settings, facts = Settings(), report.machine()
    plan = Plan(swaps, rank_rate, sign_up_rate, users, seconds_before, rest, warm_up)
    dataset = open_dataset(data, settings.home / "data", said)
    environment = ensure_triton_environment(settings.home, said)
    training = TrainingConfig(epochs=1, device="cpu")
    with tempfile.TemporaryDirectory(prefix="foretaste-swap-") as temporary:
        own = own_settings(settings.model_copy(update={"home": home or Path(temporary)}))
        outcome = swap_benchmark(own, plan, dataset, training, environment, said)
    found = swap_report.to_json(plan, outcome, facts)
    if as_json:
        typer.echo(json.dumps(found))
    else:
        swap_report.show(console, found)


bench.command()(refresh)
