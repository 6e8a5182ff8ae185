"""Popularity with time: the lifts, the weights that the data give, and what a later window adds."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from foretaste.kernel.values import DAY_MS
from models.effects.counts import InteractionRows
from models.effects.decayed_counts import HALF_LIVES, DecayedCounts, PopularityState, TimedRows
from models.effects.decayed_popularity import STRETCHES, fit_decayed_popularity
from models.effects.seen_bias import FIRST_OF_SEEN_BIN
from models.runtime.encoding import FIRST_KNOWN, UNKNOWN

ITEMS, DAYS = 22, 100
KNOWN = np.arange(FIRST_KNOWN, ITEMS)
FLAT = np.zeros((len(FIRST_OF_SEEN_BIN), ITEMS), dtype=np.float32)


def _rows(items: Any, times_ms: Any, labels: Any = None, seen: int = 100) -> InteractionRows:
    count = len(items)
    return InteractionRows(
        users=np.zeros(count, dtype=np.int64),
        items=np.asarray(items, dtype=np.int64),
        labels=np.ones(count, dtype=np.float32) if labels is None else np.asarray(labels, dtype=np.float32),
        seen=np.full(count, seen),
        attributes=np.zeros((1, 0), dtype=np.int64),
        times_ms=np.asarray(times_ms, dtype=np.int64),
        moments=np.arange(count),
        ages=np.zeros(count, dtype=np.int64),
    )


def _acts(rng: np.random.Generator, *, drifting: bool, each_day: int = 300, first_day: int = 0) -> InteractionRows:
    """Every day's acts: by tastes that wander over weeks, or by those of the first day for ever."""
    items, times = [], []
    odds = rng.normal(size=len(KNOWN))
    for day in range(DAYS):
        if drifting:
            odds = 0.99 * odds + 0.2 * rng.normal(size=len(KNOWN))
        shares = np.exp(odds) / np.exp(odds).sum()
        items.append(rng.choice(KNOWN, each_day, p=shares))
        times.append(DAY_MS * (first_day + day) + np.sort(rng.integers(0, DAY_MS, each_day)))
    return _rows(np.concatenate(items), np.concatenate(times))


def _shown(rows: InteractionRows, rng: np.random.Generator) -> InteractionRows:
    """With labels: beside each act four items that were shown and passed by, at random."""
    return _rows(
        np.concatenate([rows.items, rng.choice(KNOWN, 4 * len(rows.items))]),
        np.concatenate([rows.times_ms, np.repeat(rows.times_ms, 4)]),
        np.concatenate([rows.labels, np.zeros(4 * len(rows.items))]),
    )


def test_a_lift_is_the_log_of_lately_over_always_and_nothing_where_little_is_known() -> None:
    acted = np.array([[0, 0, 8.0, 0.0, 8.0]] + [[0, 0, 3.0, 0.0, 1.0]] * len(HALF_LIVES))
    passed = np.array([[0, 0, 32.0, 0.0, 32.0]] + [[0, 0, 4.0, 0.0, 4.0]] * len(HALF_LIVES))
    lifts = DecayedCounts(acted, passed, 0).lifts
    np.testing.assert_allclose(lifts[0], [0, 0, np.log(4 / 2), 0, np.log(2 / 2)])


def test_what_is_decayed_goes_on_decaying_and_a_window_adds_to_it() -> None:
    early, late = _rows([2, 3, 2], [0, DAY_MS, 3 * DAY_MS]), _rows([3, 2], [4 * DAY_MS, 6 * DAY_MS])
    together = _rows([2, 3, 2, 3, 2], [0, DAY_MS, 3 * DAY_MS, 4 * DAY_MS, 6 * DAY_MS])
    labels = np.array([1, 0, 1, 1, 0], dtype=np.float32)
    timed = [
        TimedRows.of(_rows(rows.items, rows.times_ms, own), None, ITEMS)
        for rows, own in ((early, labels[:3]), (late, labels[3:]), (together, labels))
    ]
    steps = DecayedCounts.none(ITEMS, 0).then(timed[0], 3 * DAY_MS).then(timed[1], 9 * DAY_MS)
    once = DecayedCounts.none(ITEMS, 0).then(timed[2], 9 * DAY_MS)
    np.testing.assert_allclose(steps.acted, once.acted)
    np.testing.assert_allclose(steps.passed, once.passed)
    of_three_days = 1 + HALF_LIVES.index(3.0)
    assert once.acted[of_three_days, 2] == pytest.approx(2**-3 + 2**-2)  # nine days ago, and six
    assert (once.acted[0, 2], once.passed[0, 3]) == (2, 1)


def test_popularity_that_wanders_is_followed_and_tells_what_comes_next(rng: np.random.Generator) -> None:
    rows = _acts(rng, drifting=True)
    known, later = rows.only(rows.times_ms < 90 * DAY_MS), rows.only(rows.times_ms >= 90 * DAY_MS)
    found, _ = fit_decayed_popularity(known, FLAT, 4)
    assert found.weights[-1, 0] > 0.3
    always = np.log(np.bincount(known.items, minlength=ITEMS)[KNOWN] + 1.0)
    came = np.bincount(later.items, minlength=ITEMS)[KNOWN]
    with_time = always + found.served[-1, KNOWN]
    assert np.corrcoef(with_time, np.log(came + 1))[0, 1] > np.corrcoef(always, np.log(came + 1))[0, 1] + 0.05


