from typing import Any

import numpy as np
import pytest
from scipy import sparse

from models.effects.transitions import (
    COUNTED_POWER,
    DIRECTIONS,
    HALF_LIFE_MS,
    READ_DECAY,
    STRETCHES,
    TransitionCounts,
    Transitions,
    fit_transitions,
)
from models.runtime.encoding import FIRST_KNOWN, PADDING, UNKNOWN
from tests.effects_factory import ITEMS, examples_of, part_of_examples

pytestmark = pytest.mark.usefixtures("one_thread")
KNOWN = np.arange(FIRST_KNOWN, ITEMS)


def _walks(users: int, steps: int, rng: np.random.Generator) -> Any:
    """Each user acts on the known items in a circle, from a random one on."""
    starts = rng.integers(len(KNOWN), size=users)
    items = KNOWN[(starts[:, None] + np.arange(steps)) % len(KNOWN)].ravel()
    owner = np.repeat(np.arange(users), steps)
    times_ms = np.tile(np.arange(steps), users)
    return examples_of(owner, items, np.ones(len(items)), np.ones((users, 2)), times_ms)


def _fit(examples: Any, learned: Any = True, since_ms: int = 0, before: Any = None, items: int = ITEMS) -> Any:
    own = np.full(len(examples.attributes), learned) if isinstance(learned, bool) else learned
    return fit_transitions(examples, own, items, 1, (since_ms, since_ms), before)


def _always(sources: Any, targets: Any) -> Transitions:
    """Those vectors at any time."""
    every = [np.repeat(each[None], 1 + STRETCHES, axis=0) for each in (sources, targets)]
    return Transitions(every[0], every[1], np.arange(STRETCHES - 1))


def _as_served(transitions: Transitions, behaviour: list[int]) -> Any:
    """Lifts of all items after a behaviour, oldest first."""
    return _lifts(_always(transitions.sources[0], transitions.targets[0]), behaviour)


def _lifts(transitions: Transitions, behaviour: list[int], at_ms: int = 0) -> Any:
    """The same as they were known at a time."""
    padded = np.full((1, 100), PADDING)
    padded[0, : len(behaviour)] = behaviour
    candidates = np.arange(transitions.targets.shape[1])
    return transitions.of(np.array([at_ms]), padded, np.zeros(len(candidates), dtype=np.int64), candidates)


def test_what_follows_comes_first_and_the_newest_behaviour_counts_most() -> None:
    transitions, _ = _fit(_walks(300, 5, np.random.default_rng(0)))
    for place, item in enumerate(KNOWN):
        following = KNOWN[(place + 1) % len(KNOWN)]
        assert np.argmax(_as_served(transitions, [int(item)])) == following
        assert np.argmax(_as_served(transitions, [int(KNOWN[place - 5]), int(item)])) == following


def test_a_lift_is_that_of_the_counts() -> None:
    """With as many directions as items, nothing is lost but what all candidates share."""
    counts = np.zeros((ITEMS, ITEMS), dtype=np.float32)
    counts[2, 3], counts[2, 4], counts[3, 4] = 30.0, 10.0, 20.0
    sources, targets = TransitionCounts(sparse.csr_array(counts)).vectors(1)
    share = counts.sum(axis=0) / counts.sum()
    expected = np.log1p(np.divide(counts, 100.0 * share, out=np.zeros_like(counts), where=share > 0))
    known = [2, 3, 4]
    found = (sources @ targets.T)[known][:, known]
    centre = (expected @ share)[known]
    np.testing.assert_allclose(found, expected[known][:, known] - centre[:, None], atol=1e-5)
    assert sources.shape == targets.shape == (ITEMS, DIRECTIONS)
    assert not sources[5:].any()
    assert not targets[5:].any()


