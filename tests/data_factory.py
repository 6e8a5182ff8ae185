"""A small dataset folder whose tastes really depend on the users' attributes, so that learning them can be tested."""

import json
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import yaml

from models.data.dataset import Dataset
from models.data.schema import DatasetDescription
from models.runtime.encoding import Encoding

SEGMENTS = ("cook", "gamer", "runner", "reader")
"""A user's segment; the genre of the same position is the one that this user likes."""
GENRES = ("food", "games", "sport", "books")
ACTIONS = ("clicked", "bought")
DEVICES = ("phone", "desktop")
START = 1_700_000_000
"""Seconds since the epoch."""
SPAN = 30 * 86_400
"""Seconds over which users sign up."""
STAY = 3 * 86_400
"""Seconds after signing up in which a user acts."""
SESSION = 6 * 3600
"""Seconds from one tick of the events' clock to the next: many events share a time."""
USERS = 4
"""Users of `dataset_of`."""
LIKING = 8.0
"""How much likelier a user meets an item of the liked genre than another one."""


def write_dataset(
    folder: Path,
    *,
    users: int = 200,
    items: int = 60,
    interactions: int = 4000,
    seed: int = 0,
    fmt: Literal["parquet", "csv"] = "parquet",
    labels: bool = False,
) -> Path:
    """Write users, items, interactions and `dataset.yaml` into `folder`, the same for the same arguments; returns it.

    Users sign up one after the other over `SPAN` and act in the days that follow, often several times within a second,
    so that a split by time leaves cold and warm users. With `labels`, rows are impressions: a liked genre is acted on
    four times in five, another one once in five. A user's rows name different items, so `interactions` is a maximum.
    """
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    people = _users(users, rng)
    catalogue = _items(items, rng)
    _write(people, folder / f"users.{fmt}")
    _write(catalogue, folder / f"items.{fmt}")
    _write(_interactions(people, catalogue, interactions, rng, labels=labels), folder / f"interactions.{fmt}")
    (folder / "dataset.yaml").write_text(yaml.safe_dump(description(labels=labels), sort_keys=False), encoding="utf-8")
    return folder


def description(*, labels: bool = False) -> dict[str, Any]:
    """What `dataset.yaml` says of these files."""
    says: dict[str, Any] = {
        "name": "synthetic",
        "users": {"id": "uid", "attributes": {"segment": "categorical", "age": "numeric", "city": "categorical"}},
        "items": {"id": "iid", "attributes": {"genre": "categorical", "price": "numeric"}},
        "interactions": {
            "user": "who",
            "item": "what",
            "time": "at",
            "time_unit": "s",
            "action": "did",
            "context": {"device": "categorical"},
        },
    }
    if labels:
        says["interactions"]["label"] = "acted"
    return says


def _users(count: int, rng: np.random.Generator) -> pd.DataFrame:
    """Age and city say nothing; one user in ten keeps the age to himself."""
    ages = pd.Series(rng.integers(18, 71, count), dtype="Int64")
    ages[rng.random(count) < 0.1] = pd.NA
    return pd.DataFrame(
        {
            "uid": [f"user-{position}" for position in range(count)],
            "segment": rng.choice(SEGMENTS, count),
            "age": ages,
            "city": rng.choice(["north", "south"], count),
        }
    )


def _items(count: int, rng: np.random.Generator) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "iid": [f"item-{position}" for position in range(count)],
            "genre": rng.choice(GENRES, count),
            "price": rng.lognormal(3, 1, count).round(2),
        }
    )


def _interactions(
    users: pd.DataFrame, items: pd.DataFrame, count: int, rng: np.random.Generator, *, labels: bool
) -> pd.DataFrame:
    popularity = rng.pareto(2.0, len(items)) + 0.2
    starts = START + np.sort(rng.integers(0, SPAN, len(users)))
    shares = rng.dirichlet(np.full(len(users), 3.0))
    rows = [
        _one_user(str(users["uid"][user]), likes, popularity, int(starts[user]), size, rng, labels=labels)
        for user, size in enumerate(rng.multinomial(count, shares))
        if size
        for likes in [items["genre"].to_numpy() == GENRES[SEGMENTS.index(users["segment"][user])]]
    ]
    frame = pd.concat(rows, ignore_index=True)
    frame["what"] = items["iid"].to_numpy()[frame["what"]]
    return frame.sample(frac=1.0, random_state=rng).reset_index(drop=True)


