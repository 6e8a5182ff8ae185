"""A generation that asks questions: users of two tastes that no attribute tells."""

import json
import pickle
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from foretaste.kernel.users import Behaviour
from models.data.dataset import Dataset, read_dataset
from models.data.split import split_by_time
from models.generations.export import export
from models.training.cotrain import cotrain
from models.training.trained import Trained
from tests.towers_factory import MADE_AT, METRICS, SMALL, config, folder, made_once

USERS, ITEMS, ACTS = 500, 40, 8
LIKED = 0.85
"""Share of a user's acts that are on items of the own taste: even ones or odd ones."""


def two_tastes(path: Path, *, users: int = USERS, liked: float = LIKED, acts: int = ACTS) -> Dataset:
    """Half of the users act on even items, half on odd ones; their one attribute says nothing of it."""
    rng = np.random.default_rng(0)
    path.mkdir(parents=True)
    likes_even = rng.random(users) < 0.5
    rows = []
    for user in range(users):
        weights = np.where((np.arange(ITEMS) % 2 == 0) == likes_even[user], liked, 1 - liked) / (1 + np.arange(ITEMS))
        chosen = rng.choice(ITEMS, acts, replace=False, p=weights / weights.sum())
        rows += [(f"u{user}", f"i{item}", 1_700_000_000 + 1000 * user + at) for at, item in enumerate(chosen)]
    says = {
        "name": "two tastes",
        "users": {"id": "user_id", "attributes": {"city": "categorical"}},
        "items": {"id": "item_id"},
        "interactions": {"user": "user_id", "item": "item_id", "time": "at", "time_unit": "s"},
    }
    (path / "dataset.yaml").write_text(yaml.safe_dump(says), encoding="utf-8")
    cities = rng.choice(["north", "south"], users)
    pd.DataFrame({"user_id": [f"u{user}" for user in range(users)], "city": cities}).to_csv(
        path / "users.csv", index=False
    )
    pd.DataFrame({"item_id": [f"i{item}" for item in range(ITEMS)]}).to_csv(path / "items.csv", index=False)
    pd.DataFrame(rows, columns=["user_id", "item_id", "at"]).to_csv(path / "interactions.csv", index=False)
    return read_dataset(path)


def trained_on(data: Dataset) -> Trained:
    return cotrain(data, split_by_time(data), replace(config(architecture=SMALL), epochs=1, warm_after=4))


@cache
def asking() -> tuple[Trained, Dataset, Path]:
    """Towers that learned of users of two tastes, their data, and generation 3 as it was exported: once a test run."""
    data = two_tastes(folder() / "two-tastes")
    with made_once("asking") as shared:
        if not shared.exists():
            towers, part = trained_on(data), shared.with_suffix(".part")
            export(towers, data, METRICS, part, clock=lambda: MADE_AT, lowest=3)
            (part / "trained").write_bytes(pickle.dumps(towers))
            part.rename(shared)
    return pickle.loads((shared / "trained").read_bytes()), data, shared / "3"  # noqa: S301  # written above


def questions_of(generation: Path) -> list[str]:
    """The items that an exported generation asks about."""
    found: list[str] = json.loads((generation / "encoding.json").read_text(encoding="utf-8"))["questions"]["items"]
    return found


def answers(*, even: bool, count: int = 5) -> Behaviour:
    """Those of a user who likes even items, or odd ones, to the first questions."""
    asked = questions_of(asking()[2])[:count]
    actions = ["answered_yes" if is_even(item) == even else "answered_no" for item in asked]
    return Behaviour(asked, actions, range(count))


def is_even(item: str) -> bool:
    return int(item[1:]) % 2 == 0
