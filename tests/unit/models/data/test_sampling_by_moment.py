"""Acts that repeat an earlier one, and what they make of negatives."""

import numpy as np
import pytest

from models.data.sampling import NegativeSampler, repeat_share, users_repeat
from models.runtime.encoding import FIRST_KNOWN
from tests.data_factory import dataset_of, encoding_of


def test_an_act_repeats_where_the_same_user_acted_on_the_item_at_an_earlier_time() -> None:
    acts = [(0, 0, 1, 1), (0, 0, 2, 1), (0, 1, 2, 1), (1, 0, 3, 1), (0, 0, 3, 1)]
    assert repeat_share(dataset_of(acts)) == pytest.approx(2 / 5)
    assert users_repeat(dataset_of(acts))


def test_what_was_done_twice_at_one_time_or_passed_by_repeats_nothing() -> None:
    assert repeat_share(dataset_of([(0, 0, 1, 1), (0, 0, 1, 1), (0, 1, 1, 0), (0, 1, 2, 1)])) == 0
    assert repeat_share(dataset_of([(0, 0, 1, 0)])) == 0


def test_where_users_repeat_what_was_met_at_another_moment_may_be_a_negative() -> None:
    acts = [(0, 0, 1, 1), (0, 1, 1, 1), (0, 0, 2, 1), (0, 2, 3, 1), (1, 3, 1, 1)]
    counts = np.array([0, 0, 1, 1, 1, 1, 0, 0], dtype=np.int64)
    sampler = NegativeSampler(dataset_of(acts), encoding_of(), counts, np.random.default_rng(3))
    assert sampler.by_moment
    times = np.array([1, 2, 3, 9])
    drawn = sampler.sample(np.zeros(4, dtype=np.int64), 200, times)
    met = [{0, 1}, {0}, {2}, set()]
    for row, own in zip(drawn.tolist(), met, strict=True):
        assert set(row) == {FIRST_KNOWN + item for item in {0, 1, 2, 3} - own}
    ever = sampler.sample(np.zeros(1, dtype=np.int64), 50)
    assert set(ever.ravel().tolist()) == {FIRST_KNOWN + 3}


def test_where_users_do_not_repeat_the_moment_makes_no_difference() -> None:
    acts = [(0, 0, 1, 1), (0, 1, 2, 1), (1, 2, 3, 1)]
    counts = np.array([0, 0, 1, 1, 1, 1, 0, 0], dtype=np.int64)
    users, times = np.array([0, 1]), np.array([2, 3])
    with_times, without = (
        NegativeSampler(dataset_of(acts), encoding_of(), counts, np.random.default_rng(3)).sample(users, 50, given)
        for given in (times, None)
    )
    assert np.array_equal(with_times, without)


def test_by_moment_a_bitmap_and_a_search_find_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    acts = [(user, item, time, 1) for user in range(4) for time in range(6) for item in (time % 4, (time + user) % 5)]
    counts = np.array([0, 0, 3, 1, 1, 2, 1, 0], dtype=np.int64)
    users, times = np.repeat(np.arange(4), 6), np.tile(np.arange(6), 4)

    def drawn() -> list[int]:
        sampler = NegativeSampler(dataset_of(acts), encoding_of(), counts, np.random.default_rng(3))
        return sampler.sample(users, 4, times).ravel().tolist()

    by_bits = drawn()
    monkeypatch.setattr("models.data.sampling.MOST_BYTES", 0)
    assert drawn() == by_bits
