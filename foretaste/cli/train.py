"""`foretaste train`: the first generation, from a data set."""

import asyncio
from collections.abc import Mapping
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from foretaste import compose
from foretaste.cli.cotrain import Device
from foretaste.cli.data import DataOption
from foretaste.console import console, progress
from foretaste.kernel.errors import Unavailable
from foretaste.settings import Settings

if TYPE_CHECKING:
    from models.training.config import TrainingConfig


class Masked(StrEnum):
    ROWS = "rows"
    USERS = "users"
    NOBODY = "nobody"


def train(
    data: DataOption = "ml-1m",
    epochs: Annotated[int | None, typer.Option(min=1, help="Passes over the training rows.")] = None,
    seed: Annotated[int, typer.Option(help="Of every random draw.")] = 0,
    device: Annotated[Device, typer.Option(help="What to train on.")] = "auto",
    warm_after: Annotated[
        int | None, typer.Option(min=1, help="Behaviours after which a user is warm; the paper's rule is 1.")
    ] = None,
    masked: Annotated[Masked | None, typer.Option(help="Whose history is hidden in training.")] = None,
    ranking: Annotated[
        str | None, typer.Option(help="recency, dnn, din, dmr, dcn, dcn-low-rank, deepfm, or package.module:Class.")
    ] = None,
    zero_shot: Annotated[
        str | None, typer.Option(help="effects, mail, dual, single, none, absent, or package.module:Class.")
    ] = None,
) -> None:
    """Co-train both towers, evaluate them on the time split and write the next generation."""
    from models.data.sources.public import open_dataset
    from models.refresh.train import train as train_generation

    options = {"seed": seed, "device": device, "warm_after": warm_after, "masked": masked, "epochs": epochs}
    config = training_config(_given(options), _given({"ranking": ranking, "zero_shot": zero_shot}))
    settings = Settings()
    with progress() as report:
        dataset = open_dataset(data, settings.made_home() / "data", report)
        artifact = train_generation(
            dataset, config, settings.generations, lambda: asyncio.run(next_number(settings)), report
        )
    console.print(f"generation {artifact.name} is in {artifact}")
    console.print_json((artifact / "manifest.json").read_text(encoding="utf-8"))


def training_config(options: Mapping[str, Any], towers: Mapping[str, Any]) -> "TrainingConfig":
    """`options` are fields of `TrainingConfig`, `towers` of its `Architecture`.

    Raises `InvalidInput` naming the one that is wrong.
    """
    from models.towers.architecture import Architecture
    from models.training.config import TrainingConfig

    return TrainingConfig(**{"architecture": Architecture(**towers), **options})


async def next_number(settings: Settings) -> tuple[int, int | None]:
    """From which number on a generation may be numbered, and the active one's; 1 and None where no Redis is known."""
    from models.generations.publish import free_number

    try:
        generations = compose.generations(compose.resolve(settings))
    except Unavailable:
        return 1, None
    try:
        return await free_number(generations)
    finally:
        await generations.close()


def _given(options: Mapping[str, Any]) -> dict[str, Any]:
    """Without those that keep their default."""
    return {name: value for name, value in options.items() if value is not None}
