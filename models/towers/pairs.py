"""Each candidate with each vector of its user's behaviour: what attention with a target query works on."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor


class Memory(NamedTuple):
    """Behaviour of U users to be attended: `keys` (U, S, H), `weights` (U, S), and the user of each candidate (R,)."""

    keys: Tensor
    weights: Tensor
    owner: Tensor


def pair_scores(score: Callable[[Tensor, Tensor], Tensor], queries: Tensor, memory: Memory) -> Tensor:
    """`score(query, key)` of every candidate and everything in its user's sequence that counts, (R, S); elsewhere 0.

    `queries` are (R, H'). `score` maps (P, H') and (P, H) to (P,), or the same with more axes in front. Only pairs that
    count are made, so that no statistic of a batch sees padding and none of its cost is paid; an exported graph, whose
    shapes must not depend on values, makes them all.
    """
    keys, weights, owner = memory
    counts = weights.index_select(0, owner) > 0
    if torch.compiler.is_exporting():
        dense = score(queries.unsqueeze(1), keys.index_select(0, owner))
        return torch.where(counts, dense, torch.zeros_like(dense))
    row, place = counts.nonzero(as_tuple=True)
    key = owner.index_select(0, row) * keys.shape[1] + place
    found = score(queries.index_select(0, row), keys.flatten(0, 1).index_select(0, key))
    return found.new_zeros(counts.shape).index_put((row, place), found)


def weighted_softmax(scores: Tensor, weights: Tensor) -> Tensor:
    """αₜ = wₜ exp(aₜ) / Σ w exp(a) over the last axis; weight 0 is left out, and all 0 gives zeros."""
    lowest = scores.new_tensor(-1e30)  # finite, so that a row of padding stays out of inf - inf
    kept = torch.where(weights > 0, scores, lowest)
    raised = (kept - kept.detach().amax(dim=-1, keepdim=True)).exp() * weights
    return raised / raised.sum(dim=-1, keepdim=True).clamp(min=torch.finfo(scores.dtype).tiny)


def weighted_sum(weights: Tensor, vectors: Tensor, owner: Tensor) -> Tensor:
    """Σ over S of `weights` (R, S) × the owner's `vectors` (U, S, D): (R, D)."""
    return torch.bmm(weights.unsqueeze(1), vectors.index_select(0, owner)).squeeze(1)
