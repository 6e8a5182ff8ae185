import numpy as np
import pytest

from models.effects.evidence import LEAST, MOST, START, next_precision


def test_a_step_of_the_fixed_point_is_mackays(rng: np.random.Generator) -> None:
    effects, curvature = rng.normal(size=(3, 4)), rng.random((3, 4)) * 20
    determined = sum(c / (c + START) for c in curvature.ravel())
    expected = determined / sum(w * w for w in effects.ravel())
    assert next_precision(effects, curvature, START) == pytest.approx(expected)


def test_a_precision_stays_within_its_bounds() -> None:
    assert next_precision(np.zeros(3), np.ones(3), START) == MOST
    assert next_precision(np.full(3, 1e3), np.ones(3), START) == LEAST
    assert next_precision(np.ones(3), np.zeros(3), START) == LEAST
