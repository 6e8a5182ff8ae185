"""What stands for a user's behaviour: condensed for the zero-shot tower, completed for the ranking tower."""

from typing import NamedTuple

import torch
from torch import Tensor


def condense(behaviour: Tensor, valid: Tensor, vectors: int) -> Tensor:
    """Sum `behaviour` (B, L, D) over M = `vectors` consecutive stretches of its valid part: (B, M, D), oldest first.

    n valid behaviours, left-aligned in `valid` (B, L), fall into M stretches of nearly equal length; with n ≤ M each
    keeps a vector of its own and zeros follow. So M = L is the paper's zero-padded sequence, M = 1 its sum pooling, and
    for any M the sum over M equals the sum over L: eq. 11 pools real and virtual behaviour to the same thing.
    """
    seen = valid.sum(dim=1, keepdim=True)
    position = torch.arange(valid.shape[1], device=valid.device)
    stretch = (position * vectors) // seen.clamp(min=vectors)
    member = (stretch.unsqueeze(1) == torch.arange(vectors, device=valid.device).view(1, -1, 1)) & valid.unsqueeze(1)
    return member.to(behaviour.dtype) @ behaviour


class Taste(NamedTuple):
    """Eq. 10's completed behaviour: `vectors` (U, M + L, D) and the weight of each, `weights` (U, M + L).

    A ranking tower reads it as one weighted sequence: weight 0 is padding, or a side that does not count.
    """

    vectors: Tensor
    weights: Tensor


def complete(behaviour: Tensor, valid: Tensor, virtual: Tensor, warm_after: int) -> Taste:
    """Eqs. 9 and 10, generalised from a flag to a weight.

    Real behaviour (U, L, D) counts w = min(seen / warm_after, 1), virtual behaviour (U, M, D) counts 1 - w, where seen
    is the number of `valid` (U, L) behaviours. With `warm_after` = 1 this is the paper's flag exactly.
    """
    real = (valid.sum(dim=1, keepdim=True).to(behaviour.dtype) / warm_after).clamp(max=1.0)
    weights = torch.cat([(1 - real).expand(-1, virtual.shape[1]), real * valid.to(behaviour.dtype)], dim=1)
    return Taste(torch.cat([virtual, behaviour], dim=1), weights)
