"""How much memory and time a large dataset folder takes from its files to trained towers.

    python -m benchmarks data-memory --rows 25000000

writes a folder with that many interactions (ids are texts, times are in no order), reads it, trains small towers on
random rows of it in the same process, and prints the seconds of each step and the peak of the process's resident
memory as JSON. Exits with 1 where the peak is above `--most-gb`.
"""

import json
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import typer
import yaml

from models.data.dataset import read_dataset
from models.data.split import split_by_time
from models.towers.architecture import Architecture
from models.training.config import TrainingConfig
from models.training.cotrain import cotrain

CHUNK = 1_000_000
"""Rows written at once."""
START, SPAN = 1_700_000_000, 90 * 86_400
"""Seconds: the time of the first interaction, and from it to the last."""
DESCRIPTION = {
    "name": "large",
    "users": {"id": "user", "attributes": {"city": "categorical", "age": "numeric"}},
    "items": {"id": "item", "attributes": {"genre": "categorical"}},
    "interactions": {
        "user": "user",
        "item": "item",
        "time": "time",
        "action": "action",
        "context": {"device": "categorical"},
    },
}

Format = Literal["parquet", "csv"]


@dataclass(frozen=True, slots=True)
class DataSize:
    """The size and the file format of the dataset, and the rows that training draws from it."""

    rows: int
    """Interactions."""
    users: int
    items: int
    form: Format
    trained: int
    """Rows that training takes, negatives included."""


def write_folder(folder: Path, size: DataSize) -> None:
    """Write a dataset folder, its interactions in chunks."""
    rng = np.random.default_rng(0)
    people = pd.DataFrame({"user": _ids("user", size.users), "city": rng.choice(["north", "south"], size.users)})
    people["age"] = rng.integers(18, 80, size.users)
    catalogue = pd.DataFrame({"item": _ids("item", size.items), "genre": rng.choice(["a", "b", "c", "d"], size.items)})
    people.to_parquet(folder / "users.parquet", index=False)
    catalogue.to_parquet(folder / "items.parquet", index=False)
    _write(folder / f"interactions.{size.form}", _chunks(people, catalogue, size.rows, rng))
    (folder / "dataset.yaml").write_text(yaml.safe_dump(DESCRIPTION), encoding="utf-8")


def _ids(kind: str, count: int) -> list[str]:
    return [f"{kind}-{number}" for number in range(count)]


def _chunks(people: pd.DataFrame, catalogue: pd.DataFrame, rows: int, rng: np.random.Generator) -> Iterator[pa.Table]:
    users, items = people["user"].to_numpy(dtype=object), catalogue["item"].to_numpy(dtype=object)
    for start in range(0, rows, CHUNK):
        size = min(CHUNK, rows - start)
        popular = (rng.random(size) ** 3 * len(items)).astype(np.int64)
        yield pa.table(
            {
                "user": pa.array(users[rng.integers(0, len(users), size)]),
                "item": pa.array(items[popular]),
                "time": pa.array(START + rng.integers(0, SPAN, size)),
                "action": pa.array(rng.choice(["clicked", "bought"], size)),
                "device": pa.array(rng.choice(["phone", "desktop", "tablet"], size)),
            }
        )


def _write(path: Path, chunks: Iterator[pa.Table]) -> None:
    first = next(chunks)
    opened = pa.csv.CSVWriter if path.suffix == ".csv" else pa.parquet.ParquetWriter
    with opened(str(path), first.schema) as writer:
        writer.write_table(first)
        for chunk in chunks:
            writer.write_table(chunk)


def measure(
    folder: Path, size: DataSize, threads: int, clock: Callable[[], float] = time.perf_counter
) -> dict[str, Any]:
    """Seconds of each step, and the peak in GB (10^9 bytes)."""
    small = Architecture(dimension=8, virtual_vectors=2, attention=8, encoder=(32, 16, 16), hidden=(32, 16))
    laps = [clock()]
    write_folder(folder, size)
    laps.append(clock())
    dataset = read_dataset(folder)
    laps.append(clock())
    split = split_by_time(dataset)
    laps.append(clock())
    once = TrainingConfig(architecture=small, rows=size.trained, threads=threads, device="cpu").with_epochs(1)
    cotrain(dataset, split, once)
    laps.append(clock())
    seconds = dict(zip(("write", "read", "split", "train"), np.diff(laps).round(1).tolist(), strict=True))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9  # Linux counts in KiB
    return {"rows": len(dataset.interactions), "format": size.form, "seconds": seconds, "peak_gb": round(peak, 2)}


def data_memory(  # a command's options
    rows: Annotated[int, typer.Option(min=1, help="Interactions.")] = 25_000_000,
    users: Annotated[int, typer.Option(min=1)] = 160_000,
    items: Annotated[int, typer.Option(min=1)] = 60_000,
    form: Annotated[Format, typer.Option("--format", help="Of the interactions' file.")] = "parquet",
    trained: Annotated[int, typer.Option(min=1, help="Rows that training takes, negatives included.")] = 1_000_000,
    threads: Annotated[int, typer.Option(min=1, help="Of torch.")] = 1,
    most_gb: Annotated[float, typer.Option(help="Exit status 1 where the peak is above.")] = 8.0,
) -> None:
    """Measure memory and time from a large dataset's files to trained towers; print JSON."""
    size = DataSize(rows, users, items, form, trained)
    with tempfile.TemporaryDirectory(prefix="data-memory-") as folder:
        found = measure(Path(folder), size, threads)
    typer.echo(json.dumps(found))
    if found["peak_gb"] > most_gb:
        raise typer.Exit(1)
