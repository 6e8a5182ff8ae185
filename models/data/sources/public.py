"""Data sets by name or folder: the public ones are brought here first."""

from pathlib import Path
from typing import Any

from foretaste.kernel.errors import InvalidInput
from foretaste.kernel.ports import Report, no_report, reported
from models.data.dataset import Dataset, read_dataset
from models.data.sources.alimama import fetch_alimama
from models.data.sources.movielens import fetch_movielens
from models.data.split import split_by_time

PUBLIC_DATA = ("ml-1m", "ml-100k", "alimama")


def fetch(name: str, cache: Path, source: Path | None = None, report: Report = no_report) -> Path:
    """The folder of a public data set, fetched where it is not in `cache` yet. Raises `InvalidInput` for another."""
    if name == "alimama":
        return fetch_alimama(cache, source=source, progress=report)
    return fetch_movielens(name, cache, source=source, progress=report)


def open_dataset(data: str, cache: Path, report: Report = no_report) -> Dataset:
    """A data set by its public name or its folder. Raises `InvalidInput` for one that is neither, or is malformed."""
    folder = fetch(data, cache, report=report) if data in PUBLIC_DATA else Path(data)
    if not folder.is_dir():
        raise InvalidInput("data", data, f"expected {', '.join(PUBLIC_DATA)}, or a folder with a dataset.yaml")
    with reported(report, f"read {folder.name}"):
        return read_dataset(folder)


def describe(dataset: Dataset) -> dict[str, Any]:
    """What a data set holds, and how training would split it; fit for JSON."""
    split = split_by_time(dataset)
    return {
        "name": dataset.description.name,
        "users": len(dataset.users),
        "items": len(dataset.items),
        "interactions": len(dataset.interactions),
        "attributes": dict(dataset.description.users.attributes),
        "labels": dataset.has_labels,
        "split_ms": split.instant_ms,
        "before_the_split": len(split.train),
        "cold_users": len(split.cold_users),
        "warm_users": len(split.warm_users),
        "fingerprint": dataset.fingerprint,
    }
