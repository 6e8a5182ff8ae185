"""Interactions in arrays whose tastes are known, for what is fitted to attributes."""

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from models.data.examples import Examples
from models.data.histories import Histories
from models.data.sampling import NegativeSampler
from models.data.vocabulary import item_counts
from models.effects.counts import InteractionRows, TableSizes
from models.effects.fit import Negatives
from models.runtime.encoding import FIRST_KNOWN, IndexArray
from tests.data_factory import USERS, dataset_of, encoding_of

SEGMENTS = 3
ITEMS = 14
"""Rows of the item table: two that are no known item, and 12 that are."""
TABLES = TableSizes((SEGMENTS + 1, 5), ITEMS)
"""Of a segment that tells the taste, and a city that says nothing; 0 is unknown."""


def examples_of(
    users: npt.ArrayLike,
    items: npt.ArrayLike,
    labels: npt.ArrayLike,
    attributes: npt.ArrayLike,
    times_ms: npt.ArrayLike | None = None,
    ages: npt.ArrayLike | None = None,
) -> Examples:
    """A moment a row, one after the other where no times are given, and the behaviour that the rows themselves are."""
    users, items, labels = np.asarray(users), np.asarray(items), np.asarray(labels, dtype=np.float32)
    times = np.arange(len(users)) if times_ms is None else np.asarray(times_ms)
    attributes = np.asarray(attributes, dtype=np.int64)
    acted = np.flatnonzero(labels == 1)
    acted = acted[np.lexsort((times[acted], users[acted]))]
    counts = np.bincount(users[acted], minlength=len(attributes))
    return Examples(
        users=users.astype(np.int32),
        times_ms=times.astype(np.int64),
        context=np.zeros((len(users), 0), dtype=np.int32),
        starts=np.arange(len(users) + 1),
        items=items.astype(np.int32),
        labels=labels,
        attributes=attributes,
        histories=Histories(
            items=items[acted].astype(np.int32),
            actions=np.full(len(acted), 2, dtype=np.int32),
            times_ms=times[acted].astype(np.int64),
            starts=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        ),
        ages=np.zeros(len(users), dtype=np.int64) if ages is None else np.asarray(ages, dtype=np.int64),
    )


def rows_of(
    users: npt.ArrayLike, items: npt.ArrayLike, labels: npt.ArrayLike, attributes: npt.ArrayLike, seen: int = 0
) -> InteractionRows:
    """As `InteractionRows`, everything at one number of behaviours seen."""
    users = np.asarray(users, dtype=np.int64)
    return InteractionRows(
        users,
        np.asarray(items, dtype=np.int64),
        np.asarray(labels, dtype=np.float32),
        np.full(len(users), seen),
        np.asarray(attributes, dtype=np.int64),
        np.arange(len(users), dtype=np.int64),
        np.arange(len(users), dtype=np.int64),
        np.zeros(len(users), dtype=np.int64),
    )


def attributes_of(users: int, rng: np.random.Generator) -> IndexArray:
    """(users, 2): a segment and a city, as `TABLES` has them."""
    return np.column_stack([rng.integers(1, SEGMENTS + 1, users), rng.integers(1, 5, users)])


def liked(segments: IndexArray) -> npt.NDArray[np.bool_]:
    """(B, ITEMS): each segment likes every third item."""
    items = np.arange(ITEMS)
    found: npt.NDArray[np.bool_] = (items >= FIRST_KNOWN) & (
        items % SEGMENTS == np.asarray(segments)[:, None] % SEGMENTS
    )
    return found


def impressions(attributes: IndexArray, each: int, rng: np.random.Generator) -> Examples:
    """Labelled: every user is shown `each` items, and acts on four in five liked ones and one in five others."""
    users = np.repeat(np.arange(len(attributes)), each)
    items = rng.integers(FIRST_KNOWN, ITEMS, len(users))
    chance = np.where(liked(attributes[users, 0])[np.arange(len(users)), items], 0.8, 0.2)
    return examples_of(users, items, rng.random(len(users)) < chance, attributes)


def sampled(
    events: list[tuple[int, int]], rng: np.random.Generator, number: int = 4, items: int = 6
) -> tuple[list[int], list[int], Negatives]:
    """Users, item indices and a sampler of who acted on what in `dataset_of`, by user and item counted from 0."""
    data = dataset_of([(user, item, time, 1) for time, (user, item) in enumerate(events)])
    encoding = encoding_of(items)
    sampler = NegativeSampler(data, encoding, item_counts(data, encoding, len(events)), rng)
    assert max(user for user, _ in events) < USERS
    return [user for user, _ in events], [FIRST_KNOWN + item for _, item in events], Negatives(sampler, number)


def part_of_examples(examples: Any, rows: Any) -> Any:
    """The same moments, a row each, at the same times."""
    return replace(
        examples,
        users=examples.users[rows],
        times_ms=examples.times_ms[rows],
        context=examples.context[rows],
        starts=np.arange(len(rows) + 1),
        items=examples.items[rows],
        labels=examples.labels[rows],
        ages=examples.ages[rows],
    )
