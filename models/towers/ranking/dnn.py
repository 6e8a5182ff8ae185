"""BaseDNN, the paper's ranking tower."""

import torch
from torch import Tensor, nn

from models.towers.perceptron import Perceptron
from models.towers.ranking.base import RankingInputs, TowerShape

HIDDEN = (512, 256)
"""Eq. 12."""


class BaseDNN(nn.Module):
    """Sum pooling of each group (eq. 11), then two blocks LeakyReLU(BN(Dense(Dropout))) and a unit (eq. 12)."""

    def __init__(self, shape: TowerShape) -> None:
        super().__init__()
        self.perceptron = Perceptron(4 * shape.dimension, shape.hidden or HIDDEN, dropout=shape.dropout)
        self.unit = nn.Linear(self.perceptron.outputs, 1)

    def forward(self, inputs: RankingInputs) -> Tensor:
        """Logits (R,); the sigmoid of eq. 12 belongs to the loss and to the serving form."""
        user = torch.cat([inputs.attributes.sum(dim=1), inputs.context.sum(dim=1), inputs.taste.pooled], dim=1)
        z = self.perceptron.of_pairs(user, inputs.target.sum(dim=1), inputs.owner)
        return self.unit(z).squeeze(1)  # type: ignore[no-any-return]  # modules return Any