def _one_user(
    user: str,
    likes: Any,
    popularity: Any,
    start: int,
    size: int,
    rng: np.random.Generator,
    *,
    labels: bool,
) -> pd.DataFrame:
    """Up to `size` different items, never the whole catalogue."""
    size = min(size, len(popularity) - 2)
    weights = popularity if labels else popularity * np.where(likes, LIKING, 1.0)
    chosen = rng.choice(len(popularity), size=size, replace=False, p=weights / weights.sum())
    frame = pd.DataFrame(
        {
            "who": user,
            "what": chosen,
            "at": start + np.sort(rng.integers(0, STAY // SESSION, size)) * SESSION,
            "did": rng.choice(ACTIONS, size),
            "device": rng.choice(DEVICES, size),
        }
    )
    if labels:
        frame["acted"] = (rng.random(size) < np.where(likes[chosen], 0.8, 0.2)).astype(int)
    return frame


def _write(frame: pd.DataFrame, path: Path) -> None:
    if path.suffix == ".csv":
        frame.to_csv(path, index=False)
    else:
        frame.to_parquet(path, index=False)


def dataset_of(events: list[tuple[int, int, int, int]]) -> Dataset:
    """A dataset in memory: `USERS` users and 6 items without attributes; events are user, item, time and label."""
    frame = pd.DataFrame(events, columns=["user_id", "item_id", "time_ms", "label"], dtype="int64")
    frame["user_id"] = frame["user_id"].map("user-{}".format)
    frame["item_id"] = frame["item_id"].map("item-{}".format)
    frame["action"] = "did"
    return Dataset(
        description=DatasetDescription.model_validate(description(labels=True)),
        users=pd.DataFrame({"user_id": [f"user-{user}" for user in range(USERS)]}),
        items=pd.DataFrame({"item_id": [f"item-{item}" for item in range(6)]}),
        interactions=frame.sort_values("time_ms", kind="stable", ignore_index=True),
        fingerprint="",
    )


def encoding_of(items: int = 6) -> Encoding:
    """An encoding that knows the first `items` items of `dataset_of`, and its only action."""
    names = tuple(f"item-{item}" for item in range(items))
    return Encoding({}, {}, {}, names, ("did",), np.zeros((items + 2, 0), dtype=np.int64))


PORTRAIT = 12
"""Floats of a user's portrait, see `with_several_values`."""


def with_several_values(folder: Path) -> Path:
    """The data set of `write_dataset` with lists and vectors in place of what tells the taste.

    A user's `interests` are the segment and one to three of six hobbies that say nothing; the `portrait` is a vector
    around a centre of the segment. An item's `tags` are its genre and a season. One user in ten has no interests, and
    another one no portrait. Written as a list column, or in a CSV file as JSON arrays.
    """
    rng = np.random.default_rng(1)
    says = yaml.safe_load((folder / "dataset.yaml").read_text(encoding="utf-8"))
    (users_file,), (items_file,) = folder.glob("users.*"), folder.glob("items.*")
    people, catalogue = _read(users_file), _read(items_file)
    centres = dict(zip(SEGMENTS, rng.normal(size=(len(SEGMENTS), PORTRAIT)), strict=True))
    interests: list[list[str] | None] = [
        [str(each) for each in rng.permutation([segment, *rng.choice(6, rng.integers(1, 4), replace=False)])]
        for segment in people["segment"]
    ]
    portraits: list[list[float] | None] = [
        (centres[segment] + 0.2 * rng.normal(size=PORTRAIT)).round(4).tolist() for segment in people["segment"]
    ]
    for place in range(len(people)):
        if rng.random() < 0.1:
            (interests if rng.random() < 0.5 else portraits)[place] = None
    people = people.assign(interests=pd.Series(interests), portrait=pd.Series(portraits))
    catalogue["tags"] = [[genre, str(rng.choice(["winter", "summer"]))] for genre in catalogue["genre"]]
    _write(_as_written(people.drop(columns="segment"), users_file), users_file)
    _write(_as_written(catalogue.drop(columns="genre"), items_file), items_file)
    says["users"]["attributes"] = {"interests": "list", "portrait": "vector", "age": "numeric", "city": "categorical"}
    says["items"]["attributes"] = {"price": "numeric", "tags": "list"}
    (folder / "dataset.yaml").write_text(yaml.safe_dump(says, sort_keys=False), encoding="utf-8")
    return folder


def _read(path: Path) -> pd.DataFrame:
    return pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path)


def _as_written(frame: pd.DataFrame, path: Path) -> pd.DataFrame:
    if path.suffix == ".parquet":
        return frame
    lists = [name for name in ("interests", "portrait", "tags") if name in frame]
    as_json = {name: frame[name].map(lambda value: None if value is None else json.dumps(value)) for name in lists}
    return frame.assign(**as_json)
