import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from foretaste.kernel.errors import InvalidInput
from models.effects.counts import Counting, CountingConfig, ExpectedNegatives, InteractionRows, TableSizes
from models.runtime.encoding import FIELD_UNKNOWN, UNKNOWN
from tests.effects_factory import ITEMS, TABLES, attributes_of, examples_of, impressions, rows_of, sampled

pytestmark = pytest.mark.usefixtures("one_thread")
EVERYTHING = CountingConfig(user_weight=1.0, least_users=1)
"""No limit is met, and an interaction counts as one."""
EVENTS = [(0, 0), (0, 1), (0, 1), (0, 3), (1, 1), (1, 2), (2, 4), (2, 0), (2, 1), (3, 1), (3, 5)]
"""User and item, one after the other."""
OF_FOUR = np.array([[1, 1], [2, 1], [1, 1], [2, 2]])
"""Attributes of the users in `EVENTS`: the first and the third are one cell."""
SMALL = TableSizes((3, 3), 8)


def _labelled(rng: np.random.Generator, users: int = 40, config: Any = EVERYTHING) -> Any:
    attributes = attributes_of(users, rng)
    rows = InteractionRows.of(impressions(attributes, 8, rng))
    return rows, Counting.of(rows, TABLES, None, config, rng)


def _together(counting: Any) -> Any:
    return counting.counts(counting.users)


def _cells(counting: Any) -> Any:
    """The places of each cell's values among all."""
    places = np.append(counting.value_places, -1)
    return [tuple(places[value] for value in values) for values in counting.design.values.numpy()]


def test_labelled_rows_are_counted_by_cell_and_item(rng: np.random.Generator) -> None:
    rows, counting = _labelled(rng)
    cells = _cells(counting)
    acted, passed = np.zeros((2, len(cells), len(counting.items)))
    for user, item, label in zip(rows.users, rows.items, rows.labels, strict=True):
        cell = cells.index(tuple(TABLES.places(rows.attributes[user])))
        column = list(counting.items).index(item)
        acted[cell, column] += label
        passed[cell, column] += 1 - label
    counts = _together(counting)
    np.testing.assert_array_equal(counts.acted, acted)
    np.testing.assert_array_equal(counts.passed, passed)
    assert len(cells) == len({tuple(row) for row in rows.attributes})


def test_parts_of_the_users_add_up_to_the_whole(rng: np.random.Generator) -> None:
    _, counting = _labelled(rng)
    one, other = (counting.counts(part) for part in np.array_split(counting.users, 2))
    whole = _together(counting)
    np.testing.assert_allclose((one + other).acted, whole.acted)
    np.testing.assert_allclose((one + other).passed, whole.passed)


def test_a_user_counts_as_n_to_the_power_and_all_together_as_they_are(rng: np.random.Generator) -> None:
    users, items = [0] * 16 + [1] * 4, list(range(2, 12)) + list(range(2, 8)) + [2, 3, 4, 5]
    rows = rows_of(users, items, np.ones(20), [[1, 1], [2, 2]])
    counting = Counting.of(rows, TABLES, None, CountingConfig(user_weight=0.5, least_users=1), rng)
    by_cell = counting.counts(np.array([0, 1])).acted.sum(dim=1).numpy()
    first = counting.cell[0]
    assert by_cell[first] / by_cell[1 - first] == pytest.approx((16 / 4) ** 0.5)
    assert by_cell.sum() == pytest.approx(20)


def _expected_negatives(power: float = 1.0) -> Any:
    rng = np.random.default_rng(0)
    users, items, negatives = sampled(EVENTS, rng)
    config = CountingConfig(user_weight=power, least_users=1)
    rows = rows_of(users, items, np.ones(len(users)), OF_FOUR)
    return rows, negatives, Counting.of(rows, SMALL, ExpectedNegatives(negatives.number), config, rng)


def test_what_was_passed_is_what_the_sampler_is_expected_to_draw() -> None:
    rows, negatives, counting = _expected_negatives()
    trials = 3000
    drawn = negatives.sampler.sample(np.tile(rows.users, trials), negatives.number)
    cell = np.repeat(counting.cell[np.tile(rows.users, trials)], negatives.number)
    seen = np.zeros((len(counting.design.values), SMALL.items))
    np.add.at(seen, (cell, drawn.ravel()), 1 / trials)
    counts = _together(counting)
    np.testing.assert_allclose(counts.passed, seen[:, counting.items], atol=0.15)
    assert float(counts.passed.sum()) == pytest.approx(negatives.number * len(rows.users), rel=1e-4)
    assert float(counts.acted.sum()) == len(rows.users)


def test_nobody_passes_what_they_met_and_negatives_weigh_as_the_user_does() -> None:
    rows, negatives, counting = _expected_negatives(power=0.5)
    for user in range(4):
        counts = counting.counts(np.array([user]))
        met = np.isin(counting.items, rows.items[rows.users == user])
        np.testing.assert_allclose(counts.passed.sum(dim=0)[met], 0, atol=1e-5)
        ratio = float(counts.passed.sum() / counts.acted.sum())
        assert ratio == pytest.approx(negatives.number, rel=1e-4)


