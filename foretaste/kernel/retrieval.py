"""Which items of a whole catalogue are worth ranking for a user: what the index of a generation is asked."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from foretaste.kernel.users import Behaviour
from foretaste.kernel.values import FloatArray, Scalar


@dataclass(frozen=True, slots=True)
class CandidateRequest:
    """One request to the index: a user, how many candidates of each kind, and what may be among them.

    `virtual` (M, D) counts until the user is warm; `behaviour` counts from the first one on.
    """

    behaviour: Behaviour
    virtual: FloatArray
    nearest: int
    """Candidates by behaviour, real or virtual."""
    popular: int
    """Candidates by popularity that are not among them."""
    exploratory: int
    """Candidates drawn at random from all others."""
    seed: int
    """Of that draw, from 0 to 2**63 - 1: the same one draws the same items from the same generation."""
    deny: Sequence[str] = ()
    allow: Sequence[str] | None = None
    """The only items that may be candidates; None: all that the generation knows."""
    attributes: Mapping[str, Sequence[Scalar]] = field(default_factory=dict)
    """By attribute, the values of which a candidate must have one."""
    age_ms: int | None = None
    """`RankingInput.age_ms`."""


@runtime_checkable
class Retrieval(Protocol):
    """The index over the items of each generation, beside its towers (Triton)."""

    async def candidates(self, requests: Sequence[CandidateRequest], generation: int) -> list[list[str]]:
        """The candidates of each request: the nearest first, best first, then the popular, then the exploratory ones.

        Each once, none that is denied, and fewer than asked for only where fewer may be candidates. Raises
        `InvalidInput` for an attribute that items lack, or that is neither categorical nor a list.
        """
        ...

    async def matching(
        self, items: Sequence[str], attributes: Mapping[str, Sequence[Scalar]], generation: int
    ) -> list[str]:
        """Those of the items that the generation knows and that have these attributes; raises as `candidates` does.

        No index is asked: it answers while the index is away, if the generation was in use here before.
        """
        ...


class PopularItems(Protocol):
    """The most popular items of a generation, beside its record (Redis)."""

    async def popular(self, number: int, count: int) -> list[str]:
        """The items with the greatest shares of the training interactions, greatest first, at most `MOST_POPULAR`."""
        ...


MOST_POPULAR = 1000
"""Items that are kept in the order of their popularity, for when there is no index."""
