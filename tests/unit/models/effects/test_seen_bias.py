"""What is kept of a stage's judgements, for a later window to add to."""

from typing import Any

import numpy as np
import pytest
from scipy.special import logit

from models.effects.seen_bias import (
    FIRST_OF_SEEN_BIN,
    LEAST,
    MOST,
    START,
    Evidence,
    Judgements,
    correction,
    next_precision,
)
from models.runtime.encoding import FIRST_KNOWN

ITEMS = 6
NONE = np.zeros(ITEMS)
PRECISION = 4.0


def _judged(rng: np.random.Generator, count: int = 4000) -> Any:
    items = rng.integers(0, ITEMS, count)
    labels = (rng.random(count) < 0.1 + 0.12 * items).astype(float)
    return Judgements(items, labels, np.zeros(count), rng.choice([1.0, 0.5], count))


def _part(judged: Any, rows: Any) -> Any:
    return Judgements(*(column[rows] for column in judged))


def test_two_windows_one_after_the_other_are_as_both_at_once(rng: np.random.Generator) -> None:
    """The offsets hold the base, as the biases of a stage are corrected from it."""
    judged = _judged(rng)
    whole, *_ = correction(judged, NONE, NONE, NONE, PRECISION)
    early, late = np.array_split(np.arange(len(judged.items)), 2)
    first, slope, curvature = correction(_part(judged, early), NONE, NONE, NONE, PRECISION)
    both, *_ = correction(_part(judged, late), NONE, slope, curvature, PRECISION)
    assert np.abs(first - whole).max() > 0.04
    np.testing.assert_allclose(both, whole, atol=0.01)


@pytest.mark.parametrize("given", [PRECISION, None])
def test_evidence_alone_gives_the_correction_back_from_whatever_base(rng: np.random.Generator, given: Any) -> None:
    judged = _judged(rng)
    found, slope, curvature = correction(judged, NONE, NONE, NONE, given)
    nobody = _part(judged, np.zeros(0, dtype=np.int64))
    again, *rest = correction(nobody, NONE, slope, curvature, given)
    np.testing.assert_allclose(again, found, atol=0.01)
    base = np.full(ITEMS, 0.3)
    moved, *_ = correction(nobody, base, slope, curvature, 1e-3)
    np.testing.assert_allclose(
        (base + moved)[FIRST_KNOWN:], logit(0.1 + 0.12 * np.arange(ITEMS))[FIRST_KNOWN:], atol=0.3
    )
    for one, other in zip(rest, (slope, curvature), strict=True):
        np.testing.assert_array_equal(one, other)


def test_of_what_is_no_item_nothing_is_corrected(rng: np.random.Generator) -> None:
    found, *_ = correction(_judged(rng), NONE, NONE, NONE, PRECISION)
    assert not found[:FIRST_KNOWN].any()


@pytest.mark.parametrize(
    ("rows", "read", "new", "most", "expected"),
    [
        (0, 0, 50, 100, (50, 0.0)),  # nothing was known
        (0, 0, 500, 100, (100, 0.0)),
        (30, 30, 50, 100, (50, 1.0)),  # all fit in
        (300, 100, 100, 100, (25, 0.75)),  # as one draw from 400
        (300, 100, 0, 100, (0, 1.0)),
        (0, 0, 0, 100, (0, 0.0)),
    ],
)
def test_what_was_read_and_what_is_new_share_the_room(rows: int, read: int, new: int, most: int, expected: Any) -> None:
    evidence = Evidence.none(ITEMS)
    evidence.rows[2], evidence.read[2] = rows, read
    assert evidence.room(2, new, most) == expected


def test_evidence_grows_by_items_of_which_nothing_is_known() -> None:
    stages = len(FIRST_OF_SEEN_BIN)
    full = Evidence(
        np.full(stages, 8.0),
        np.full(stages, 4.0),
        np.ones((stages, 3), np.float32),
        np.full((stages, 3), 2.0, np.float32),
    )
    grown = full.grown(5, len(FIRST_OF_SEEN_BIN))
    assert (grown.rows.tolist(), grown.read.tolist()) == ([8.0] * stages, [4.0] * stages)
    assert grown.slope[0].tolist() == [1.0] * 3 + [0.0] * 2
    assert grown.curvature[-1].tolist() == [2.0] * 3 + [0.0] * 2


def test_grown_evidence_is_a_copy_in_single_precision_to_which_a_fit_adds() -> None:
    known = Evidence.none(3)
    grown = known.grown(3, len(FIRST_OF_SEEN_BIN))
    for added in (grown.rows, grown.read, grown.slope, grown.curvature):
        added[...] = 1
    assert not any(each.any() for each in (known.rows, known.read, known.slope, known.curvature))
    assert grown.slope.dtype == grown.curvature.dtype == np.float32


def test_a_step_of_the_fixed_point_is_mackays(rng: np.random.Generator) -> None:
    effects, curvature = rng.normal(size=(3, 4)), rng.random((3, 4)) * 20
    determined = sum(c / (c + START) for c in curvature.ravel())
    expected = determined / sum(w * w for w in effects.ravel())
    assert next_precision(effects, curvature, START) == pytest.approx(expected)


def test_a_precision_stays_within_its_bounds() -> None:
    assert next_precision(np.zeros(3), np.ones(3), START) == MOST
    assert next_precision(np.full(3, 1e3), np.ones(3), START) == LEAST
    assert next_precision(np.ones(3), np.zeros(3), START) == LEAST
