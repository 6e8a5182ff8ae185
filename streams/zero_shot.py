"""One call of the zero-shot tower, its answer checked against the generation's record."""

from collections.abc import Sequence

import numpy as np

from foretaste.kernel.errors import BadTowerOutput, Unavailable
from foretaste.kernel.generations import Generation
from foretaste.kernel.ports import Towers
from foretaste.kernel.values import Attributes, FloatArray


async def virtual_behaviour(towers: Towers, attributes: Sequence[Attributes], generation: Generation) -> FloatArray:
    """(B, M, D) for B users, maybe none, from the tower pinned to this generation.

    Raises `Unavailable` when it answers another shape: the users are good, so they wait until a person has seen to it.
    """
    if not attributes:
        return np.zeros((0, *generation.virtual_shape), dtype=np.float32)
    expected = (len(attributes), *generation.virtual_shape)
    try:
        answer = await towers.virtual_behaviour(attributes, generation.number)
    except BadTowerOutput as error:
        raise Unavailable(f"generation {generation.number}", str(error)) from error
    if answer.shape != expected:
        problem = f"the zero-shot tower answered {answer.shape}, its record says {expected}"
        raise Unavailable(f"generation {generation.number}", problem)
    return answer


def finite(vectors: FloatArray) -> list[bool]:
    """For each of B users, whether all of the user's vectors in (B, M, D) are finite."""
    return list(map(bool, np.isfinite(vectors).all(axis=(1, 2)).ravel()))
