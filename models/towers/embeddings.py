"""The embedding table that both towers read and the ranking optimiser alone trains."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.runtime.encoding import PADDING, Encoding, sizes_of

MOST_KINDS = 1 << 18
"""Pairs of an item and an action up to which a vector of each is cheaper than a vector of each behaviour."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """How many rows each part of the table has, unknown and padding included."""

    attributes: tuple[int, ...]
    """One number a column of the user attributes, N of them."""
    context: tuple[int, ...]
    items: int
    actions: int
    item_attributes: tuple[int, ...]
    ages: int = 0
    """A, bins of known account ages; 0 where no age is read."""
    kinds: int = 0
    """The last of the items' rows, which are of kinds of items; 0 while training."""

    @classmethod
    def of(cls, encoding: Encoding) -> Self:
        """The sizes of tables that hold what an encoding tells apart."""
        return cls(
            attributes=sizes_of(encoding.attributes),
            context=sizes_of(encoding.context),
            items=encoding.item_count,
            actions=encoding.action_count,
            item_attributes=sizes_of(encoding.item_attributes),
            ages=len(encoding.age_bounds),
            kinds=len(encoding.kinds),
        )


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

    def pooled(self, items: Tensor, actions: Tensor, weights: Tensor | None = None) -> Tensor:
        """The sum of behaviour over L, (U, D), each weighted by `weights` (U, L) where given.

        Where there are few kinds of item and action, each kind's vector is made once, and no (U, L, D) is.
        """
        if self.sizes.items * self.sizes.actions > MOST_KINDS or torch.compiler.is_exporting():
            vectors = self.behaviour(items, actions)[0]
            return vectors.sum(dim=1) if weights is None else (weights.unsqueeze(1) @ vectors).squeeze(1)
        kinds = (self.items.weight.unsqueeze(1) * self.actions.weight).flatten(0, 1)
        real = (items != PADDING) & (actions != PADDING)  # padding costs nothing, and its own rows are never trained
        place = (items * self.sizes.actions + actions)[real]
        starts = functional.pad(real.sum(dim=1).cumsum(0)[:-1], (1, 0)).to(place.dtype)
        kept = None if weights is None else weights[real]
        return functional.embedding_bag(place, kinds, starts, mode="sum", per_sample_weights=kept)

    def target(self, items: Tensor) -> Tensor:
        """Candidates (R,) as their own vector followed by those of their F attributes: (R, 1 + F, D)."""
        own = self.items(items).unsqueeze(1)
        return torch.cat([own, self.item_attributes(self.item_features.index_select(0, items))], dim=1)
