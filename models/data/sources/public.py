"""Data sets by name or folder: the public ones are brought here first."""

from pathlib import Path

from foretaste.kernel.errors import InvalidInput
from foretaste.kernel.ports import Report, no_report, reported
from models.data.dataset import Dataset, read_dataset
from models.data.sources.alimama import fetch_alimama
from models.data.sources.complete_journey import NAME, fetch_complete_journey
from models.data.sources.movielens import fetch_movielens

PUBLIC_DATA = ("ml-1m", "ml-100k", NAME, "alimama")


def fetch(name: str, cache: Path, source: Path | None = None, report: Report = no_report) -> Path:
    """The folder of a public data set, fetched where it is not in `cache` yet. Raises `InvalidInput` for another."""
    if name not in PUBLIC_DATA:
        raise InvalidInput("data", name, f"is none of {', '.join(PUBLIC_DATA)}")
    if name == "alimama":
        return fetch_alimama(cache, source=source, progress=report)
    if name == NAME:
        return fetch_complete_journey(cache, source=source, progress=report)
    return fetch_movielens(name, cache, source=source, progress=report)


def open_dataset(data: str, cache: Path, report: Report = no_report) -> Dataset:
    """A data set by its public name or its folder. Raises `InvalidInput` for one that is neither, or is malformed."""
    folder = fetch(data, cache, report=report) if data in PUBLIC_DATA else Path(data)
    if not folder.is_dir():
        raise InvalidInput("data", data, f"expected {', '.join(PUBLIC_DATA)}, or a folder with a dataset.yaml")
    with reported(report, f"read {folder.name}"):
        return read_dataset(folder)
