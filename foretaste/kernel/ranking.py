"""One ranking: what the towers read, and what an answer was computed from."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from foretaste.kernel.users import Behaviour
from foretaste.kernel.values import Attributes, FloatArray

EARLY_MS = 5_000
"""A registration that lies at most so much ahead is one of just now: two machines' clocks are never the same."""


@dataclass(frozen=True, slots=True)
class RankingInput:
    """One request to the ranking tower: one user, K candidate items.

    `behaviour` and `virtual` (M, D) both travel; the tower takes virtual for a cold user, real for a warm one and
    weighs both while warming (eqs. 9 and 10, and `warm_after`).
    """

    attributes: Attributes
    context: Attributes
    behaviour: Behaviour
    virtual: FloatArray
    items: Sequence[str]
    age_ms: int | None = None
    """Since the user registered first, milliseconds, at least 0 (`account_age_ms`); None where that is not known."""


def account_age_ms(registered_ms: int | None, at_ms: int) -> int | None:
    """Milliseconds since the first registration; None where that is not known, or lies more than `EARLY_MS` ahead."""
    if registered_ms is None or registered_ms - at_ms > EARLY_MS:
        return None
    return max(at_ms - registered_ms, 0)


class Source(StrEnum):
    """What stood in for, or was, the user's behaviour when an answer was computed."""

    REAL = "real"
    BLENDED = "blended"
    VIRTUAL = "virtual"
    READ_REPAIRED = "read_repaired"
    FALLBACK = "fallback"


class Fallback(StrEnum):
    """Which fallback, in the order of degradation."""

    MEAN_BEHAVIOUR = "mean_behaviour"
    POPULARITY = "popularity"


class Cause(StrEnum):
    """Why an answer fell back, or its virtual behaviour was made on the spot."""

    STORE_AWAY = "store_away"
    ATTRIBUTES_UNKNOWN = "attributes_unknown"
    """There is nothing to make virtual behaviour of."""
    VIRTUAL_MISSING = "virtual_missing"
    """None was stored; this and the next three were repaired."""
    VIRTUAL_OF_ANOTHER_GENERATION = "virtual_of_another_generation"
    VIRTUAL_OF_ANOTHER_SHAPE = "virtual_of_another_shape"
    VIRTUAL_OUTDATED = "virtual_outdated"
    """Older than the attributes."""
    ZERO_SHOT_AWAY = "zero_shot_away"
    ZERO_SHOT_WRONG_SHAPE = "zero_shot_wrong_shape"
    ZERO_SHOT_REFUSED = "zero_shot_refused"
    """The tower takes no attributes like those that are stored; likewise below."""
    ZERO_SHOT_NOT_FINITE = "zero_shot_not_finite"
    RETRIEVAL_AWAY = "retrieval_away"
    """Of a recommendation, whose candidates are then the most popular items."""
    RETRIEVAL_WRONG_SHAPE = "retrieval_wrong_shape"
    RETRIEVAL_REFUSED = "retrieval_refused"
    RANKING_AWAY = "ranking_away"
    RANKING_WRONG_SHAPE = "ranking_wrong_shape"
    RANKING_REFUSED = "ranking_refused"
    RANKING_NOT_FINITE = "ranking_not_finite"

    @property
    def not_finite(self) -> bool:
        """An answer of a tower was not finite."""
        return self in {Cause.ZERO_SHOT_NOT_FINITE, Cause.RANKING_NOT_FINITE}
