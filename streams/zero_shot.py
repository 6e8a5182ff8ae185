"""One call of the zero-shot tower, its answer checked against the generation's record."""

from collections.abc import Awaitable, Mapping, Sequence
from typing import Protocol, TypeVar, runtime_checkable

import numpy as np

from foretaste.kernel.errors import BadTowerOutput, Unavailable
from foretaste.kernel.generations import Generation
from foretaste.kernel.ports import Towers
from foretaste.kernel.values import Attributes, FloatArray

T = TypeVar("T")


@runtime_checkable
class AttributeVocabulary(Protocol):
    """Towers that tell which values of attributes a generation knows (Triton)."""

    async def unknown_values(self, attributes: Sequence[Attributes], generation: int) -> Mapping[str, int]:
        """By attribute of the generation, how many of the B users have a value that training never saw.

        A missing value is none. Raises `Unavailable`.
        """
        ...

    async def counted_virtual_behaviour(
        self, attributes: Sequence[Attributes], generation: int
    ) -> tuple[FloatArray, Mapping[str, int]]:
        """`Towers.virtual_behaviour` and `unknown_values` of at least one user, whose values are looked up once."""
        ...


async def virtual_behaviour(towers: Towers, attributes: Sequence[Attributes], generation: Generation) -> FloatArray:
    """(B, M, D) for B users, maybe none, from the tower pinned to this generation.

    Raises `Unavailable` when it answers another shape: the users are good, so they wait until a person has seen to it.
    """
    if not attributes:
        return _of_nobody(generation)
    answer = await _answered(towers.virtual_behaviour(attributes, generation.number), generation)
    return _checked(answer, len(attributes), generation)


async def counted_virtual_behaviour(
    towers: AttributeVocabulary, attributes: Sequence[Attributes], generation: Generation
) -> tuple[FloatArray, Mapping[str, int]]:
    """The same, and by attribute how many of the users have a value that the generation never saw."""
    if not attributes:
        return _of_nobody(generation), {}
    counted = towers.counted_virtual_behaviour(attributes, generation.number)
    answer, unknown = await _answered(counted, generation)
    return _checked(answer, len(attributes), generation), unknown


def finite(vectors: FloatArray) -> list[bool]:
    """For each of B users, whether all of the user's vectors in (B, M, D) are finite."""
    return list(map(bool, np.isfinite(vectors).all(axis=(1, 2)).ravel()))


def _of_nobody(generation: Generation) -> FloatArray:
    return np.zeros((0, *generation.virtual_shape), dtype=np.float32)


async def _answered(answer: Awaitable[T], generation: Generation) -> T:
    try:
        return await answer
    except BadTowerOutput as error:
        raise Unavailable(f"generation {generation.number}", str(error)) from error


def _checked(answer: FloatArray, users: int, generation: Generation) -> FloatArray:
    expected = (users, *generation.virtual_shape)
    if answer.shape != expected:
        problem = f"the zero-shot tower answered {answer.shape}, its record says {expected}"
        raise Unavailable(f"generation {generation.number}", problem)
    return answer
