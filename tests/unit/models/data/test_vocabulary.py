"""What an encoding learns: only the past, the most frequent first, and bins of about equal size."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from models.data.dataset import Dataset, read_dataset
from models.data.split import TimeSplit, split_by_time
from models.data.vocabulary import fit_encoding, item_counts
from models.runtime.encoding import FIELD_UNKNOWN, PADDING, UNKNOWN
from models.runtime.fields import CategoricalEncoder, NumericEncoder
from models.runtime.fields.numeric import BINS
from tests.data_factory import GENRES, write_dataset

EVER = 2**60


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return read_dataset(write_dataset(tmp_path_factory.mktemp("data") / "synthetic"))


@pytest.fixture(scope="module")
def split(dataset: Dataset) -> TimeSplit:
    return split_by_time(dataset)


def test_items_are_those_met_before_the_split_most_popular_first(dataset: Dataset, split: TimeSplit) -> None:
    encoding = fit_encoding(dataset, split.instant_ms)
    counts = split.train["item_id"].value_counts()
    assert set(encoding.items) == set(counts.index)
    assert [counts[item] for item in encoding.items] == sorted(counts, reverse=True)


def test_an_item_first_met_after_the_split_is_unknown(dataset: Dataset) -> None:
    late = dataset.interactions["item_id"].iloc[-1]
    early = replace(dataset, interactions=dataset.interactions[dataset.interactions["item_id"] != late])
    both = replace(dataset, interactions=pd.concat([early.interactions, dataset.interactions.iloc[[-1]]]))
    encoding = fit_encoding(both, int(both.interactions["time_ms"].iloc[-1]))
    assert encoding.encode_items([late]).tolist() == [UNKNOWN]


def test_a_value_that_only_later_users_have_is_unknown(dataset: Dataset, split: TimeSplit) -> None:
    users = dataset.users.copy()
    users.loc[users["user_id"] == split.cold_users[0], "segment"] = "astronaut"
    encoding = fit_encoding(replace(dataset, users=users), split.instant_ms)
    row = encoding.encode_attributes([{"segment": "astronaut"}])[0]
    assert row[list(encoding.attributes).index("segment")] == FIELD_UNKNOWN


def test_the_order_of_columns_is_that_of_the_description(dataset: Dataset, split: TimeSplit) -> None:
    encoding = fit_encoding(dataset, split.instant_ms)
    assert list(encoding.attributes) == ["segment", "age", "city"]
    assert list(encoding.context) == ["device"]
    assert list(encoding.item_attributes) == ["genre", "price"]


def test_item_features_are_those_of_the_catalogue(dataset: Dataset, split: TimeSplit) -> None:
    encoding = fit_encoding(dataset, split.instant_ms)
    assert encoding.item_features.shape == (encoding.item_count, 2)
    assert not encoding.item_features[[PADDING, UNKNOWN]].any()
    genres = dataset.items.set_index("item_id")["genre"]
    expected = encoding.item_attributes["genre"].encode([genres[item] for item in encoding.items])
    assert np.array_equal(encoding.item_features[2:, :1], expected)
    assert encoding.item_attributes["genre"].sizes == (len(GENRES) + 1,)


def test_bins_hold_about_as_many_rows_each(dataset: Dataset) -> None:
    numbers = np.random.default_rng(0).lognormal(size=len(dataset.users))
    users = dataset.users.assign(age=pd.Series(numbers.tolist(), dtype=object))
    encoder = fit_encoding(replace(dataset, users=users), EVER).attributes["age"]
    sizes = np.bincount(encoder.encode(users["age"].tolist())[:, 0], minlength=encoder.sizes[0])
    assert sizes[FIELD_UNKNOWN] == 0
    assert encoder.sizes == (BINS + 1,)
    assert sizes[1:].max() - sizes[1:].min() <= 4


@pytest.mark.parametrize("value", [7, "7", None, "text", float("nan")])
def test_a_constant_or_useless_numeric_field_has_one_bin(dataset: Dataset, value: object) -> None:
    users = dataset.users.assign(age=pd.Series([value] * len(dataset.users), dtype=object))
    encoder = fit_encoding(replace(dataset, users=users), EVER).attributes["age"]
    assert encoder == NumericEncoder(())
    assert encoder.encode([7]).tolist() == [[1]]


def test_a_vocabulary_puts_the_most_frequent_value_first(dataset: Dataset) -> None:
    segments = ["rare", "b", "a", "a", "b", "c"] * (len(dataset.users) // 6) + ["a"] * (len(dataset.users) % 6)
    users = dataset.users.assign(segment=["common"] * 100 + segments[100:])
    encoder = fit_encoding(replace(dataset, users=users), EVER).attributes["segment"]
    assert isinstance(encoder, CategoricalEncoder)
    assert encoder.values[0] == "common"


def test_actions_are_those_of_what_was_acted_on(tmp_path: Path) -> None:
    dataset = read_dataset(write_dataset(tmp_path / "labelled", labels=True))
    frame = dataset.interactions.astype({"action": object})
    frame.loc[frame["label"] == 0, "action"] = "shown"
    encoding = fit_encoding(replace(dataset, interactions=frame), EVER)
    assert set(encoding.actions) == {"clicked", "bought"}


def test_counts_are_positive_interactions_before_the_split(tmp_path: Path) -> None:
    dataset = read_dataset(write_dataset(tmp_path / "labelled", labels=True))
    split = split_by_time(dataset)
    encoding = fit_encoding(dataset, split.instant_ms)
    counts = item_counts(dataset, encoding, split.instant_ms)
    assert counts.shape == (encoding.item_count,)
    assert counts[:2].tolist() == [0, 0]
    acted = split.train[split.train["label"] == 1]
    assert counts.sum() == len(acted)
    assert counts[2] == (acted["item_id"] == encoding.items[0]).sum()
