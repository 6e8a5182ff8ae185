"""The embedding table that both towers read and the ranking optimiser alone trains."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.encoding import PADDING

MOST_BAGS = 8
"""Kinds of action up to which one pass an action is cheaper than one vector a behaviour."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """How many rows each part of the table has, unknown and padding included."""

    attributes: tuple[int, ...]
    """One number a user attribute, N of them."""
    context: tuple[int, ...]
    items: int
    actions: int
    item_attributes: tuple[int, ...]


class FieldEmbedding(nn.Module):
    """One embedding a field, kept in one table; a group of no fields is allowed and is empty."""

    offsets: Tensor

    def __init__(self, sizes: Sequence[int], dimension: int) -> None:
        super().__init__()
        ends = torch.tensor([0, *sizes]).cumsum(0)
        self.register_buffer("offsets", ends[:-1], persistent=False)
        # one spare row keeps the table of no fields a proper matrix
        self.table = nn.Embedding(max(int(ends[-1]), 1), dimension)

    def forward(self, values: Tensor) -> Tensor:
        """Indices (B, F) to vectors (B, F, D)."""
        return self.table(values + self.offsets)  # type: ignore[no-any-return]  # modules return Any


class Embeddings(nn.Module):
    """Indices of an `Encoding` to vectors of D floats."""

    item_features: Tensor

    def __init__(self, sizes: Sizes, item_features: Tensor, dimension: int) -> None:
        """`item_features` (items, F) are the encoded attributes of each item, looked up by the item's index."""
        super().__init__()
        self.sizes = sizes
        self.dimension = dimension
        self.attributes = FieldEmbedding(sizes.attributes, dimension)
        self.context = FieldEmbedding(sizes.context, dimension)
        self.item_attributes = FieldEmbedding(sizes.item_attributes, dimension)
        self.items = nn.Embedding(sizes.items, dimension, padding_idx=PADDING)
        self.actions = nn.Embedding(sizes.actions, dimension, padding_idx=PADDING)
        self.register_buffer("item_features", item_features)

    def behaviour(self, items: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        """Behaviour (B, L, D), item times action element by element, and where it is valid (B, L); padding is zero."""
        return self.items(items) * self.actions(actions), items != PADDING

    def pooled(self, items: Tensor, actions: Tensor) -> Tensor:
        """The sum of behaviour over L, (U, D), without making its (U, L, D): items are summed by action, then scaled.

        Σ item × action = Σ over actions of action × (Σ of the items with it).
        """
        if self.sizes.actions > MOST_BAGS or torch.compiler.is_exporting():
            return self.behaviour(items, actions)[0].sum(dim=1)
        total = self.items.weight.new_zeros(items.shape[0], self.dimension)
        seen = items != PADDING
        for action in range(PADDING + 1, self.sizes.actions):
            has_it = (actions == action) & seen
            ends = has_it.sum(dim=1).cumsum(0)
            with_it = items[has_it].long()
            if len(with_it):
                starts = functional.pad(ends[:-1], (1, 0))
                summed = functional.embedding_bag(with_it, self.items.weight, starts, mode="sum")
                total = total + self.actions.weight[action] * summed
        return total

    def target(self, items: Tensor) -> Tensor:
        """Candidates (R,) as their own vector followed by those of their F attributes: (R, 1 + F, D)."""
        own = self.items(items).unsqueeze(1)
        return torch.cat([own, self.item_attributes(self.item_features[items])], dim=1)
