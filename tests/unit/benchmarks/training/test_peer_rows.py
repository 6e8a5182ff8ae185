"""What the peers are given: the same rows that Foretaste learns from, each with its history, made beforehand."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks.training.peer_rows import PeerRows, RowSample, peer_rows
from foretaste.kernel.values import MAX_BEHAVIOUR
from models.data.dataset import Dataset, read_dataset
from models.data.split import TimeSplit, split_by_time
from models.data.vocabulary import fit_encoding
from models.runtime.encoding import Encoding
from tests.data_factory import write_dataset

NEGATIVES = 4


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> tuple[Dataset, TimeSplit, Encoding]:
    return read(tmp_path_factory.mktemp("data"), labels=False)


def read(folder: Path, *, labels: bool) -> tuple[Dataset, TimeSplit, Encoding]:
    dataset = read_dataset(write_dataset(folder, users=40, items=30, interactions=400, labels=labels))
    split = split_by_time(dataset)
    return dataset, split, fit_encoding(dataset, split.instant_ms)


def made(data: tuple[Dataset, TimeSplit, Encoding], *, rows: int | None = None, batch: int = 64) -> PeerRows:
    return peer_rows(*data, RowSample(rows, NEGATIVES, batch, seed=3))


def test_every_positive_of_the_training_window_brings_its_negatives(data: tuple[Dataset, TimeSplit, Encoding]) -> None:
    _, split, encoding = data
    rows = made(data)
    assert len(rows) == len(split.train) * (1 + NEGATIVES)
    positives = np.sort(rows.items[rows.labels == 1])
    np.testing.assert_array_equal(positives, np.sort(encoding.encode_items(split.train["item_id"].tolist())))


def test_a_history_is_what_one_user_did_strictly_earlier(data: tuple[Dataset, TimeSplit, Encoding]) -> None:
    """From the frame itself: the histories of the positives, whichever order they come in."""
    _, split, encoding = data
    rows = made(data)
    positive = np.flatnonzero(rows.labels == 1)
    found = sorted((int(rows.items[at]), *rows.history[at, : rows.lengths[at]].tolist()) for at in positive)
    expected = []
    for event in split.train.itertuples():
        mine = split.train[(split.train["user_id"] == event.user_id) & (split.train["time_ms"] < event.time_ms)]
        seen = encoding.encode_items(mine["item_id"].tolist())[-MAX_BEHAVIOUR:]
        expected.append((int(encoding.encode_items([str(event.item_id)])[0]), *(int(one) for one in seen)))
    assert found == sorted(expected)


def test_what_is_behind_a_history_is_padding(data: tuple[Dataset, TimeSplit, Encoding]) -> None:
    rows = made(data)
    behind = np.arange(MAX_BEHAVIOUR) >= rows.lengths[:, None]
    assert not rows.history[behind].any()
    assert rows.history[~behind].all()


def test_fields_lie_within_their_sizes_and_bear_their_groups(data: tuple[Dataset, TimeSplit, Encoding]) -> None:
    rows = made(data)
    names = ["user_segment", "user_age", "user_city", "context_device", "item_genre", "item_price"]
    assert list(rows.fields) == list(rows.sizes) == names
    for name, values in rows.fields.items():
        assert values.shape == (len(rows),)
        assert 0 <= values.min() <= values.max() < rows.sizes[name]
    assert rows.items.max() < rows.item_count


def test_some_rows_are_drawn_as_training_draws_them(data: tuple[Dataset, TimeSplit, Encoding]) -> None:
    rows = made(data, rows=500)
    assert 400 < len(rows) < 600
    assert rows.labels.mean() == pytest.approx(1 / (1 + NEGATIVES))


def test_no_batch_holds_a_single_row(data: tuple[Dataset, TimeSplit, Encoding]) -> None:
    whole = len(made(data))
    assert len(made(data, batch=whole - 1)) == whole - 1
    assert len(made(data, batch=whole)) == whole


def test_data_with_labels_keep_them(tmp_path: Path) -> None:
    data = read(tmp_path, labels=True)
    rows = made(data)
    assert len(rows) == len(data[1].train)
    assert rows.labels.sum() == data[1].train["label"].sum()
