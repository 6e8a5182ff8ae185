"""What an account's age tells of the items: of users with behaviour, and of those of whom nothing was seen."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy.special import expit

from models.effects.age_bias import age_stages, evidence_bins
from models.effects.counts import InteractionRows, TableSizes
from models.effects.fit import Effects, EffectsConfig, stage_biases
from models.effects.seen_bias import FIRST_OF_SEEN_BIN, Evidence
from tests.effects_factory import rows_of

ITEMS, AGES, USERS = 8, 3, 40
LIKED, OTHER = 3, 5
TABLES = TableSizes((2,), ITEMS, AGES)


def _flat() -> Effects:
    """Nothing is known: attributes say nothing, and all items are alike."""
    codes, keys = np.zeros((3, 2, 4), dtype=np.float32), np.zeros((ITEMS, 4), dtype=np.float32)
    biases = np.zeros((len(FIRST_OF_SEEN_BIN), ITEMS), dtype=np.float32)
    return Effects(codes, np.zeros(USERS, dtype=np.int64), keys, biases)


def _rows(rng: np.random.Generator, liked: int, ages: Any, seen: int, count: int = 4000) -> InteractionRows:
    """Impressions of two items, of which one is acted on much more often."""
    items = rng.choice([LIKED, OTHER], count)
    labels = rng.random(count) < np.where(items == liked, 0.9, 0.1)
    rows = rows_of(rng.integers(0, USERS, count), items, labels, np.ones((USERS, 1)), seen)
    return replace(rows, ages=np.broadcast_to(np.asarray(ages), count))


def _joined(*parts: InteractionRows) -> InteractionRows:
    names = ("users", "items", "labels", "seen", "ages")
    return replace(parts[0], **{name: np.concatenate([getattr(part, name) for part in parts]) for name in names})


def _fitted(rows: InteractionRows, before: Evidence | None = None, tables: TableSizes = TABLES) -> tuple[Any, Evidence]:
    """(1 + L, 1 + A, items): the whole bias by behaviours seen and age, and the evidence."""
    config = EffectsConfig(stage_rows=20_000)
    biases, of_ages, after = stage_biases(_flat(), rows, tables, None, config, np.random.default_rng(1), before)
    assert of_ages is not None
    seen_bins = np.searchsorted(FIRST_OF_SEEN_BIN, np.arange(101), side="right") - 1
    return biases[seen_bins][:, None] + of_ages[age_stages(AGES)], after


def _preference(bias: Any) -> float:
    """How much likelier the liked item is, in log-odds."""
    return float(bias[LIKED] - bias[OTHER])


def test_the_row_of_an_age_is_another_one_where_nothing_was_seen() -> None:
    stages = age_stages(2)
    assert stages.shape == (101, 3)
    assert stages[0].tolist() == [0, 3, 4]
    assert (stages[1:] == [0, 1, 2]).all()


def test_what_users_of_an_age_do_is_told_of_that_age_alone() -> None:
    rng = np.random.default_rng(2)
    found, _ = _fitted(_joined(_rows(rng, LIKED, 1, seen=30), _rows(rng, OTHER, 2, seen=30)))
    true = 2 * float(np.log(9))
    assert _preference(found[30, 1]) == pytest.approx(true, rel=0.15)
    assert _preference(found[30, 2]) == pytest.approx(-true, rel=0.15)
    assert abs(_preference(found[30, 0])) < 0.5, "of an unknown age: the mean of both"
    assert _preference(found[30, 3]) == _preference(found[30, 0]), "nobody was of that age"


def test_of_whom_nothing_was_seen_is_taken_for_a_user_of_that_age() -> None:
    """Nobody of the second age was without behaviour, so that what all of that age do is the best that is known."""
    rng = np.random.default_rng(3)
    found, _ = _fitted(_joined(_rows(rng, LIKED, 1, seen=0), _rows(rng, OTHER, 2, seen=30)))
    assert _preference(found[0, 1]) > 3
    assert _preference(found[0, 2]) < -3
    assert np.array_equal(found[0, 3], found[0, 0]), "nobody was of that age: as of an unknown one"


def test_a_first_moment_is_told_from_another_moment_of_that_age() -> None:
    rng = np.random.default_rng(4)
    found, _ = _fitted(_joined(_rows(rng, LIKED, 1, seen=0), _rows(rng, OTHER, 1, seen=30)))
    assert _preference(found[0, 1]) > 3
    assert _preference(found[30, 1]) < -3


def test_the_first_moments_of_an_unknown_age_are_shrunk_as_ever() -> None:
    """Of rows without an age the biases are those that a fit without ages gives, to the bit."""
    rows = _rows(np.random.default_rng(5), LIKED, 0, seen=0, count=300)
    config, tables = EffectsConfig(), TABLES._replace(ages=0)
    with_ages, of_ages, _ = stage_biases(_flat(), rows, TABLES, None, config, np.random.default_rng(1))
    without, none, evidence = stage_biases(_flat(), rows, tables, None, config, np.random.default_rng(1))
    assert np.array_equal(with_ages, without)
    assert of_ages is not None
    assert not of_ages.any()
    assert none is None
    assert len(evidence.rows) == evidence_bins(0) == len(FIRST_OF_SEEN_BIN)


def test_a_later_window_adds_to_what_was_known_of_an_age() -> None:
    rng = np.random.default_rng(6)
    first, second = _rows(rng, LIKED, 1, seen=0), _rows(rng, LIKED, 2, seen=30)
    whole, _ = _fitted(_joined(first, second))
    _, evidence = _fitted(first)
    both, after = _fitted(second, evidence.grown(ITEMS, evidence_bins(AGES)))
    assert after.rows.sum() == pytest.approx(evidence.rows.sum() + 3 * len(second.items))
    for seen, age in ((0, 1), (0, 2), (30, 2)):
        assert _preference(both[seen, age]) == pytest.approx(_preference(whole[seen, age]), rel=0.1)


def test_evidence_without_ages_is_grown_by_bins_of_which_nothing_is_known() -> None:
    bins = len(FIRST_OF_SEEN_BIN)
    evidence = Evidence(np.ones(bins), np.ones(bins), np.ones((bins, 4), np.float32), np.ones((bins, 4), np.float32))
    grown = evidence.grown(ITEMS, evidence_bins(AGES))
    assert grown.slope.shape == grown.curvature.shape == (bins + 3 * AGES, ITEMS)
    assert grown.rows.tolist() == grown.read.tolist() == [1.0] * bins + [0.0] * (3 * AGES)
    assert expit(grown.slope[bins:]).mean() == 0.5
