"""Each candidate with each vector of its user's behaviour: what attention with a target as query works on."""

from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional


class Pairs(Protocol):
    """R candidates, each with everything that counts in its user's sequence of S. `values` hold a number a pair."""

    def of_candidates(self, vectors: Tensor) -> Tensor:
        """The candidate's vector of each pair, of `vectors` (R, H): (P, H), or (R, 1, H) to go beside (R, S, H)."""
        ...

    def of_sequence(self, vectors: Tensor) -> Tensor:
        """The other one's, of `vectors` (U, S, H): (P, H), or (R, S, H)."""
        ...

    def weighted(self, values: Tensor) -> Tensor:
        """Values times how much each of the sequence counts."""
        ...

    def softmax(self, values: Tensor) -> Tensor:
        """Values αₜ = wₜ exp(aₜ) / Σ w exp(a) of each candidate, by the weights w of its sequence."""
        ...

    def total(self, values: Tensor) -> Tensor:
        """The sum of the values of each candidate, (R,)."""
        ...

    def attend(self, values: Tensor, vectors: Tensor) -> Tensor:
        """Σ values × `vectors` (U, S, D) of each candidate, (R, D)."""
        ...


def pairs_of(weights: Tensor, owner: Tensor) -> Pairs:
    """Pairs of the candidates that `owner` (R,) gives a user, where `weights` (U, S) count.

    Only pairs that count are made, so that no statistic of a batch sees padding and none of its cost is paid. A graph
    for export, whose shapes must not depend on values, makes them all.
    """
    kind = AllPairs if torch.compiler.is_exporting() else CountingPairs
    return kind(weights, owner)


class CountingPairs:
    """P pairs of weight above 0, candidate after candidate; values are (P,)."""

    def __init__(self, weights: Tensor, owner: Tensor) -> None:
        counts = weights.index_select(0, owner) > 0
        self._row, place = counts.nonzero(as_tuple=True)
        self._key = owner.long().index_select(0, self._row) * weights.shape[1] + place
        self._starts = functional.pad(counts.sum(dim=1).cumsum(0)[:-1], (1, 0))
        self._weights = weights.flatten().index_select(0, self._key)
        self._rows = len(owner)

    def of_candidates(self, vectors: Tensor) -> Tensor:
        return vectors.index_select(0, self._row)

    def of_sequence(self, vectors: Tensor) -> Tensor:
        return vectors.flatten(0, 1).index_select(0, self._key)

    def weighted(self, values: Tensor) -> Tensor:
        return values * self._weights

    def softmax(self, values: Tensor) -> Tensor:
        greatest = values.new_zeros(self._rows).scatter_reduce(
            0, self._row, values.detach(), "amax", include_self=False
        )
        raised = (values - greatest.index_select(0, self._row)).exp() * self._weights
        return raised / self.total(raised).index_select(0, self._row)

    def total(self, values: Tensor) -> Tensor:
        return values.new_zeros(self._rows).index_add(0, self._row, values)

    def attend(self, values: Tensor, vectors: Tensor) -> Tensor:
        table = vectors.flatten(0, 1)
        if not len(values):
            return table.new_zeros(self._rows, table.shape[1])
        values = values.to(table.dtype)  # under mixed precision scores are of fewer bits
        return functional.embedding_bag(self._key, table, self._starts, mode="sum", per_sample_weights=values)


class AllPairs:
    """All R × S pairs; values are (R, S)."""

    def __init__(self, weights: Tensor, owner: Tensor) -> None:
        self._weights = weights.index_select(0, owner)
        self._owner = owner

    def of_candidates(self, vectors: Tensor) -> Tensor:
        return vectors.unsqueeze(1)

    def of_sequence(self, vectors: Tensor) -> Tensor:
        return vectors.index_select(0, self._owner)

    def weighted(self, values: Tensor) -> Tensor:
        return values * self._weights

    def softmax(self, values: Tensor) -> Tensor:
        return weighted_softmax(values, self._weights)

    def total(self, values: Tensor) -> Tensor:
        return values.sum(dim=1)

    def attend(self, values: Tensor, vectors: Tensor) -> Tensor:
        return torch.bmm(values.unsqueeze(1), vectors.index_select(0, self._owner)).squeeze(1)


def weighted_softmax(scores: Tensor, weights: Tensor) -> Tensor:
    """αₜ = wₜ exp(aₜ) / Σ w exp(a) over the last axis; weight 0 is left out, and all 0 gives zeros."""
    lowest = scores.new_tensor(-1e30)  # finite, so that a row of padding stays out of inf - inf
    kept = torch.where(weights > 0, scores, lowest)
    raised = (kept - kept.detach().amax(dim=-1, keepdim=True)).exp() * weights
    return raised / raised.sum(dim=-1, keepdim=True).clamp(min=torch.finfo(scores.dtype).tiny)
