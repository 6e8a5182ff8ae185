"""A Gaussian prior's precision, found by the evidence."""

import numpy as np
import numpy.typing as npt

LEAST, MOST = 1e-2, 1e4
"""Bounds of a prior's precision: that of effects which say nothing grows to the greatest."""
START = 10.0
"""Precision that the evidence starts from."""


def next_precision(effects: npt.ArrayLike, curvature: npt.ArrayLike, precision: float) -> float:
    """One step of the fixed point for effects under one prior; `curvature`, of the same shape, is their likelihood's.

    λ' = Σ c / (c + λ) / Σ W², within the bounds (D. MacKay, Bayesian Interpolation, 1992).
    """
    squares = float(np.square(effects).sum())
    determined = float((np.asarray(curvature) / (np.asarray(curvature) + precision)).sum())
    return float(np.clip(determined / max(squares, 1e-12), LEAST, MOST))
