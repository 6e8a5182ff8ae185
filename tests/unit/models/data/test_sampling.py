"""Negatives: by popularity, and never an item that the user ever met."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foretaste.kernel.errors import InvalidInput
from models.data import sampling
from models.data.dataset import Dataset, read_dataset
from models.data.sampling import NegativeSampler
from models.data.split import split_by_time
from models.data.vocabulary import fit_encoding, item_counts
from models.runtime.encoding import FIRST_KNOWN, PADDING, Encoding
from tests.data_factory import USERS, dataset_of, encoding_of, write_dataset

PAIRS = st.sets(st.tuples(st.integers(0, USERS - 1), st.integers(0, 5)), min_size=1)
WEIGHTS = st.lists(st.integers(0, 50), min_size=6, max_size=6).filter(any)


def rng() -> np.random.Generator:
    return np.random.default_rng(7)


@settings(deadline=None, max_examples=50)
@given(PAIRS, WEIGHTS, st.integers(0, 1))
def test_a_negative_was_never_met_and_can_be_drawn(pairs: set[tuple[int, int]], weights: list[int], label: int) -> None:
    dataset = dataset_of([(user, item, user + item, label) for user, item in sorted(pairs)])
    counts = np.array([0, 0, *weights], dtype=np.int64)
    drawn = NegativeSampler(dataset, encoding_of(), counts, rng()).sample(np.arange(USERS), count=3)
    assert drawn.shape == (USERS, 3)
    for user, row in enumerate(drawn.tolist()):
        free = {item + FIRST_KNOWN for item in range(6) if weights[item] and (user, item) not in pairs}
        assert set(row) <= free if free else row == [PADDING] * 3


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return read_dataset(write_dataset(tmp_path_factory.mktemp("data") / "synthetic"))


@pytest.fixture(scope="module")
def encoding(dataset: Dataset) -> Encoding:
    return fit_encoding(dataset, split_by_time(dataset).instant_ms)


def test_what_a_user_meets_after_the_split_is_no_negative_either(dataset: Dataset, encoding: Encoding) -> None:
    split = split_by_time(dataset)
    counts = item_counts(dataset, encoding, split.instant_ms)
    users = dataset.user_rows(list(split.cold_users))
    drawn = NegativeSampler(dataset, encoding, counts, rng()).sample(users, count=50)
    for user, row in zip(split.cold_users, drawn, strict=True):
        met = dataset.interactions.loc[dataset.interactions["user_id"] == user, "item_id"]
        assert not set(row.tolist()) & set(encoding.encode_items(met.tolist()).tolist())


def test_items_are_drawn_in_proportion_to_their_weights() -> None:
    dataset = dataset_of([(0, 0, 1, 1)])
    counts = np.array([0, 0, 1000, 60, 30, 10, 0, 0], dtype=np.int64)
    drawn = NegativeSampler(dataset, encoding_of(), counts, rng()).sample(np.zeros(20_000, dtype=np.int64), count=1)
    shares = np.bincount(drawn.ravel(), minlength=8) / len(drawn)
    assert shares.tolist() == pytest.approx([0, 0, 0, 0.6, 0.3, 0.1, 0, 0], abs=0.02)


def test_one_rare_item_left_is_found_for_a_user_who_met_all_others() -> None:
    dataset = dataset_of([(0, item, 1, 1) for item in range(5)])
    counts = np.array([0, 0, *[10**9] * 5, 1], dtype=np.int64)
    drawn = NegativeSampler(dataset, encoding_of(), counts, rng()).sample(np.array([0, 0]), count=4)
    assert (drawn == 7).all()


def test_what_has_no_weight_and_what_is_unknown_cannot_be_drawn() -> None:
    counts = np.array([5, 5, 6, 0, 3, 1, 0, 0], dtype=np.int64)
    sampler = NegativeSampler(dataset_of([(0, 0, 1, 1)]), encoding_of(), counts, rng())
    assert sampler.drawable(np.arange(8)).tolist() == [False, False, True, False, True, True, False, False]


def test_rows_whose_item_cannot_be_drawn_are_left_out() -> None:
    dataset = dataset_of([(0, item, time, 1) for time, item in enumerate([4, 0, 1, 2])])
    sampler = NegativeSampler(dataset, encoding_of(), np.array([5, 5, 6, 0, 3, 1, 0, 0], dtype=np.int64), rng())
    assert sampler.drawable_rows(dataset.interactions)["item_id"].tolist() == ["item-0", "item-2"]


def test_the_same_seed_draws_the_same(dataset: Dataset, encoding: Encoding) -> None:
    counts = item_counts(dataset, encoding, 2**60)
    users = np.arange(100)
    first, second = (NegativeSampler(dataset, encoding, counts, rng()).sample(users) for _ in range(2))
    assert np.array_equal(first, second)
    assert first.shape == (100, 4)


def test_without_any_weight_there_is_nothing_to_draw(dataset: Dataset, encoding: Encoding) -> None:
    counts = np.zeros(encoding.item_count, dtype=np.int64)
    with pytest.raises(InvalidInput, match="counts: must give a weight"):
        NegativeSampler(dataset, encoding, counts, rng())


def test_a_binary_search_draws_the_same_where_a_bitmap_would_be_too_large(
    dataset: Dataset, encoding: Encoding, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = item_counts(dataset, encoding, 2**60)
    by_bits = NegativeSampler(dataset, encoding, counts, rng())
    monkeypatch.setattr(sampling, "MOST_BYTES", 10)
    by_search = NegativeSampler(dataset, encoding, counts, rng())
    assert by_bits._ever._bits is not None
    assert by_search._ever._bits is None
    users = np.arange(len(dataset.users))
    assert np.array_equal(by_bits.sample(users), by_search.sample(users))
