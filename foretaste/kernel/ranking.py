"""One ranking: what the towers read, and what an answer was computed from."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from foretaste.kernel.users import Behaviour
from foretaste.kernel.values import Attributes, FloatArray


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
