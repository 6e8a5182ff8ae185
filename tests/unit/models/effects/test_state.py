"""Effects that go on from what an earlier fit had counted."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from foretaste.kernel.errors import InvalidInput
from models.data.examples import Examples
from models.effects.by_gradient.factors import DescentConfig
from models.effects.counts import CountingConfig, TableSizes
from models.effects.fit import Effects, EffectsConfig, HeldOutCodes, fit_effects
from models.effects.state import SavedCounts
from models.runtime.encoding import FIRST_KNOWN, UNKNOWN
from tests.effects_factory import (
    ITEMS,
    TABLES,
    attributes_of,
    examples_of,
    impressions,
    liked,
    part_of_examples,
    sampled,
)

pytestmark = pytest.mark.usefixtures("one_thread")
WIDTH = 24
USERS = 300


def _fit(
    examples: Any, earlier: Any = None, tables: Any = TABLES, negatives: Any = None, seed: int = 1, **changes: Any
) -> Effects:
    config = EffectsConfig(**changes)
    return fit_effects(examples, tables, WIDTH, negatives, config, np.random.default_rng(seed), earlier)


def _halves(examples: Any) -> Any:
    return (part_of_examples(examples, rows) for rows in np.array_split(np.arange(len(examples.users)), 2))


def _by_time(rng: np.random.Generator, users: Any = USERS, each: int = 12) -> Examples:
    """Impressions in an order in which every user comes in both halves."""
    examples = impressions(attributes_of(users, rng), each, rng)
    order = rng.permutation(len(examples.users))
    shuffled = part_of_examples(examples, order)
    return examples_of(shuffled.users, shuffled.items, shuffled.labels, examples.attributes)


def _effects(effects: Any) -> Any:
    return effects.codes[0] @ effects.keys.T


def _likeness(one: Any, other: Any) -> Any:
    return np.corrcoef(_effects(one).ravel(), _effects(other).ravel())[0, 1]


def _size(one: Any, other: Any) -> Any:
    return np.abs(_effects(one)).sum() / np.abs(_effects(other)).sum()


def test_the_first_half_and_then_the_second_are_nearly_both_at_once(rng: np.random.Generator) -> None:
    examples = _by_time(rng)
    early, late = _halves(examples)
    whole, first = _fit(examples), _fit(early)
    both = _fit(late, first.counts)
    assert _likeness(both, whole) > 0.99
    assert 1 - _likeness(both, whole) < 0.4 * (1 - _likeness(first, whole))
    assert _size(both, whole) == pytest.approx(1, abs=0.05)
    np.testing.assert_allclose(both.biases[:, FIRST_KNOWN:], whole.biases[:, FIRST_KNOWN:], atol=0.25)
    assert np.abs(both.biases - whole.biases).mean() < 0.5 * np.abs(first.biases - whole.biases).mean()


def test_many_small_windows_are_nearly_one(rng: np.random.Generator) -> None:
    examples = _by_time(rng)
    whole, step = _fit(examples), None
    for rows in np.array_split(np.arange(len(examples.users)), 6):
        step = _fit(part_of_examples(examples, rows), step.counts if step else None)
    assert _likeness(step, whole) > 0.98
    assert step.counts.past.frequency.sum() == len(examples.users)


def test_counts_survive_their_file(rng: np.random.Generator, tmp_path: Path) -> None:
    early, late = _halves(_by_time(rng, users=60))
    counts = _fit(early).counts
    counts.save(tmp_path / "counts.npz")
    loaded = SavedCounts.load(tmp_path / "counts.npz")
    assert loaded.until_ms == counts.until_ms
    one, other = _fit(late, counts), _fit(late, loaded)
    for name in ("codes", "keys", "biases"):
        np.testing.assert_allclose(getattr(one, name), getattr(other, name), atol=1e-3, err_msg=name)


@pytest.mark.parametrize("content", [b"", b"nothing of the kind", None])
def test_what_are_no_counts_is_refused_by_the_files_name(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "counts.npz"
    np.savez(path, format=np.array(1), told=np.zeros((0, 2)))
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InvalidInput, match=re.escape(str(path))):
        SavedCounts.load(path)


def test_counts_of_another_format_are_refused(rng: np.random.Generator, tmp_path: Path) -> None:
    path = tmp_path / "counts.npz"
    _fit(impressions(attributes_of(20, rng), 4, rng)).counts.save(path)
    with np.load(path) as file:
        arrays = dict(file)
    np.savez(path, **{**arrays, "format": np.array(9)})
    with pytest.raises(InvalidInput, match="format is 9"):
        SavedCounts.load(path)


def test_values_and_items_that_are_new_are_learned_beside_the_known(rng: np.random.Generator) -> None:
    """A segment and two items that the first half has never seen, in tables that have grown."""
    examples = _by_time(rng)
    early, late = _halves(examples)
    known = (examples.attributes[early.users, 0] < 3) & (early.items < ITEMS - 2)
    part = part_of_examples(early, np.flatnonzero(known))
    encoded = np.where(part.histories.items < ITEMS - 2, part.histories.items, UNKNOWN)
    part = replace(part, histories=replace(part.histories, items=encoded))
    first = _fit(part, tables=TableSizes((3, 5), ITEMS - 2))
    both, whole = _fit(late, first.counts), _fit(examples)
    assert both.codes.shape == whole.codes.shape
    effects = _effects(both)
    segment = liked(np.array([3]))[0, FIRST_KNOWN:]
    assert effects[3, FIRST_KNOWN:][segment].min() > effects[3, FIRST_KNOWN:][~segment].max()
    assert _likeness(both, whole) > 0.97


def test_what_was_counted_is_not_counted_again(rng: np.random.Generator) -> None:
    examples = _by_time(rng)
    early, late = _halves(examples)
    first = _fit(early).counts
    only, overlapping = _fit(late, first), _fit(examples, first)
    assert np.array_equal(only.counts.past.frequency, overlapping.counts.past.frequency)
    assert np.array_equal(only.codes, overlapping.codes)
    assert overlapping.counts.until_ms == len(examples.users)


def test_without_anything_new_the_effects_stay(rng: np.random.Generator) -> None:
    early, _ = _halves(_by_time(rng))
    first = _fit(early, iterations=100)
    again = _fit(early, first.counts)
    assert _likeness(first, again) > 0.999
    assert _size(again, first) == pytest.approx(1, abs=0.03)
    np.testing.assert_allclose(again.biases, first.biases, atol=0.06)
    assert not again.fold.any(), "nobody's behaviour was added"
    assert again.counts.past.frequency.sum() == len(early.users)


@pytest.mark.parametrize("solver", ["counts", "gradient"])
def test_what_a_user_did_is_not_in_the_code_that_training_shows_of_that_user(
    solver: Any, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a first fit: of the window that is added, and with how strong noise is held still."""
    monkeypatch.setattr("models.effects.fits.strength", lambda *_: 1.0)
    monkeypatch.setattr("models.effects.fits.strength_of", lambda *_: 1.0)
    attributes = attributes_of(80, rng)
    attributes[:, 0] = np.where(np.arange(80) < 10, 1, 2)
    changes = {"solver": solver, "descent": DescentConfig(least_steps=100)}
    counts = _fit(impressions(attributes, 6, rng), **changes).counts
    late = impressions(attributes, 12, rng)
    late = replace(late, times_ms=late.times_ms + counts.until_ms)
    own, likes = late.users == 0, liked(attributes[:1, 0])[0, late.items]
    one, other = (
        _fit(replace(late, labels=np.where(own, labels, late.labels).astype(np.float32)), counts, **changes)
        for labels in (likes, ~likes)
    )

    def held_out(effects: Any, user: Any) -> Any:
        code = HeldOutCodes(effects, TABLES).of(np.array([user]), attributes[[user]])
        return (code @ effects.keys.T)[0]

    def whole(effects: Any) -> Any:
        return (effects.codes[0, TABLES.places(attributes[:1])].sum(axis=1) @ effects.keys.T)[0]

    moved = np.abs(whole(one) - whole(other)).max()
    assert moved > 0.1
    assert np.abs(held_out(one, 0) - held_out(other, 0)).max() < 0.02 * moved
    neighbour = next(user for user in range(1, 10) if one.fold[user] != one.fold[0])
    assert np.abs(held_out(one, neighbour) - held_out(other, neighbour)).max() > 0.4 * moved


