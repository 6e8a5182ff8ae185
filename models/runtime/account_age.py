"""How long a user has been one, as a bin: the time since the first registration, the same in training and in serving.

Bin 0 is unknown. Bin k of A holds ages from the k-th bound on and below the next: the bounds are rising milliseconds,
the first one 0, and belong to a generation's vocabulary. A generation without bounds reads no age.
"""

from bisect import bisect_right
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from foretaste.kernel.ranking import EARLY_MS
from foretaste.kernel.values import DAY_MS, IndexArray

AgeBounds: TypeAlias = tuple[int, ...]
UNKNOWN_AGE = 0
NEVER_REGISTERED = -1
"""In arrays of times: of a user whose registration is not known."""
_MINUTE_MS, _HOUR_MS = 60_000, 3_600_000
BOUNDS_MS: AgeBounds = (
    0,
    1 * _MINUTE_MS,
    5 * _MINUTE_MS,
    20 * _MINUTE_MS,
    1 * _HOUR_MS,
    1 * DAY_MS,
    30 * DAY_MS,
)
"""What a first training takes."""


def age_bins(registered_ms: npt.ArrayLike, at_ms: npt.ArrayLike, bounds: AgeBounds) -> IndexArray:
    """(B,) bins at times `at_ms` (B,) of users who registered first at `registered_ms` (B,).

    Unknown for who is `NEVER_REGISTERED`, and for a registration that lies more than `EARLY_MS` after the time.
    """
    registered, at = np.asarray(registered_ms, dtype=np.int64), np.asarray(at_ms, dtype=np.int64)
    ages = at - registered
    bins = np.searchsorted(bounds, np.maximum(ages, 0), side="right")
    return np.where((registered == NEVER_REGISTERED) | (ages < -EARLY_MS), UNKNOWN_AGE, bins).astype(np.int64)


def bins_of_ages(ages_ms: Sequence[int | None], bounds: AgeBounds) -> IndexArray:
    """(B,) bins of ages in milliseconds; unknown for None, and for one below 0, which the first bound leaves out."""
    return np.array([UNKNOWN_AGE if age is None else bisect_right(bounds, age) for age in ages_ms], dtype=np.int64)
