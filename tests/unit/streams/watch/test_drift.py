"""Shares, PSI and running windows; a profile's places are those of the towers' own encoders."""

import json
import math
from collections import deque

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from foretaste.kernel.errors import InvalidInput
from foretaste.kernel.profile import Shares, read_profile
from foretaste.kernel.values import Scalar, Value, canonical
from models.runtime import fields
from streams.watch.drift import Drift, Rolling, psi

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(),
    st.sampled_from(["25.0", "-3.0", "True", "false", "1e3", "nan", "inf", " 7 ", "٣.0", 1 << 1100, 2.0**60]),
)


def test_psi_by_hand() -> None:
    expected, observed = np.array([0.5, 0.5]), np.array([0.25, 0.75])
    by_hand = -0.25 * math.log(0.5) + 0.25 * math.log(1.5)
    assert psi(expected, observed) == pytest.approx(by_hand) == pytest.approx(0.27465, abs=1e-5)
    assert psi(expected, expected) == 0


def test_psi_of_an_empty_bin_is_floored() -> None:
    found = psi(np.array([0.0, 1.0]), np.array([0.5, 0.5]))
    assert found == pytest.approx((0.5 - 1e-4) * math.log(0.5 / 1e-4) + (0.5 - 1) * math.log(0.5))


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), min_size=1))
def test_psi_is_symmetric_and_never_negative(counts: list[tuple[int, int]]) -> None:
    one, other = (np.array(column, dtype=float) + 1 for column in zip(*counts, strict=True))
    one, other = one / one.sum(), other / other.sum()
    assert psi(one, other) == pytest.approx(psi(other, one))
    assert psi(one, other) >= 0


@given(SCALARS)
def test_places_are_the_encoders(value: Scalar) -> None:
    """The encoders put missing values first, and unknown ones with them; a profile puts them last."""
    values, edges = ("25", "true", "x"), (-1.0, 0.0, 7.0)
    categories = Drift.of(Shares(values=values, shares=(0.2,) * 5), 60, 1)
    index = int(fields.CategoricalEncoder(values).encode([value])[0, 0])
    expected = index - 1 if index else 4 if canonical(value) is None else 3
    assert categories._place(value) == expected
    bins = Drift.of(Shares(edges=edges, shares=(0.2,) * 5), 60, 1)
    assert bins._place(value) == (int(fields.NumericEncoder(edges).encode([value])[0, 0]) - 1) % 5


@given(st.lists(st.tuples(st.floats(0, 30), st.integers(0, 2), st.integers(1, 5)), max_size=60))
def test_a_window_sums_the_buckets_that_it_still_holds(steps: list[tuple[float, int, int]]) -> None:
    rolling, now = Rolling(3, seconds=40, buckets=4), 1000.0
    kept: deque[tuple[float, int, int]] = deque()
    for pause, place, amount in steps:
        now += pause
        rolling.add(now, place, amount)
        kept.append((now, place, amount))
    expected = np.zeros(3)
    for at, place, amount in kept:
        expected[place] += amount * (now // 10 - at // 10 < 4)
    assert rolling.total(now).tolist() == expected.tolist()


def test_a_window_takes_what_comes_late_but_not_what_is_over() -> None:
    rolling = Rolling(1, seconds=40, buckets=4)
    rolling.add(100, 0)
    rolling.add(75, 0)
    rolling.add(59, 0)
    assert rolling.total(100).tolist() == [2]
    assert rolling.total(115).tolist() == [1]
    assert rolling.total(139).tolist() == [1]
    assert rolling.total(140).tolist() == [0]


def test_drift_is_told_once_enough_was_seen() -> None:
    drift = Drift.of(Shares(values=("a", "b"), shares=(0.5, 0.5, 0, 0)), 60, 1)
    for place in range(39):
        drift.add(0, "ab"[place % 2])
    assert drift.psi(0) is None
    drift.add(0, "b")
    assert drift.psi(0) == 0
    for _ in range(40):
        drift.add(0, "new")
    assert drift.psi(0) == pytest.approx(psi(np.array([0.5, 0.5, 0, 0]), np.array([0.25, 0.25, 0.5, 0])))


def test_chance_alone_stays_below_the_first_band() -> None:
    rng = np.random.default_rng(0)
    shares = rng.dirichlet(np.full(50, 3.0))
    counts = rng.multinomial(20 * 50, shares, size=200)
    assert max(psi(shares, drawn / drawn.sum()) for drawn in counts) < 0.1


SHARES = {"edges": [1.0], "shares": [0.5, 0.5, 0.0]}
PROFILE = {"attributes": {"age": SHARES}, "lengths": SHARES, "items": {"values": ["i"], "shares": [0.5, 0.5, 0]}}


def test_a_profile_is_read_whatever_else_a_profile_says() -> None:
    assert read_profile("") is None
    found = read_profile(json.dumps(PROFILE | {"format": 9, "more": 1}))
    assert found is not None
    assert found.attributes["age"].shares == (0.5, 0.5, 0.0)
    assert found.virtual_norm is None


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        json.dumps({key: value for key, value in PROFILE.items() if key != "items"}),
        json.dumps(PROFILE | {"lengths": {"edges": [1.0], "shares": [1.0]}}),
        json.dumps(PROFILE | {"lengths": {"shares": [0.5, 0.5]}}),
    ],
)
def test_a_malformed_profile_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="profile"):
        read_profile(text)


def _drift(shares: Shares, values: list[Value]) -> list[float]:
    drift = Drift.of(shares, 60.0, 6)
    for value in values:
        drift.add(0.0, value)
    found: list[float] = drift.counts.total(1.0).tolist()
    return found


LISTS: list[Value] = [["jazz", "rock", "jazz", "new"], ["new"], [], None, "jazz", "new"]


def test_of_a_list_each_known_value_counts_once() -> None:
    shares = Shares(values=("jazz", "rock"), shares=(0.5, 0.3, 0.0, 0.2), of_lists=True)
    assert _drift(shares, LISTS) == [2, 1, 0, 1]


def test_of_vectors_those_count_that_the_encoder_takes() -> None:
    shares = Shares(edges=(), shares=(0.9, 0.1), vector=(2, 10.0))
    assert _drift(shares, [[0.1, 0.2], (1, 2.0), (1.0,), None, [math.nan, 1.0], 3.0, [11.0, 0.0]]) == [2, 5]


def test_several_values_of_a_field_of_one_are_missing() -> None:
    assert _drift(Shares(values=("a",), shares=(0.9, 0.0, 0.1)), [["a"], "a"]) == [1, 0, 1]
    assert _drift(Shares(edges=(10.0,), shares=(0.5, 0.4, 0.1)), [[25], 25]) == [0, 1, 1]


def test_a_profile_of_lists_is_what_comes_of_the_same_users() -> None:
    values: list[Value] = [["jazz", "rock"], ["jazz"], None, [], ["rock"]]
    field = fields.ListEncoder(("jazz", "rock"))
    columns = zip(field.encode(values).T, field.sizes, strict=True)
    found = field.shares([np.bincount(column, minlength=size) for column, size in columns], 10)
    shares = Shares(values=found.values, shares=found.weights, of_lists=found.of_lists)
    assert _drift(shares, values) == list(found.weights)
