"""How much memory and time a large dataset folder takes from its files to trained towers.

    python -m benchmarks.data_memory --rows 25000000

writes a folder with that many interactions (ids are texts, times are in no order), reads it, trains small towers on
random rows of it in the same process, and prints the seconds of each step and the peak of the process's resident
memory as JSON. Exits with 1 where the peak is above `--most-gb`.
"""

import argparse
import json
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import yaml

from models.data.dataset import read_dataset
from models.data.split import split_by_time
from models.towers.architecture import Architecture
from models.training.config import TrainingConfig
from models.training.cotrain import cotrain

CHUNK = 1_000_000
"""Rows written at once."""
START, SPAN = 1_700_000_000, 90 * 86_400
"""Seconds: the first interaction, and from it to the last."""
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


def write_folder(folder: Path, rows: int, users: int, items: int, form: Format) -> None:
    """A dataset folder, its interactions in chunks."""
    rng = np.random.default_rng(0)
    people = pd.DataFrame({"user": _ids("user", users), "city": rng.choice(["north", "south"], users)})
    people["age"] = rng.integers(18, 80, users)
    catalogue = pd.DataFrame({"item": _ids("item", items), "genre": rng.choice(["a", "b", "c", "d"], items)})
    people.to_parquet(folder / "users.parquet", index=False)
    catalogue.to_parquet(folder / "items.parquet", index=False)
    _write(folder / f"interactions.{form}", _chunks(people, catalogue, rows, rng))
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
    folder: Path, options: argparse.Namespace, clock: Callable[[], float] = time.perf_counter
) -> dict[str, Any]:
    """Seconds of each step, and the peak in GB (10^9 bytes)."""
    small = Architecture(dimension=8, virtual_vectors=2, attention=8, encoder=(32, 16, 16), hidden=(32, 16))
    laps = [clock()]
    write_folder(folder, options.rows, options.users, options.items, options.format)
    laps.append(clock())
    dataset = read_dataset(folder)
    laps.append(clock())
    split = split_by_time(dataset)
    laps.append(clock())
    cotrain(
        dataset, split, TrainingConfig(architecture=small, rows=options.trained, threads=options.threads, device="cpu")
    )
    laps.append(clock())
    seconds = dict(zip(("write", "read", "split", "train"), np.diff(laps).round(1).tolist(), strict=True))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9  # Linux counts in KiB
    return {"rows": len(dataset.interactions), "format": options.format, "seconds": seconds, "peak_gb": round(peak, 2)}


def main() -> int:
    """The exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=25_000_000, help="interactions")
    parser.add_argument("--users", type=int, default=160_000)
    parser.add_argument("--items", type=int, default=60_000)
    parser.add_argument("--format", choices=get_args(Format), default="parquet")
    parser.add_argument("--trained", type=int, default=1_000_000, help="rows that training takes, negatives included")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--most-gb", type=float, default=8.0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="data-memory-") as folder:
        found = measure(Path(folder), options)
    print(json.dumps(found))
    return int(found["peak_gb"] > options.most_gb)


if __name__ == "__main__":
    sys.exit(main())
