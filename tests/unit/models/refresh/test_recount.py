"""What a refresh adds its counts to, once somebody was erased who is in those of its base."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from foretaste.kernel.running.erasing import user_digest
from models.effects.state import SavedCounts
from models.generations.counted import CountedUsers
from models.generations.load import restore
from models.refresh.records import CountsBasis, CountsFrom
from models.refresh.recount import basis_of, counted_with, with_counts
from models.runtime import layout
from tests.towers_factory import artifacts

BASE = CountsFrom.BASE
ANNA, BEN, CARL = ({user_digest(user): 1_000} for user in ("anna", "ben", "carl"))


@pytest.fixture
def first(tmp_path: Path) -> Path:
    """A first training, on a dataset with anna."""
    folder = tmp_path / "1"
    shutil.copytree(artifacts()[0], folder)
    CountedUsers.of(["anna"]).write(folder)
    return folder


@pytest.fixture
def second(first: Path) -> Path:
    """A refresh of it, by a log with ben."""
    folder = first.parent / "2"
    shutil.copytree(artifacts()[1], folder)
    counted = counted_with(first, CountsFrom.BASE, ["ben"], {})
    assert counted is not None
    counted.write(folder)
    return folder


def test_while_nobody_who_was_counted_is_erased_counts_are_added_to(first: Path, second: Path) -> None:
    for folder in (first, second):
        assert basis_of(folder, {}).counts is BASE
        assert basis_of(folder, CARL).counts is BASE
    assert basis_of(first, BEN).counts is BASE
    assert basis_of(first.parent / "nowhere", ANNA).counts is BASE


def test_who_came_by_the_log_is_taken_out_by_counting_it_anew_on_top_of_the_first_counts(second: Path) -> None:
    first_counts = SavedCounts.load(second / layout.FIRST_COUNTS)
    assert basis_of(second, BEN) == CountsBasis(CountsFrom.FIRST, first_counts.until_ms, BEN)
    base = restore(second)
    start = with_counts(base, second, CountsFrom.FIRST)
    assert start.counts is not None
    assert start.counts.past.frequency.tolist() == first_counts.past.frequency.tolist()
    assert start.popularity.sum() == pytest.approx(1.0)
    assert start.model is base.model
    counted = counted_with(second, CountsFrom.FIRST, ["carl"], BEN)
    assert counted is not None
    third = second.parent / "3"
    shutil.copytree(artifacts()[0], third)
    counted.write(third)
    assert basis_of(third, BEN).counts is BASE
    assert basis_of(third, CARL).counts is CountsFrom.FIRST


def test_who_is_in_the_first_counts_leaves_none_of_them(first: Path, second: Path) -> None:
    for folder in (first, second):
        assert basis_of(folder, ANNA) == CountsBasis(CountsFrom.NOTHING, 0, ANNA)
    start = with_counts(restore(second), second, CountsFrom.NOTHING)
    assert start.counts is None
    assert not start.popularity.any()
    counted = counted_with(second, CountsFrom.NOTHING, ["carl"], ANNA)
    assert counted is not None
    assert counted.first_counts is None
    assert np.array_equal(counted.all, CountedUsers.of(["carl"]).all)


def test_of_an_earlier_version_anybody_may_be_in_the_counts(first: Path) -> None:
    (first / layout.COUNTED).unlink()
    assert basis_of(first, CARL) == CountsBasis(CountsFrom.NOTHING, 0, CARL)
    assert counted_with(first, CountsFrom.BASE, ["ben"], {}) is None


@pytest.mark.parametrize("counts", CountsFrom)
def test_who_came_back_is_counted_and_taken_out_again_only_once_erased_again(second: Path, counts: CountsFrom) -> None:
    later = {user_digest("ben"): 2_000}
    counted = counted_with(second, counts, ["ben", "carl"], BEN)
    assert counted is not None
    for number in range(3, 6):
        folder = second.parent / str(number)
        shutil.copytree(artifacts()[0], folder)
        counted.write(folder)
        assert basis_of(folder, BEN).counts is BASE
        assert basis_of(folder, {**BEN, **CARL}).counts is not BASE
        assert basis_of(folder, later).counts is not BASE
        counted = counted_with(folder, BASE, ["dora"], BEN)
        assert counted is not None


def test_as_it_is_nothing_is_changed(first: Path) -> None:
    base = restore(first)
    assert with_counts(base, first, CountsFrom.BASE) is base
