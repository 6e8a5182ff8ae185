"""MovieLens asked who liked what, made from a small folder of MovieLens's form."""

from pathlib import Path

import pandas as pd
import pytest

from benchmarks.liked import write_liked
from foretaste.kernel.errors import InvalidInput
from models.data.dataset import DESCRIPTION, read_dataset

SAYS = """
name: tiny
users: {id: user_id, attributes: {gender: categorical}}
items: {id: item_id}
interactions: {user: user_id, item: item_id, time: timestamp, action: rating}
"""


@pytest.fixture
def movielens(tmp_path: Path) -> Path:
    folder = tmp_path / "tiny"
    folder.mkdir()
    (folder / DESCRIPTION).write_text(SAYS, encoding="utf-8")
    pd.DataFrame({"user_id": ["a", "b"], "gender": ["F", "M"]}).to_parquet(folder / "users.parquet")
    pd.DataFrame({"item_id": ["x", "y"]}).to_parquet(folder / "items.parquet")
    rated = {
        "user_id": list("aabb"),
        "item_id": list("xyxy"),
        "timestamp": [1_000_000_000 + number for number in range(4)],
    }
    stars = [f"rated-{number}" for number in (5, 3, 4, 1)]
    pd.DataFrame(rated | {"rating": stars}).to_parquet(folder / "interactions.parquet")
    return folder


def test_four_stars_are_liked_and_every_rating_is_behaviour(movielens: Path, tmp_path: Path) -> None:
    made = read_dataset(write_liked(movielens, tmp_path / "liked"))
    assert made.description.name == "tiny-liked"
    assert made.has_labels
    assert made.interactions["label"].tolist() == [1, 0, 1, 0]
    assert made.behaviour["action"].astype(str).tolist() == ["rated-5", "rated-3", "rated-4", "rated-1"]
    assert made.behaviour["label"].tolist() == [1, 1, 1, 1]


def test_a_folder_that_exists_is_left_alone(movielens: Path) -> None:
    with pytest.raises(InvalidInput, match="exists already"):
        write_liked(movielens, movielens)
