"""`foretaste train`: the first generation, from a data set."""

import asyncio
import os
from collections.abc import Mapping
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from foretaste import compose
from foretaste.cli.cotrain import Device
from foretaste.cli.data import DataOption
from foretaste.console import console, progress
from foretaste.kernel.errors import Unavailable
from foretaste.kernel.ports import Report
from foretaste.settings import Settings

if TYPE_CHECKING:
    from models.data.dataset import Dataset
    from models.training.config import TrainingConfig


class Masked(StrEnum):
    ROWS = "rows"
    USERS = "users"
    NOBODY = "nobody"


def train(  # noqa: PLR0913, PLR0917  # a command's options
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
        str | None,
        typer.Option(help="effects, trained-effects, mail, dual, single, none, absent, or package.module:Class."),
    ] = None,
    tune: Annotated[
        bool | None,
        typer.Option(
            "--tune/--untuned",
            help="First choose the settings inside the training period, and keep them for these data; or train without "
            "those that are kept. By default kept ones are used.",
        ),
    ] = None,
) -> None:
    """Co-train both towers, evaluate them on the time split and write the next generation."""
    from models.data.sources.public import open_dataset
    from models.refresh.train import train as train_generation

    options = _given({"seed": seed, "device": device, "warm_after": warm_after, "masked": masked}) | passes(epochs)
    config = training_config(options, _given({"ranking": ranking, "zero_shot": zero_shot}))
    settings = Settings()
    notices: list[str] = []
    with progress() as report:
        dataset = open_dataset(data, settings.made_home() / "data", report)
        if tune is not False:
            config, notices = tuned_config(dataset, config, settings.home, options, report, anew=bool(tune))
        artifact = train_generation(
            dataset, config, settings.generations, lambda: asyncio.run(next_number(settings)), report
        )
    for notice in notices:
        console.print(notice, highlight=False)
    console.print(f"generation {artifact.name} is in {artifact}")
    console.print_json((artifact / "manifest.json").read_text(encoding="utf-8"))


def tuned_config(
    dataset: "Dataset", config: "TrainingConfig", home: Path, options: Mapping[str, Any], report: Report, *, anew: bool
) -> tuple["TrainingConfig", list[str]]:
    """The settings that are chosen `anew`, or that are kept, or `config`; what was asked for in `options` stays.

    And what a person should know of it.
    """
    from models.study.tuned_settings import kept_settings, record_path, tune_settings
    from models.training.config import device_of

    path = record_path(home, dataset)
    if anew:
        jobs = 1 if device_of(config.device).type == "cuda" else os.cpu_count() or 1
        chosen = tune_settings(dataset, config, home, jobs=jobs, device=config.device, report=report)
        lines = [*chosen.lines(), f"what was chosen is kept in {path}; later trainings on these data use it"]
        return replace(chosen.config, seed=config.seed, device=config.device), lines
    kept = kept_settings(dataset, config, home)
    if kept is None:
        return config, []
    return replace(kept, **options), [f"settings that --tune chose are used, from {path}; --untuned trains without"]


def passes(epochs: int | None) -> dict[str, Any]:
    """The options for exactly so many epochs; None: as many as the settings take."""
    return {} if epochs is None else {"epochs": epochs, "least_steps": 1}


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
