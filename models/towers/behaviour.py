"""What stands for a user's behaviour: condensed for the zero-shot tower, completed for the ranking tower."""

from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from models.runtime.encoding import PADDING
from models.towers.embeddings import Embeddings


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


@dataclass(frozen=True, eq=False)
class Taste:
    """Eq. 10's completed behaviour as one weighted sequence: M virtual vectors, then L real ones, oldest first.

    Eqs. 9 and 10 are generalised from a flag to a weight: real behaviour counts w = min(seen / warm_after, 1), virtual
    behaviour counts 1 - w. With `warm_after` = 1 this is the paper's flag exactly. A virtual vector of zeros is none,
    and who has no virtual behaviour has the real one counted in full.

    Everything is worked out when it is first asked for: a tower that pools never pays for the sequence.
    """

    embeddings: Embeddings
    items: Tensor
    """(U, L): real behaviour by index, left-aligned, then `PADDING`."""
    actions: Tensor
    """(U, L)."""
    virtual: Tensor
    """(U, M, D)."""
    warm_after: int
    has_virtual: bool = True
    """False where `virtual` is zeros for everybody: then nothing is worked out of it."""

    @cached_property
    def valid(self) -> Tensor:
        """(U, L): where real behaviour is."""
        return self.items != PADDING

    @cached_property
    def seen(self) -> Tensor:
        """(U,): how many real behaviours there are, at most L."""
        return self.valid.sum(dim=1)

    @cached_property
    def share(self) -> Tensor:
        """(U, 1): w, how far real behaviour counts."""
        if not self.has_virtual:
            return self.virtual.new_ones(self.virtual.shape[0], 1)
        share = (self.seen.to(self.virtual.dtype) / self.warm_after).clamp(max=1.0)
        return torch.where(self._present.any(dim=1), share, torch.ones_like(share)).unsqueeze(1)

    @cached_property
    def weights(self) -> Tensor:
        """(U, M + L): how much each of the sequence counts; 0 is padding, or a side that does not count."""
        dtype = self.virtual.dtype
        return torch.cat([(1 - self.share) * self._present.to(dtype), self.share * self.valid.to(dtype)], dim=1)

    @cached_property
    def vectors(self) -> Tensor:
        """(U, M + L, D)."""
        return torch.cat([self.virtual, self.embeddings.behaviour(self.items, self.actions)[0]], dim=1)

    @cached_property
    def action_vectors(self) -> Tensor:
        """(U, M + L, D): the embeddings of the actions alone; virtual behaviour has none, so zeros."""
        return torch.cat([torch.zeros_like(self.virtual), self.embeddings.actions(self.actions)], dim=1)

    @cached_property
    def positions(self) -> Tensor:
        """(U, M + L): places counted from the newest. Virtual ones are 0 to M - 1, real ones M to M + L - 1."""
        vectors, length = self.virtual.shape[1], self.items.shape[1]
        virtual = torch.arange(vectors - 1, -1, -1, device=self.items.device).expand(self.items.shape[0], -1)
        place = torch.arange(length, device=self.items.device)
        real = vectors + (self.seen.unsqueeze(1) - 1 - place).clamp(min=0)
        return torch.cat([virtual, real], dim=1)

    @cached_property
    def real(self) -> Tensor:
        """(U, D): the sum of real behaviour."""
        return self.embeddings.pooled(self.items, self.actions)

    def recent(self, decay: float) -> Tensor:
        """(U, D): the sum of real behaviour, the newest in full and each before it `decay` times the one after."""
        age = (self.seen.unsqueeze(1) - 1 - torch.arange(self.items.shape[1], device=self.items.device)).clamp(min=0)
        return self.embeddings.pooled(self.items, self.actions, decay ** age.to(self.virtual.dtype))

    def without_virtual(self) -> "Taste":
        """The same user, of whom real behaviour alone is known."""
        return replace(self, virtual=torch.zeros_like(self.virtual), has_virtual=False)

    @cached_property
    def pooled(self) -> Tensor:
        """(U, D): eq. 11, Σ weights × vectors, without making the sequence."""
        if not self.has_virtual:
            return self.real
        return (1 - self.share) * self.virtual.sum(dim=1) + self.share * self.real

    @cached_property
    def _present(self) -> Tensor:
        """(U, M): where virtual behaviour is."""
        return (self.virtual != 0).any(dim=2)