def test_sampled_negatives_and_then_labels_add_up(rng: np.random.Generator) -> None:
    """Users of one value act on even items, those of the other on odd ones; the labels then tell it too."""
    events = [(user, item) for user in range(4) for item in range(6) if (item % 2 == user % 2) or rng.random() < 0.1]
    users, items, negatives = sampled(events, rng)
    tables, attributes = TableSizes((3,), 8), np.array([[1], [2], [1], [2]])
    few: dict[str, Any] = {"tables": tables, "counting": CountingConfig(least_users=1, user_weight=1.0)}
    first = _fit(examples_of(users, items, np.ones(len(users)), attributes), negatives=negatives, **few)
    shown = np.array([(user, item) for user in range(4) for item in range(6)] * 5)
    labels = (shown[:, 0] % 2) == (shown[:, 1] % 2)
    times = first.counts.until_ms + np.arange(len(shown))
    later = examples_of(shown[:, 0], shown[:, 1] + FIRST_KNOWN, labels, attributes, times)
    both = _fit(later, first.counts, **few)
    counted = both.counts.past.counts
    assert counted.acted.sum() == pytest.approx(len(events) + labels.sum())
    passed = counted.passed.sum() + (counted.drawn.T @ counted.popularity).sum()
    assert passed == pytest.approx(4 * len(events) + (~labels).sum(), rel=0.01)
    effects = (both.codes[0, [1, 2]] @ both.keys.T)[:, FIRST_KNOWN:]
    even = np.arange(6) % 2 == 0
    assert effects[0][even].min() > 0 > effects[0][~even].max()
    assert effects[1][~even].min() > 0 > effects[1][even].max()
    assert np.abs(_effects(both)).sum() > np.abs(_effects(first)).sum(), "more is known of it"


