"""What first acts tell of taste."""

import numpy as np
import pytest

from foretaste.kernel.values import FIRST_ACTS, FloatArray
from models.runtime.acts import TEMPER, WEIGHT, ActPosterior, StoredActs

ITEMS, DIRECTIONS = 200, 3


@pytest.fixture
def keys() -> FloatArray:
    rng = np.random.default_rng(0)
    found = rng.normal(0, 0.4, (ITEMS, DIRECTIONS))
    return np.asarray(found - found.mean(axis=0), dtype=np.float32)


def spread_of(keys: FloatArray) -> FloatArray:
    return np.asarray(keys.T @ keys / ITEMS, dtype=np.float32)


def taste(posterior: ActPosterior, keys: FloatArray) -> FloatArray:
    return StoredActs(posterior.steps, np.arange(DIRECTIONS)).taste(keys, keys[:0])


@pytest.mark.parametrize("acts", [1, 2, 7, FIRST_ACTS - 1])
def test_it_is_one_newton_step_from_the_prior(keys: FloatArray, acts: int) -> None:
    """The gradient at u = 0 of the log posterior, tempered, is the sum of centred keys; the Hessian -(I + n Σ)."""
    spread = spread_of(keys)
    own = keys[:acts]
    found = taste(ActPosterior.of(spread), own)
    np.testing.assert_allclose(
        (np.eye(DIRECTIONS) + TEMPER * acts * spread) @ found, WEIGHT * own.sum(axis=0), rtol=1e-4, atol=1e-6
    )


def test_nothing_is_told_by_no_act_and_by_many(keys: FloatArray) -> None:
    posterior = ActPosterior.of(spread_of(keys))
    for acts in (0, FIRST_ACTS, FIRST_ACTS + 5):
        assert not taste(posterior, keys[:acts]).any()


def test_the_normaliser_makes_them_probabilities(keys: FloatArray) -> None:
    """Σ_i p(i) exp(û · k(i) - ½ ûᵀ Σ û) is about one."""
    posterior = ActPosterior.of(spread_of(keys))
    own = taste(posterior, keys[:2])
    assert np.exp(keys @ own - 0.5 * own @ posterior.spread @ own).mean() == pytest.approx(1, abs=0.02)


def test_keys_of_another_length_say_the_same(keys: FloatArray) -> None:
    """The weight of answers lengthens the keys; acts count as before."""
    spread = spread_of(keys)
    plain, longer = ActPosterior.of(spread), ActPosterior.of(spread).of_keys_times(1.5)
    own, other = taste(plain, keys[:4]), taste(longer, 1.5 * keys[:4])
    np.testing.assert_allclose(1.5 * keys @ other, keys @ own, rtol=1e-4, atol=1e-6)
    assert other @ longer.spread @ other == pytest.approx(own @ plain.spread @ own, rel=1e-4)


def told(posterior: ActPosterior, acted: FloatArray, passed_over: FloatArray) -> FloatArray:
    return StoredActs(posterior.steps, np.arange(DIRECTIONS)).taste(acted, passed_over)


@pytest.mark.parametrize(("acts", "passed"), [(1, 1), (1, 9), (4, 3)])
def test_acts_are_told_from_what_was_passed_over(keys: FloatArray, acts: int, passed: int) -> None:
    """From a mean of what was shown, in which everybody's taste, which is 0, counts as one item an act."""
    posterior = ActPosterior.of(spread_of(keys))
    own, others = keys[:acts], keys[50 : 50 + passed]
    centre = np.vstack([np.zeros_like(own), others]).mean(axis=0)
    expected = posterior.steps[acts] @ (own - centre).sum(axis=0)
    np.testing.assert_allclose(told(posterior, own, others), expected, rtol=1e-4, atol=1e-6)


def test_who_did_nothing_passed_nothing_over(keys: FloatArray) -> None:
    posterior = ActPosterior.of(spread_of(keys))
    assert not told(posterior, keys[:0], keys[:5]).any()
    assert not told(posterior, keys[:FIRST_ACTS], keys[50:55]).any()


def test_a_list_whose_other_items_are_known_tells_more_than_the_choice_alone(keys: FloatArray) -> None:
    """Users choose by taste from lists of one region of the catalogue, which the choice alone seems to speak for."""
    rng, posterior = np.random.default_rng(1), ActPosterior.of(spread_of(keys))
    alone: list[float] = []
    against: list[float] = []
    for _ in range(300):
        taste = rng.normal(size=DIRECTIONS)
        shown = np.argsort(-keys @ rng.normal(size=DIRECTIONS))[:60]
        acted, passed = [], []
        for _ in range(4):
            listed = rng.choice(shown, 6, replace=False)
            utilities = keys[listed] @ taste + rng.gumbel(size=6)
            acted.append(listed[utilities.argmax()])
            passed += [item for item in listed if item != acted[-1]]
        for found, others in ((alone, passed[:0]), (against, passed)):
            moved = keys @ told(posterior, keys[acted], keys[others])
            found.append(np.corrcoef(moved, keys @ taste)[0, 1])
    gains = np.array(against) - np.array(alone)
    assert gains.mean() > 4 * gains.std() / np.sqrt(len(gains))