def test_who_met_everything_passed_nothing() -> None:
    rng = np.random.default_rng(0)
    users, items, negatives = sampled([(0, 0), (0, 1), (0, 2), (1, 0)], rng)
    rows = rows_of(users, items, np.ones(4), OF_FOUR)
    counting = Counting.of(rows, SMALL, ExpectedNegatives(negatives.number), EVERYTHING, rng)
    assert float(counting.counts(np.array([0])).passed.sum()) == pytest.approx(0, abs=1e-6)
    assert float(counting.counts(np.array([1])).passed.sum()) == pytest.approx(4, rel=1e-5)


@pytest.mark.parametrize("most", [1, 40, 100, 10_000])
def test_no_more_is_counted_than_allowed(most: int, rng: np.random.Generator) -> None:
    attributes = attributes_of(60, rng)
    rows = InteractionRows.of(impressions(attributes, 8, rng))
    config = CountingConfig(most_counts=most, least_users=1)
    counting = Counting.of(rows, TABLES, None, config, np.random.default_rng(1))
    counts = _together(counting)
    assert 1 <= counts.acted.numel() <= most
    assert np.array_equal(counting.users, np.unique(counting.users))
    assert (counting.cell >= 0).sum() == len(counting.users)
    again = Counting.of(rows, TABLES, None, config, np.random.default_rng(1))
    assert np.array_equal(again.users, counting.users)
    if most == 10_000:
        assert (len(counting.users), len(counting.items)) == (60, ITEMS - 2)


def test_of_too_many_items_the_most_frequent_are_counted(rng: np.random.Generator) -> None:
    items = [2] * 5 + [3] + [4] * 7 + [5] * 2
    rows = rows_of(np.arange(len(items)) % 3, items, np.ones(len(items)), [[1, 1], [2, 2], [3, 3]])
    counting = Counting.of(rows, TABLES, None, CountingConfig(most_counts=6, least_users=1), rng)
    assert counting.items.tolist() == [2, 4]


def test_an_unknown_item_is_never_counted_nor_who_did_nothing_else(rng: np.random.Generator) -> None:
    rows = rows_of([0, 0, 1], [2, UNKNOWN, UNKNOWN], [1, 1, 1], [[1, 1], [2, 2], [3, 3]])
    counting = Counting.of(rows, TABLES, None, EVERYTHING, rng)
    assert (counting.items.tolist(), counting.users.tolist()) == ([2], [0])
    assert counting.cell.tolist() == [0, -1, -1]
    assert float(_together(counting).acted.sum()) == 1


def test_values_that_are_unknown_or_rare_or_everybodys_are_not_told(rng: np.random.Generator) -> None:
    attributes = np.array([[1, 3]] * 4 + [[2, 3]] * 5 + [[FIELD_UNKNOWN, 3]] * 6)
    users = np.arange(len(attributes))
    rows = rows_of(users, np.full(len(users), 2), np.ones(len(users)), attributes)
    counting = Counting.of(rows, TABLES, None, CountingConfig(least_users=5), rng)
    assert counting.value_places.tolist() == [2], "only the second value of the first attribute is told"
    assert counting.design.size == 1
    assert sorted(counting.design.values.numpy()[counting.cell[users], 0].tolist()) == [0] * 5 + [1] * 10


def test_dealt_users_fill_the_cells_as_before_with_others(rng: np.random.Generator) -> None:
    attributes = attributes_of(42, rng)
    examples = impressions(attributes[:40], 8, rng)
    rows = InteractionRows.of(replace(examples, attributes=attributes))
    counting = Counting.of(rows, TABLES, None, EVERYTHING, rng)
    dealt = counting.dealt(rng)
    assert (dealt.cell[40:] == -1).all(), "who is not counted is in no cell"
    assert np.array_equal(np.bincount(dealt.cell[:40]), np.bincount(counting.cell[:40]))
    assert (dealt.cell[:40] != counting.cell[:40]).mean() > 0.5
    np.testing.assert_allclose(_together(dealt).acted.sum(0), _together(counting).acted.sum(0))
    assert not np.allclose(_together(dealt).acted, _together(counting).acted)


def test_places_lie_field_after_field() -> None:
    assert TableSizes((4, 5, 2), 9).places(np.array([[0, 0, 0], [3, 4, 1]])).tolist() == [[0, 4, 9], [3, 8, 10]]


def test_rows_know_what_was_seen_strictly_before() -> None:
    examples = examples_of(
        users=[0, 0, 0, 1, 0],
        items=[2, 3, 4, 2, 5],
        labels=[1, 0, 1, 1, 1],
        attributes=[[1], [2]],
        times_ms=[5, 6, 6, 7, 8],
    )
    rows = InteractionRows.of(examples)
    assert rows.seen.tolist() == [0, 1, 1, 0, 2]
    assert rows.users.tolist() == [0, 0, 0, 1, 0]
    assert rows.items.tolist() == [2, 3, 4, 2, 5]


@pytest.mark.parametrize(
    ("field", "value"), [("most_counts", 0), ("least_users", 0), ("user_weight", -0.5), ("user_weight", float("nan"))]
)
def test_a_configuration_that_cannot_be_is_refused_by_field_and_value(field: str, value: Any) -> None:
    with pytest.raises(InvalidInput, match=rf"^{field}: .*\(got {re.escape(repr(value))}\)"):
        CountingConfig(**{field: value})
