"""Data that nobody hopes for: a clear error, or a correct result, and never weights that are not finite."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from foretaste.kernel.errors import InvalidInput
from foretaste.kernel.values import MAX_BEHAVIOUR
from models.data.dataset import Dataset, read_dataset
from models.data.examples import MOST_ROWS, Examples, batches
from models.data.histories import Histories
from models.data.sampling import NegativeSampler
from models.data.schema import DatasetDescription
from models.data.split import split_by_time
from models.data.vocabulary import fit_encoding, item_counts
from models.evaluation.offline import evaluate
from models.runtime.encoding import FIELD_UNKNOWN, PADDING, UNKNOWN
from models.training.cotrain import cotrain
from models.training.trained import Trained
from tests.data_factory import description, write_dataset
from tests.towers_factory import config

USERS, ITEMS, EVENTS = 30, 12, 240


def write(folder: Path, *, labels: bool = False, fmt: str = "parquet", **columns: Any) -> Path:
    """A small folder, with columns replaced by `users_age=[…]` and the like; missing ones are kept."""
    rng = np.random.default_rng(0)
    tables = {
        "users": {
            "uid": [f"user-{row}" for row in range(USERS)],
            "segment": rng.choice(["cook", "gamer"], USERS),
            "age": rng.integers(18, 70, USERS),
            "city": rng.choice(["north", "south"], USERS),
        },
        "items": {
            "iid": [f"item-{row}" for row in range(ITEMS)],
            "genre": rng.choice(["food", "games"], ITEMS),
            "price": rng.lognormal(3, 1, ITEMS),
        },
        "interactions": {
            "who": [f"user-{row}" for row in rng.integers(0, USERS, EVENTS)],
            "what": [f"item-{row}" for row in rng.integers(0, ITEMS - 3, EVENTS)],
            "at": 1_700_000_000 + np.arange(EVENTS) // 2,
            "did": rng.choice(["clicked", "bought"], EVENTS),
            "device": rng.choice(["phone", "desktop"], EVENTS),
            "acted": rng.integers(0, 2, EVENTS),
        },
    }
    folder.mkdir(parents=True)
    for name, table in tables.items():
        frame = pd.DataFrame(table | {key[len(name) + 1 :]: columns[key] for key in columns if key.startswith(name)})
        if fmt == "csv":
            frame.to_csv(folder / f"{name}.csv", index=False)
        else:
            frame.to_parquet(folder / f"{name}.parquet", index=False)
    (folder / "dataset.yaml").write_text(yaml.safe_dump(description(labels=labels)), encoding="utf-8")
    return folder


def train(dataset: Dataset) -> Trained:
    """Tiny towers whose weights are all finite."""
    trained = cotrain(dataset, split_by_time(dataset), config(epochs=1, batch=64))
    assert all(torch.isfinite(weights).all() for weights in trained.model.state_dict().values())
    assert np.isfinite(trained.mean_virtual).all()
    assert np.isfinite(trained.popularity).all()
    return trained


@pytest.mark.parametrize("label", [0, 1])
def test_one_class_cannot_be_trained_on_and_is_named(tmp_path: Path, label: int) -> None:
    dataset = read_dataset(write(tmp_path / "data", labels=True, interactions_acted=[label] * EVENTS))
    with pytest.raises(InvalidInput, match=r"'acted'.*labels of both kinds") as raised:
        train(dataset)
    assert raised.value.value == label


def test_one_class_after_the_split_alone_has_no_auc_but_an_honest_nan(tmp_path: Path) -> None:
    labels = [0, 1] * 96 + [1] * 48
    dataset = read_dataset(write(tmp_path / "data", labels=True, interactions_acted=labels))
    metrics = evaluate(dataset, split_by_time(dataset), train(dataset))
    assert metrics["warm.rows"] > 0
    assert math.isnan(metrics["warm.real.auc"])
    assert math.isnan(metrics["warm.real.gauc"])


@pytest.mark.parametrize("labels", [False, True])
def test_a_single_user_is_trained_on_and_nobody_is_cold(tmp_path: Path, labels: bool) -> None:
    alone: dict[str, Any] = {"users_uid": ["only"], "users_segment": ["cook"], "users_age": [30]}
    folder = write(tmp_path / "data", labels=labels, interactions_who=["only"] * EVENTS)
    pd.DataFrame({key[6:]: values for key, values in alone.items()} | {"city": ["north"]}).to_parquet(
        folder / "users.parquet"
    )
    dataset = read_dataset(folder)
    split = split_by_time(dataset)
    assert (split.cold_users, split.warm_users) == ((), ("only",))
    metrics = evaluate(dataset, split, train(dataset))
    assert metrics["cold.users"] == 0
    assert math.isnan(metrics["cold.virtual.gauc"])
    assert metrics["warm.users"] == 1


def test_a_user_who_met_every_item_at_each_moment_has_no_negatives(tmp_path: Path) -> None:
    what = [f"item-{each % ITEMS}" for each in range(EVENTS)]
    times = 1_700_000_000 + np.arange(EVENTS) // ITEMS
    who = ["user-0"] * EVENTS
    folder = write(tmp_path / "data", interactions_who=who, interactions_what=what, interactions_at=times)
    dataset = read_dataset(folder)
    split = split_by_time(dataset)
    encoding = fit_encoding(dataset, split.instant_ms)
    counts = item_counts(dataset, encoding, split.instant_ms)
    sampler = NegativeSampler(dataset, encoding, counts, np.random.default_rng(0))
    examples = Examples.of(dataset, split.train, encoding, Histories.of(dataset, encoding))
    batch = examples.batch(np.arange(5), sampler)
    assert batch.labels.all()
    assert PADDING not in batch.candidates
    train(dataset)


def test_a_single_event_cannot_be_split(tmp_path: Path) -> None:
    folder = write(tmp_path / "data")
    frame = pd.read_parquet(folder / "interactions.parquet").iloc[:1]
    frame.to_parquet(folder / "interactions.parquet")
    with pytest.raises(InvalidInput, match="split: must leave interactions on both sides"):
        split_by_time(read_dataset(folder))


@pytest.mark.parametrize(
    "users",
    [
        {"users_segment": ["cook"] * USERS, "users_age": [7] * USERS, "users_city": ["north"] * USERS},
        {"users_segment": [None] * USERS, "users_age": [None] * USERS, "users_city": [""] * USERS},
        {"users_age": [math.inf, -math.inf, math.nan] * 10},
    ],
    ids=["constant", "missing", "not finite"],
)
@pytest.mark.parametrize("fmt", ["parquet", "csv"])
def test_attributes_that_say_nothing_are_trained_on(tmp_path: Path, fmt: str, users: dict[str, Any]) -> None:
    dataset = read_dataset(write(tmp_path / "data", fmt=fmt, **users))
    trained = train(dataset)
    assert (
        trained.encoding.attributes["age"].encode([math.inf, math.nan, None, "old"]).ravel().tolist()
        == [FIELD_UNKNOWN] * 4
    )


def test_items_that_all_appear_after_the_split_are_unknown_and_not_judged(tmp_path: Path) -> None:
    late = [f"item-{row % 9}" for row in range(192)] + [f"item-{9 + row % 3}" for row in range(48)]
    dataset = read_dataset(write(tmp_path / "data", interactions_what=late))
    split = split_by_time(dataset)
    trained = train(dataset)
    encoding = trained.encoding
    examples = Examples.of(dataset, split.test, encoding, Histories.of(dataset, encoding))
    assert set(examples.items) == {UNKNOWN}
    metrics = evaluate(dataset, split, trained)
    assert metrics["warm.rows"] == metrics["cold.rows"] == 0, "no item of theirs could have been wrong"
    assert math.isnan(metrics["warm.real.auc"])


def test_labels_of_nan_are_refused_by_row(tmp_path: Path) -> None:
    labels = [0.0, 1.0] * 120
    labels[17] = math.nan
    for fmt in ("parquet", "csv"):
        folder = write(tmp_path / fmt, labels=True, fmt=fmt, interactions_acted=labels)
        with pytest.raises(InvalidInput, match=r"interactions\..*'acted', row 18: a label must be 0 or 1"):
            read_dataset(folder)


def test_times_out_of_order_are_put_in_order(tmp_path: Path) -> None:
    folder = write_dataset(tmp_path / "data", users=20, interactions=200)
    shuffled = read_dataset(folder)
    frame = pd.read_parquet(folder / "interactions.parquet")
    assert not frame["at"].is_monotonic_increasing
    frame.sort_values("at", kind="stable").to_parquet(folder / "interactions.parquet")
    pd.testing.assert_frame_equal(
        shuffled.interactions.astype({"action": str, "device": str}),
        read_dataset(folder).interactions.astype({"action": str, "device": str}),
    )
    assert shuffled.interactions["time_ms"].is_monotonic_increasing


def million(values: int) -> Dataset:
    """As many users, each with a city of their own, and an interaction each."""
    ids = [f"user-{row}" for row in range(values)]
    rows = np.arange(values)
    items = pd.Index(["item-0", "item-1", "item-2"])
    says = description() | {"users": {"id": "uid", "attributes": {"city": "categorical"}}}
    says["items"] = {"id": "iid"}
    says["interactions"] = {key: says["interactions"][key] for key in ("user", "item", "time")}
    interactions = pd.DataFrame(
        {
            "user_id": pd.Categorical.from_codes(rows, pd.Index(ids)),
            "item_id": pd.Categorical.from_codes(rows % 3, items),
            "action": pd.Categorical.from_codes(rows * 0, pd.Index(["acted"])),
            "time_ms": rows,
            "label": np.ones(values, dtype=np.int8),
        }
    )
    users = pd.DataFrame({"user_id": ids, "city": ids})
    return Dataset(DatasetDescription.model_validate(says), users, pd.DataFrame({"item_id": items}), interactions, "")


def test_an_attribute_of_a_million_values_has_an_index_for_each() -> None:
    dataset = million(1_000_000)
    encoding = fit_encoding(dataset, 800_000)
    assert encoding.attributes["city"].sizes == (800_001,)
    examples = Examples.of(dataset, dataset.interactions.iloc[-5:], encoding, Histories.of(dataset, encoding))
    assert (examples.batch(np.arange(5)).attributes == FIELD_UNKNOWN).all()
    assert len(np.unique(examples.attributes)) == 800_001


def test_an_attribute_with_a_value_a_user_is_trained_on() -> None:
    train(million(3000))


@pytest.fixture(scope="module")
def hoarder(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """User 0 has 100,000 behaviours more, half of them in one second."""
    folder = write(tmp_path_factory.mktemp("hoarder") / "data")
    frame = pd.read_parquet(folder / "interactions.parquet")
    more = frame.iloc[np.zeros(100_000, dtype=np.int64)].assign(who="user-0")
    more["at"] = np.maximum(1_700_000_000 - 100_000 + np.arange(100_000), 1_700_000_000 - 50_000)
    more["what"] = [f"item-{row % 5}" for row in range(100_000)]
    pd.concat([frame, more]).to_parquet(folder / "interactions.parquet")
    return read_dataset(folder)


def test_of_a_hundred_thousand_behaviours_the_newest_hundred_are_seen(hoarder: Dataset) -> None:
    encoding = fit_encoding(hoarder, 2**60)
    frame = hoarder.interactions
    mine = frame[frame["user_id"] == "user-0"]
    times = np.array([mine["time_ms"].iloc[place] for place in (0, 99, 30_000, 70_000, -1)])
    items, _, seen = Histories.of(hoarder, encoding).before(np.zeros(5, dtype=np.int64), times)
    for row, time in enumerate(times):
        expected = encoding.encode_items(mine["item_id"][mine["time_ms"] < time].tolist())[-MAX_BEHAVIOUR:]
        assert items[row, : seen[row]].tolist() == expected.tolist()
        assert not items[row, seen[row] :].any()


def test_a_second_of_fifty_thousand_events_is_cut_into_batches(hoarder: Dataset) -> None:
    encoding = fit_encoding(hoarder, 2**60)
    examples = Examples.of(hoarder, hoarder.interactions, encoding, Histories.of(hoarder, encoding))
    assert examples.sizes.max() == MOST_ROWS
    assert examples.sizes.sum() == len(hoarder.interactions)
    whole = examples.batch(np.arange(len(examples.sizes)))
    met = np.column_stack([whole.users[whole.owner], whole.times_ms[whole.owner], whole.candidates])
    frame = hoarder.interactions
    expected = np.column_stack(
        [hoarder.user_rows(frame["user_id"]), frame["time_ms"], encoding.encode_items(frame["item_id"].tolist())]
    )
    assert np.array_equal(met[np.lexsort(met.T)], expected[np.lexsort(expected.T)])
    assert max(examples.sizes[part].sum() for part in batches(examples.sizes, 2048)) < 2048 + 2 * MOST_ROWS


def test_a_user_of_a_hundred_thousand_behaviours_is_trained_on(hoarder: Dataset) -> None:
    split = split_by_time(hoarder, int(hoarder.interactions["time_ms"].iloc[-40]))
    trained = cotrain(hoarder, split, config(epochs=1, rows=2000))
    assert all(torch.isfinite(weights).all() for weights in trained.model.state_dict().values())
