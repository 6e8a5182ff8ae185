"""What the descent moves: b, the factors of W, and the parts beside the sum of codes.

Shapes: C rows (cells of users), N attributes, G attribute values in all, I items, B values of item attributes, K
directions, E entries of a batch.
"""

from typing import Annotated, NamedTuple

import pydantic.dataclasses
import torch
from pydantic import Field, PositiveInt
from torch import Tensor, nn
from torch.nn import functional

from foretaste.kernel.configuration import (
    NO_OTHER_FIELDS,
    NonNegativeFloat,
    PositiveFloat,
    ShareBelowOne,
    raises_invalid_input,
)
from foretaste.kernel.errors import ForetasteError, InvalidInput
from models.effects.by_gradient.batches import RowBatch
from models.effects.low_rank import Design, Fit, Penalty

EMBEDDING, HIDDEN = 16, 64
"""Widths of the perceptron: of a value's embedding, and of its one layer."""
_KEY_START = 0.05
"""Size of a combined direction's keys, relative to those of the others: its codes begin at 0."""


@raises_invalid_input
@pydantic.dataclasses.dataclass(frozen=True, slots=True, config=NO_OTHER_FIELDS)
class DescentConfig:
    """How factors are found by gradient."""

    epochs: PositiveInt = 3
    least_steps: PositiveInt = 300
    """More epochs are taken until there are so many."""
    batch: PositiveInt | None = None
    """Rows a step; None: a 64th of all, 512 to 8192."""
    pool: PositiveInt = 4096
    """Items of which most sampled negatives are expected, over which that is exact; over the rest it is bounded."""
    rate: PositiveFloat = 0.05
    """Of Adam at first, in sizes of what it moves; it falls to 0 along a cosine."""
    combined_directions: Annotated[int, Field(ge=0)] = 8
    """Beside those of the sum, for what values say together; 0: codes are sums alone."""
    dropout: ShareBelowOne = 0.5
    """Of the perceptron's hidden layer, and of what the behaviour encoder reads."""
    decay: NonNegativeFloat = 5.0
    """Of the perceptron's weights and of the encoder's, as AdamW's."""
    reconstruction: NonNegativeFloat = 0.0
    """Weight of eqs. 3 and 4 where they go beyond what the fit asks: behaviour and attributes from the code of
    behaviour, attributes from that of attributes."""
    discrepancy: NonNegativeFloat = 0.0
    """Weight of eq. 5; it needs a `reconstruction`, by which the code of behaviour is learned."""

    def __post_init__(self) -> None:
        """Raises `InvalidInput` for eq. 5 alone."""
        if self.discrepancy and not self.reconstruction:
            problem = "needs a reconstruction above 0: nothing else would teach the code of behaviour"
            raise InvalidInput("discrepancy", self.discrepancy, problem)


class Combination(nn.Module):
    """A perceptron over the values (C, N) of rows, each below G or G for none, to codes (C, K); 0 at first."""

    def __init__(self, columns: int, size: int, width: int, config: DescentConfig) -> None:
        super().__init__()
        self.values = nn.Embedding(size + 1, EMBEDDING, padding_idx=size)
        self.first = nn.Linear(columns * EMBEDDING, HIDDEN)
        self.second = nn.Linear(HIDDEN, width, bias=False)
        self._dropout = config.dropout
        nn.init.zeros_(self.second.weight)

    def forward(self, values: Tensor) -> Tensor:
        hidden = functional.relu(self.first(self.values(values).flatten(1)))
        found: Tensor = self.second(functional.dropout(hidden, self._dropout, self.training))
        return found


class GradientFit(NamedTuple):
    """The factors, and the perceptron where there is one."""

    fit: Fit
    combination: Combination | None