def test_behaviours_before_an_act_are_counted_by_how_far_back_they_are() -> None:
    examples = examples_of([0] * 4, [2, 3, 3, 4], np.ones(4), np.ones((1, 2)))
    _, counts = _fit(examples)
    found = counts.pairs.toarray()
    np.testing.assert_allclose(found[2, 3], 1 + 2**COUNTED_POWER)
    np.testing.assert_allclose([found[3, 4], found[2, 4]], [1 + 2**COUNTED_POWER, 3**COUNTED_POWER], rtol=1e-6)
    assert found[3, 3] == 0  # what repeats is another term's


def test_what_was_passed_by_is_no_target_and_unknown_items_are_neither() -> None:
    items, labels = [2, UNKNOWN, 3, 4], [1, 1, 0, 1]
    _, counts = _fit(examples_of([0] * 4, items, labels, np.ones((1, 2))))
    found = counts.pairs.toarray()
    assert np.argwhere(found).tolist() == [[2, 4]]
    np.testing.assert_allclose(found[2, 4], 2**COUNTED_POWER)


def test_events_of_one_time_do_not_follow_each_other() -> None:
    _, counts = _fit(examples_of([0, 0, 0], [2, 3, 4], np.ones(3), np.ones((1, 2)), [0, 0, 1]))
    assert np.argwhere(counts.pairs.toarray()).tolist() == [[2, 4], [3, 4]]


def test_a_moment_reads_what_was_counted_before_its_stretch() -> None:
    """Every other user goes from 5 to 6, and the others from 2 to 3 until the middle, and then to 4."""
    number = np.arange(1200)
    follows = np.where(number % 2 == 0, np.where(number < 600, 3, 4), 6)
    items = np.stack([np.where(number % 2 == 0, 2, 5), follows], axis=1).ravel()
    times_ms = (10 * number[:, None] + np.array([0, 1])).ravel()
    transitions, _ = _fit(examples_of(np.repeat(number, 2), items, np.ones(2400), np.ones((1200, 2)), times_ms))
    assert transitions.begins_ms.tolist() == [2000, 4000, 6000, 8000, 10000]
    assert not _lifts(transitions, [2], 1999).any(), "nothing was known yet"
    for at_ms in (2000, 4500, 7999):
        first, other = _lifts(transitions, [2], at_ms)[[3, 4]]
        assert first > 0 >= other, "what is counted by then is of the first half alone"
    late, served = _lifts(transitions, [2], 11999)[4], _as_served(transitions, [2])[4]
    assert served > late > 0, "what is served was counted to the end"


@pytest.mark.parametrize("users", [0, 40])
def test_where_all_happens_at_one_time_or_nothing_does_only_earlier_windows_are_known(users: int) -> None:
    _, earlier = _fit(_walks(60, 5, np.random.default_rng(3)))
    items = np.tile([2, 3], users)
    examples = examples_of(
        np.repeat(np.arange(users), 2), items, np.ones(2 * users), np.ones((40, 2)), np.zeros(2 * users)
    )
    for before in (None, earlier):
        transitions, _ = _fit(examples, before=before)
        assert transitions.begins_ms.tolist() == [0] * (STRETCHES - 1)
        expected = TransitionCounts.none(ITEMS) if before is None else before
        for found, vectors in zip((transitions.sources, transitions.targets), expected.vectors(1), strict=True):
            np.testing.assert_allclose(found[1], vectors, atol=1e-4)


def test_what_earlier_windows_counted_is_known_from_the_first_stretch_on() -> None:
    _, earlier = _fit(_walks(60, 5, np.random.default_rng(3)))
    later = _walks(60, 5, np.random.default_rng(4))
    transitions, _ = _fit(later, before=earlier)
    known = _lifts(transitions, [int(KNOWN[0])], -1)
    expected = _always(*earlier.vectors(1))
    np.testing.assert_allclose(known, _lifts(expected, [int(KNOWN[0])]), atol=1e-4)


def test_who_is_not_learned_from_is_not_counted() -> None:
    _, counts = _fit(_walks(9, 5, np.random.default_rng(2)), learned=False)
    assert not counts.pairs.nnz


