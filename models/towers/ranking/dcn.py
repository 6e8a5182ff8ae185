"""DCN-V2: Deep and Cross Network (Wang et al., WWW 2021), in parallel."""

import torch
from torch import Tensor, nn

from models.towers.perceptron import Perceptron
from models.towers.ranking.base import RankingInputs, TowerShape, field_vectors

HIDDEN = (512, 256)
LAYERS = 3


class CrossLayer(nn.Module):
    """x' = x₀ ⊙ (W x + b) + x, with W full (`rank` None) or U Vᵀ of a low rank."""

    def __init__(self, width: int, rank: int | None) -> None:
        super().__init__()
        self.into = nn.Identity() if rank is None else nn.Linear(width, rank, bias=False)
        self.dense = nn.Linear(width if rank is None else rank, width)

    def forward(self, first: Tensor, x: Tensor) -> Tensor:
        """x₀ and x, (R, W) each, to (R, W)."""
        return first * self.dense(self.into(x)) + x  # type: ignore[no-any-return]  # modules return Any


class DCN(nn.Module):
    """Cross layers and a perceptron side by side over the field vectors, behaviour pooled to one of them."""

    def __init__(self, shape: TowerShape, *, layers: int = LAYERS, rank: int | None = None) -> None:
        super().__init__()
        width = shape.fields * shape.dimension
        self.crosses = nn.ModuleList(CrossLayer(width, rank) for _ in range(layers))
        self.perceptron = Perceptron(width, shape.hidden or HIDDEN, dropout=shape.dropout)
        self.unit = nn.Linear(width + self.perceptron.outputs, 1)

    def forward(self, inputs: RankingInputs) -> Tensor:
        """Logits (R,)."""
        first = field_vectors(inputs).flatten(1)
        crossed = first
        for cross in self.crosses:
            crossed = cross(first, crossed)
        return self.unit(torch.cat([crossed, self.perceptron(first)], dim=1)).squeeze(1)  # type: ignore[no-any-return]


class LowRankDCN(DCN):
    """DCN-V2 whose cross layers have a quarter of the rank, as the paper finds enough."""

    def __init__(self, shape: TowerShape) -> None:
        super().__init__(shape, rank=max(shape.fields * shape.dimension // 4, 1))