def test_popularity_that_stays_changes_next_to_nothing(rng: np.random.Generator) -> None:
    found, _ = fit_decayed_popularity(_acts(rng, drifting=False), FLAT, 4)
    assert np.abs(found.served).max() < 0.15


def test_weights_that_tell_nothing_of_the_last_stretch_are_none(rng: np.random.Generator) -> None:
    """In each stretch what came last comes on, but in the last one it turns round."""
    halves = np.split(KNOWN, 2)
    items, times = [], []
    for day in range(DAYS):
        half = (day // 40) % 2 if day < 90 else 1 - (89 // 40) % 2
        items.append(rng.choice(halves[half], 100))
        times.append(DAY_MS * day + np.sort(rng.integers(0, DAY_MS, 100)))
    turned = _rows(np.concatenate(items), np.concatenate(times))
    found, _ = fit_decayed_popularity(turned, FLAT, 4)
    assert not found.weights.any()
    assert not found.served.any()
    before, _ = fit_decayed_popularity(turned.only(turned.times_ms < 78 * DAY_MS), FLAT, 4)
    assert before.weights.any()


def test_a_row_reads_what_was_known_when_its_stretch_began_and_serving_what_is_known_at_the_end(
    rng: np.random.Generator,
) -> None:
    rows = _acts(rng, drifting=True)
    found, state = fit_decayed_popularity(rows, FLAT, 4)
    assert len(found.begins_ms) == STRETCHES
    place = 7
    begin = int(found.begins_ms[place])
    earlier = TimedRows.of(rows.only(rows.times_ms < begin), 4, ITEMS)
    expected = DecayedCounts.none(ITEMS, 0).then(TimedRows(**{**_fields(earlier), "drawn": _drawn(rows)}), begin).lifts
    np.testing.assert_allclose(found.lifts[place], expected, atol=1e-4)
    np.testing.assert_allclose(found.lifts[-1], state.counts.lifts, atol=1e-5)
    seen, items = np.array([0, 100]), np.array([5, 9])
    read = found.of(np.array([begin, begin + 1]), seen, items)
    wanted = [found.weights[0] @ found.lifts[place, :, 5], found.weights[-1] @ found.lifts[place, :, 9]]
    np.testing.assert_allclose(read, wanted, rtol=1e-5)
    assert not found.of(np.array([begin]), seen[:1], np.array([UNKNOWN])).any()


def _fields(timed: TimedRows) -> dict[str, Any]:
    return {name: getattr(timed, name) for name in ("items", "labels", "times_ms", "bins")}


def _drawn(rows: InteractionRows) -> Any:
    return TimedRows.of(rows, 4, ITEMS).drawn


def test_a_short_window_reads_what_was_counted_before_it(rng: np.random.Generator) -> None:
    rows = _shown(_acts(rng, drifting=True), rng)
    cut = 95 * DAY_MS
    _, before = fit_decayed_popularity(rows.only(rows.times_ms < cut), FLAT, None)
    after, state = fit_decayed_popularity(rows.only(rows.times_ms >= cut), FLAT, None, before)
    whole, once = fit_decayed_popularity(rows, FLAT, None)
    np.testing.assert_allclose(after.lifts[-1], whole.lifts[-1], atol=0.2)
    assert np.abs(after.lifts[0]).max() > 0.5  # as it was when the short window began
    np.testing.assert_allclose(state.counts.acted, once.counts.acted, rtol=1e-6)
    assert (np.diagonal(state.evidence.curvature[-1]) > np.diagonal(before.evidence.curvature[-1])).all()


def test_rows_with_labels_are_counted_as_they_are_labelled(rng: np.random.Generator) -> None:
    rows = _acts(rng, drifting=True)
    found, _ = fit_decayed_popularity(_shown(rows, rng), FLAT, None)
    sampled, _ = fit_decayed_popularity(rows, FLAT, 4)
    assert np.corrcoef(found.served[-1], sampled.served[-1])[0, 1] > 0.9


def test_new_items_have_no_lift_before_they_are_counted(rng: np.random.Generator) -> None:
    _, before = fit_decayed_popularity(_acts(rng, drifting=True), FLAT, 4)
    more = np.zeros((len(FLAT), ITEMS + 3), dtype=np.float32)
    found, _ = fit_decayed_popularity(_acts(rng, drifting=True, first_day=DAYS), more, 4, before)
    assert found.served.shape == (len(FLAT), ITEMS + 3)
    assert not found.served[:, ITEMS:].any()


def test_without_rows_nothing_is_added() -> None:
    found, state = fit_decayed_popularity(_rows([], []), FLAT, 4)
    assert not found.served.any()
    assert not state.counts.acted.any()


def test_the_state_survives_its_file_and_an_older_file_has_none(rng: np.random.Generator, tmp_path: Path) -> None:
    _, state = fit_decayed_popularity(_acts(rng, drifting=True), FLAT, 4)
    np.savez(tmp_path / "counts.npz", **state.to_arrays())  # type: ignore[arg-type]  # its stub has one option
    with np.load(tmp_path / "counts.npz") as file:
        loaded = PopularityState.from_arrays(dict(file))
    assert loaded is not None
    assert loaded.counts.at_ms == state.counts.at_ms
    np.testing.assert_allclose(loaded.counts.acted, state.counts.acted, rtol=1e-6)
    np.testing.assert_array_equal(loaded.evidence.curvature, state.evidence.curvature)
    assert PopularityState.from_arrays({}) is None
