"""How many existing users and behaviours a second `foretaste import` brings into an online store.

    python -m benchmarks import --users 1000000 --behaviours 4000000 --json

A stack of its own in a temporary folder, and a dataset folder that is written beforehand: users whose attributes are
those of the data's users, and behaviours at random.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import typer
import yaml

from benchmarks.filling.stack import filled_stack, timed_command
from benchmarks.machine import machine
from benchmarks.trained_stack import Broker
from foretaste.console import errors
from foretaste.kernel.values import Attributes

ITEMS = 5000
FIRST, SPAN = 1_700_000_000, 30_000_000
"""Seconds since the epoch of the oldest behaviour, and from then to the newest."""


def import_users(
    users: Annotated[int, typer.Option(min=1, help="In the folder.")] = 100_000,
    behaviours: Annotated[int, typer.Option(min=1, help="In the folder, of users at random.")] = 400_000,
    data: Annotated[str, typer.Option(help="ml-100k, ml-1m, or a dataset folder: what the towers know.")] = "ml-100k",
    broker: Annotated[Broker, typer.Option(help="tansu, or apache: the distribution in KAFKA_HOME.")] = "tansu",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Time `foretaste import` of a folder into an empty store."""
    facts = machine()
    with filled_stack(data, broker) as stack:
        errors.print(f"writing a folder of {users} users and {behaviours} behaviours")
        folder = stack.settings.home / "existing"
        _write(folder, stack.attributes, users, behaviours)
        errors.print("importing")
        found, seconds, used = timed_command(stack.settings, "import", str(folder))
    figures = {
        "broker": broker,
        "users": users,
        "behaviours": found["behaviours"],
        "seconds": round(seconds, 2),
        "users_per_second": round(users / found["seconds"]),
        "behaviours_per_second": round(found["behaviours"] / found["seconds"]),
        "processor_us_a_user": {name: round(1e6 * each / users, 2) for name, each in used.items()},
        "found": found,
    }
    typer.echo(json.dumps({"machine": facts, **figures}) if as_json else _text_of(figures))


def _write(folder: Path, attributes: Sequence[Attributes], users: int, behaviours: int) -> None:
    folder.mkdir()
    rng = np.random.default_rng(0)
    names = list(attributes[0])
    table = pd.DataFrame(list(attributes)).iloc[np.arange(users) % len(attributes)].reset_index(drop=True)
    table.insert(0, "user", [f"user-{each}" for each in range(users)])
    table.to_parquet(folder / "users.parquet")
    pd.DataFrame({"item": [f"item-{each}" for each in range(ITEMS)]}).to_parquet(folder / "items.parquet")
    pd.DataFrame(
        {
            "user": np.char.add("user-", rng.integers(0, users, behaviours).astype(str)),
            "item": np.char.add("item-", rng.integers(0, ITEMS, behaviours).astype(str)),
            "at": FIRST + np.sort(rng.integers(0, SPAN, behaviours)),
        }
    ).to_parquet(folder / "interactions.parquet")
    kinds = {name: "numeric" if pd.api.types.is_numeric_dtype(table[name]) else "categorical" for name in names}
    says = {
        "name": "existing",
        "users": {"id": "user", "attributes": kinds},
        "items": {"id": "item"},
        "interactions": {"user": "user", "item": "item", "time": "at", "time_unit": "s"},
    }
    (folder / "dataset.yaml").write_text(yaml.safe_dump(says))


def _text_of(figures: dict[str, Any]) -> str:
    return "\n".join(f"{name:28} {value}" for name, value in figures.items())
