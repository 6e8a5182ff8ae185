"""Keys of items from their attributes: what is rarely counted has the key of its kind."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from models.effects.counts import TableSizes
from models.effects.fit import Effects, EffectsConfig, fit_effects
from models.effects.item_keys import combined_keys, design_of_items, separated_keys
from models.effects.low_rank import Design, Fit, Weights
from models.effects.state import SavedCounts
from models.runtime.encoding import FIRST_KNOWN, IndexArray
from tests.effects_factory import (
    ITEMS,
    SEGMENTS,
    TABLES,
    attributes_of,
    examples_of,
    impressions,
    liked,
    part_of_examples,
)

pytestmark = pytest.mark.usefixtures("one_thread")
FEATURES: IndexArray = np.where(np.arange(ITEMS) < FIRST_KNOWN, 0, np.arange(ITEMS) % SEGMENTS + 1)[:, None]
"""The kind of each item, which is what segments differ in; 0 is unknown."""


def _fit(examples: Any, features: Any, earlier: Any = None, **changes: Any) -> Effects:
    config = EffectsConfig(**changes)
    tables = TABLES._replace(item_features=features)
    return fit_effects(examples, tables, 16, None, config, np.random.default_rng(1), earlier)


def _tells(effects: Effects, item: int) -> Any:
    """How much likelier an item is for the segment that likes it than for the others."""
    found = effects.codes[0, 1 : SEGMENTS + 1] @ effects.keys[item]
    own = liked(np.arange(1, SEGMENTS + 1))[:, item]
    return found[own].min() - found[~own].max()


def _without(examples: Any, item: int) -> Any:
    return part_of_examples(examples, np.flatnonzero(examples.items != item))


def test_an_item_that_was_never_counted_has_the_key_of_its_kind(rng: np.random.Generator) -> None:
    examples = _without(impressions(attributes_of(300, rng), 12, rng), ITEMS - 1)
    assert _tells(_fit(examples, FEATURES), ITEMS - 1) > 0.5
    assert not _fit(examples, None).keys[ITEMS - 1].any()
    assert not _fit(examples, FEATURES, item_attributes=False).keys[ITEMS - 1].any()


def test_an_item_of_an_unknown_kind_has_its_own_key_alone(rng: np.random.Generator) -> None:
    features = FEATURES.copy()
    features[ITEMS - 1] = 0
    examples = impressions(attributes_of(300, rng), 12, rng)
    assert not _fit(_without(examples, ITEMS - 1), features).keys[ITEMS - 1].any()
    assert _tells(_fit(examples, features), ITEMS - 1) > 0.5


def test_where_little_is_counted_kinds_tell_more_than_items_alone(rng: np.random.Generator) -> None:
    examples = impressions(attributes_of(60, rng), 6, rng)
    truth = liked(np.arange(1, SEGMENTS + 1))[:, FIRST_KNOWN:]

    def likeness(features: Any) -> Any:
        effects = _fit(examples, features)
        found = effects.codes[0, 1 : SEGMENTS + 1] @ effects.keys[FIRST_KNOWN:].T
        return np.corrcoef(found.ravel(), truth.ravel())[0, 1]

    assert likeness(FEATURES) > likeness(None) + 0.02


@pytest.mark.parametrize("solver", ["counts", "gradient"])
def test_what_a_kind_of_many_rare_items_tells_is_not_shrunk_as_what_each_item_does(
    solver: Any, rng: np.random.Generator
) -> None:
    """Five times an item was shown, a thousand times a kind."""
    items = 602
    features = np.where(np.arange(items) < FIRST_KNOWN, 0, np.arange(items) % SEGMENTS + 1)[:, None]
    attributes, users = attributes_of(300, rng), np.repeat(np.arange(300), 10)
    shown = rng.integers(FIRST_KNOWN, items, len(users))
    chance = np.where(shown % SEGMENTS == attributes[users, 0] % SEGMENTS, 0.7, 0.3)
    examples = examples_of(users, shown, rng.random(len(users)) < chance, attributes)
    tables = TableSizes(TABLES.attributes, items, item_features=features)
    config = EffectsConfig(solver=solver, transitions=False, popularity_with_time=False)
    effects = fit_effects(examples, tables, 64, None, config, np.random.default_rng(1))
    found = effects.codes[0, 1 : SEGMENTS + 1] @ effects.keys[FIRST_KNOWN:].T
    own = np.arange(FIRST_KNOWN, items) % SEGMENTS == np.arange(1, SEGMENTS + 1)[:, None] % SEGMENTS
    assert 1.2 < found[own].mean() - found[~own].mean() < 2.2, "2 log(.7 / .3) is 1.7"


def test_a_later_window_goes_on_from_the_keys(rng: np.random.Generator, tmp_path: Path) -> None:
    examples = _without(impressions(attributes_of(300, rng), 12, rng), ITEMS - 1)
    first = _fit(examples, FEATURES)
    assert first.counts is not None
    first.counts.save(tmp_path / "counts.npz")
    later = replace(examples, times_ms=examples.times_ms + first.counts.until_ms)
    both = _fit(later, FEATURES, SavedCounts.load(tmp_path / "counts.npz"))
    assert _tells(both, ITEMS - 1) > 0.5
    effects = [each.codes[0] @ each.keys.T for each in (first, both)]
    assert np.corrcoef(effects[0].ravel(), effects[1].ravel())[0, 1] > 0.98


def test_values_of_one_item_or_of_all_are_none() -> None:
    features = np.array([[0, 0], [0, 0], [1, 1], [1, 2], [1, 2], [1, 3], [1, 0]])
    design = design_of_items(features, np.arange(2, 7))
    assert design is not None
    assert design.size == 1, "the value 2 of the second attribute"
    assert design.values[:, 1].tolist() == [1, 1, 1, 0, 0, 1, 1]
    assert design_of_items(features[:, :1], np.arange(2, 7)) is None
    assert design_of_items(features[:, :0], np.arange(2, 7)) is None


def test_keys_taken_apart_add_up_again_and_cost_least() -> None:
    generator = torch.Generator().manual_seed(0)
    items = Design(torch.tensor([[0], [0], [1], [1], [2]]), 2)
    design = Design(torch.zeros(3, 1, dtype=torch.long), 1, items)
    keys = torch.randn(5, 2, generator=generator)
    weights = Weights(torch.ones(1), torch.rand(7, generator=generator) + 0.5)
    fit = Fit(torch.zeros(5), torch.zeros(1, 2), keys)
    parts = separated_keys(fit, design, weights)
    torch.testing.assert_close(combined_keys(parts, design).right, keys)

    def cost(right: Any) -> float:
        return float((right * weights.items.unsqueeze(1)).square().sum())

    for step in (0.05, -0.05):
        for row in (5, 6):
            shared = parts.right.clone()
            shared[row] += step
            shared[:5] = keys - items.of_cells(shared[5:])
            assert cost(shared) > cost(parts.right)