class Factors(nn.Module):
    """b (I,), R U (G, K) and S V (I + B, K), which the ridge of the penalty is of; and the parts beside them."""

    of_values: Tensor
    """(G, 1): the diagonal of 1/R."""
    of_items: Tensor
    """(I + B, 1): that of 1/S."""
    members: Tensor
    """(I, F): which of B values each item has, B for none; F is 0 where items have no attributes."""

    def __init__(self, design: Design, penalty: Penalty, first: Fit, config: DescentConfig) -> None:
        super().__init__()
        weights, more = penalty.weights, config.combined_directions
        left, right = first.left * weights.values.unsqueeze(1), first.right * weights.items.unsqueeze(1)
        self.sizes = tuple(float(part.square().mean()) ** 0.5 if part.numel() else 1.0 for part in (left, right))
        """Of an entry of each factor as they begin."""
        if more:
            left = torch.cat([left, left.new_zeros(len(left), more)], dim=1)
            right = torch.cat([right, _KEY_START * self.sizes[1] * torch.randn(len(right), more)], dim=1)
        count, width = len(first.bias), left.shape[1]
        self.bias = nn.Parameter(first.bias.float().clone())
        self.left, self.right = nn.Parameter(left.float().contiguous()), nn.Parameter(right.float().contiguous())
        self.register_buffer("of_values", 1 / weights.values.float().unsqueeze(1))
        self.register_buffer("of_items", 1 / weights.items.float().unsqueeze(1))
        no_members = torch.zeros(count, 0, dtype=torch.int64)
        self.register_buffer("members", no_members if design.items is None else design.items.values)
        self.combination = Combination(design.values.shape[1], design.size, width, config) if more else None
        has_encoder = config.reconstruction > 0 and width > 0 and design.size > 0
        self.encoder = BehaviourEncoder(count, design.size, width, config) if has_encoder else None

    def codes(self, values: Tensor) -> Tensor:
        """(C, K) of rows with these values (C, N)."""
        found = functional.embedding_bag(values, _with_none(self.left * self.of_values), mode="sum")
        return found if self.combination is None else found + self.combination(values)

    def keys(self, items: Tensor) -> Tensor:
        """(X, K) of these items (X,)."""
        own = functional.embedding(items, self.right) * self.of_items.index_select(0, items)
        if not self.members.shape[1]:
            return own
        count = len(self.bias)
        shared = self.right[count:] * self.of_items[count:]
        return own + functional.embedding_bag(self.members.index_select(0, items), _with_none(shared), mode="sum")

    def biases(self, items: Tensor) -> Tensor:
        """(X,) of these items (X,)."""
        return functional.embedding(items, self.bias.unsqueeze(1)).squeeze(1)

    def found(self) -> GradientFit:
        """What was learned, on the CPU. Raises `ForetasteError` where it is not finite."""
        self.cpu().eval()
        with torch.no_grad():
            fit = Fit(self.bias.clone(), self.left * self.of_values, self.right * self.of_items)
        if not all(bool(torch.isfinite(part).all()) for part in fit):
            raise ForetasteError("the fit of the attributes' effects diverged: its factors are not finite")
        return GradientFit(fit, self.combination)


def _with_none(table: Tensor) -> Tensor:
    """A table with a row of zeros below it, for none of its values."""
    return torch.cat([table, table.new_zeros(1, table.shape[1])])


class BehaviourEncoder(nn.Module):
    """A code q of behaviour, and the decoder of attributes from either code."""

    def __init__(self, items: int, size: int, width: int, config: DescentConfig) -> None:
        super().__init__()
        self.items = nn.Parameter(torch.randn(items, width) * width**-0.5)
        self.scale = nn.Parameter(torch.zeros(width))
        self.attributes = nn.Linear(width, size)
        self._dropout = config.dropout

    def forward(self, batch: RowBatch) -> Tensor:
        """(C, K) of a batch, a share of the entries left out at random."""
        acted = functional.dropout(batch.acted, self._dropout, self.training)
        norm = acted.new_zeros(len(batch.values)).index_add(0, batch.row, acted.square()).clamp(min=1e-12).sqrt()
        weights, items = acted / norm[batch.row], batch.used[batch.place]
        read = functional.embedding_bag(items, self.items, batch.row_starts, mode="sum", per_sample_weights=weights)
        return read * self.scale