def test_no_more_is_counted_than_allowed(rng: np.random.Generator) -> None:
    config = CountingConfig(most_counts=60)
    early, late = _halves(_by_time(rng))
    first = _fit(early, counting=config, solver="counts")
    both = _fit(late, first.counts, counting=config, solver="counts")
    past = both.counts.past
    assert 0 < len(past.items) * len(past.cells.users) <= 60
    assert np.isfinite(both.codes).all()


def test_what_is_too_much_for_dense_counts_is_fitted_by_gradient_and_all_of_it_counts(rng: np.random.Generator) -> None:
    early, late = _halves(_by_time(rng))
    config = CountingConfig(most_counts=60)
    first = _fit(early, counting=config)
    both = _fit(late, first.counts, counting=config)
    for past in (first.counts.past, both.counts.past):
        assert len(past.items) * len(past.cells.users) > 60
    dense = _fit(late, _fit(early).counts)
    assert np.array_equal(both.counts.past.frequency, dense.counts.past.frequency)
    assert _likeness(dense, both) > 0.99
    assert _size(both, dense) == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize(
    ("tables", "field"),
    [
        (TableSizes((4,), ITEMS), "attributes"),
        (TableSizes((3, 5), ITEMS), "attributes"),
        (TableSizes((4, 5), ITEMS - 1), "items"),
    ],
)
def test_tables_that_did_not_grow_from_the_counted_ones_are_refused(
    tables: Any, field: str, rng: np.random.Generator
) -> None:
    examples = impressions(attributes_of(60, rng), 6, rng)
    counts = _fit(examples).counts
    attributes = examples.attributes[:, : len(tables.attributes)]
    with pytest.raises(InvalidInput) as raised:
        _fit(replace(examples, attributes=attributes), counts, tables=tables)
    assert raised.value.field == field


def _no_rows(users: Any, items: Any, labels: Any) -> Any:
    return users[:0], items[:0], labels[:0]


def _unknown_items(users: Any, items: Any, labels: Any) -> Any:
    return users, items * 0 + UNKNOWN, labels


def _one_class(users: Any, items: Any, labels: Any) -> Any:
    return users, items, labels * 0


@pytest.mark.parametrize("first", [_no_rows, _unknown_items, _one_class])
@pytest.mark.parametrize("second", [_no_rows, _unknown_items, _one_class])
def test_windows_that_say_little_give_finite_effects(first: Any, second: Any, rng: np.random.Generator) -> None:
    attributes = attributes_of(40, rng)
    columns = rng.integers(0, 40, 400), rng.integers(FIRST_KNOWN, ITEMS, 400), rng.integers(0, 2, 400)
    users, items, labels = first(*columns)
    counts = _fit(examples_of(users, items, labels, attributes)).counts
    users, items, labels = second(*columns)
    later = examples_of(users, items, labels, attributes)
    both = _fit(replace(later, times_ms=later.times_ms + counts.until_ms), counts)
    for values in (both.codes, both.keys, both.biases):
        assert np.isfinite(values).all()
