"""What first acts tell of taste."""

import numpy as np
import pytest

from foretaste.kernel.values import FloatArray
from models.runtime.acts import ENOUGH, TEMPER, WEIGHT, ActPosterior, StoredActs

ITEMS, DIRECTIONS = 200, 3


@pytest.fixture
def keys() -> FloatArray:
    rng = np.random.default_rng(0)
    found = rng.normal(0, 0.4, (ITEMS, DIRECTIONS))
    return np.asarray(found - found.mean(axis=0), dtype=np.float32)


def spread_of(keys: FloatArray) -> FloatArray:
    return np.asarray(keys.T @ keys / ITEMS, dtype=np.float32)


def taste(posterior: ActPosterior, keys: FloatArray) -> FloatArray:
    return StoredActs(posterior.steps, np.arange(DIRECTIONS)).taste(keys)


@pytest.mark.parametrize("acts", [1, 2, 7, ENOUGH - 1])
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
    for acts in (0, ENOUGH, ENOUGH + 5):
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