def test_a_later_window_adds_to_what_was_counted() -> None:
    examples = _walks(60, 8, np.random.default_rng(3))
    _, whole = _fit(examples)
    early = np.flatnonzero(examples.times_ms < 4)
    _, first = _fit(part_of_examples(examples, early))
    _, both = _fit(examples, since_ms=4, before=first)
    np.testing.assert_allclose(both.pairs.toarray(), whole.pairs.toarray(), rtol=1e-5)


def test_what_was_counted_grows_with_the_items() -> None:
    examples = _walks(60, 5, np.random.default_rng(4))
    _, counts = _fit(examples)
    transitions, grown = _fit(examples, since_ms=100, before=counts, items=ITEMS + 3)
    np.testing.assert_allclose(grown.pairs.toarray()[:ITEMS, :ITEMS], counts.pairs.toarray())
    assert transitions.sources.shape == (1 + STRETCHES, ITEMS + 3, DIRECTIONS)
    assert not transitions.targets[:, ITEMS:].any()


def test_of_too_many_pairs_those_counted_most_are_kept() -> None:
    counts = np.zeros((ITEMS, ITEMS), dtype=np.float32)
    counts[2, 3:8] = [5.0, 1.0, 4.0, 2.0, 3.0]
    kept = TransitionCounts(sparse.csr_array(counts)).only(3).pairs.toarray()
    assert np.argwhere(kept).tolist() == [[2, 3], [2, 5], [2, 7]]
    assert TransitionCounts(sparse.csr_array(counts)).only(5).pairs.nnz == 5


def test_nothing_that_follows_is_nothing_found() -> None:
    transitions, counts = _fit(examples_of([0, 1], [2, 3], np.ones(2), np.ones((2, 2))))
    assert not counts.pairs.nnz
    assert not transitions.sources.any()
    assert not _lifts(transitions, [2, 3]).any()


def test_the_same_counts_give_the_same_vectors() -> None:
    _, counts = _fit(_walks(60, 5, np.random.default_rng(5)))
    for one, other in zip(counts.vectors(7), counts.vectors(7), strict=True):
        assert np.array_equal(one, other)


def test_behaviour_weighs_less_the_further_back_it_is() -> None:
    transitions, _ = _fit(_walks(300, 5, np.random.default_rng(6)))
    newest, before = _lifts(transitions, [4]), _lifts(transitions, [9])
    np.testing.assert_allclose(_lifts(transitions, [9, 4]), newest + READ_DECAY * before, rtol=1e-4, atol=1e-5)


def test_what_earlier_windows_counted_counts_less_and_less() -> None:
    examples = _walks(60, 5, np.random.default_rng(7))
    _, counts = _fit(examples)
    nobody = np.zeros(60, dtype=np.bool_)
    _, later = fit_transitions(examples, nobody, ITEMS, 1, (100, 100 + HALF_LIFE_MS), counts)
    np.testing.assert_allclose(later.pairs.toarray(), counts.pairs.toarray() / 2, rtol=1e-5)
    _, gone = fit_transitions(examples, nobody, ITEMS, 1, (100, 100 + 100 * HALF_LIFE_MS), counts)
    assert not gone.pairs.nnz


def test_pairs_that_come_in_many_parts_are_added_up(monkeypatch: pytest.MonkeyPatch) -> None:
    examples = _walks(60, 8, np.random.default_rng(8))
    _, whole = _fit(examples)
    monkeypatch.setattr("models.effects.transitions._CHUNK", 7)
    monkeypatch.setattr("models.effects.transitions._WAITING", 20)
    _, parts = _fit(examples)
    np.testing.assert_allclose(parts.pairs.toarray(), whole.pairs.toarray(), rtol=1e-5)


def test_a_damaged_file_of_counts_is_noticed() -> None:
    arrays = TransitionCounts(sparse.csr_array(np.eye(3, dtype=np.float32))).to_arrays()
    with pytest.raises(ValueError, match="indices"):
        TransitionCounts.from_arrays(arrays | {"transition_targets": np.array([0, 1, 9], dtype=np.int32)})
