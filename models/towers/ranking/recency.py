"""The default warm expert: BaseDNN that also reads what was done last, and how near each candidate is to it."""

import torch
from torch import Tensor, nn

from models.towers.perceptron import Perceptron
from models.towers.ranking.base import RankingInputs, TowerShape
from models.towers.ranking.dnn import HIDDEN

DECAY = 0.8
"""Weight of a behaviour against the one after it: the last five make up two thirds."""


class RecencyDNN(nn.Module):
    """Eq. 12 over attributes, context, behaviour pooled evenly and by recency, the target, and both products with it.

    Even pooling is divided by √seen, so that its size does not follow the length of the history.
    """

    def __init__(self, shape: TowerShape) -> None:
        super().__init__()
        inputs = 7 * shape.dimension + 1
        self.perceptron = Perceptron(inputs, shape.hidden or HIDDEN, dropout=shape.dropout)
        self.unit = nn.Linear(self.perceptron.outputs, 1)

    def forward(self, inputs: RankingInputs) -> Tensor:
        """Logits (R,)."""
        taste = inputs.taste
        seen = taste.seen.to(taste.virtual.dtype).unsqueeze(1)
        even = taste.pooled / seen.clamp(min=1).sqrt()
        recent = taste.recent(DECAY)
        of_user = torch.cat([inputs.attributes.sum(1), inputs.context.sum(1), even, recent, seen.log1p()], dim=1)
        target = inputs.target.sum(dim=1)
        tastes = torch.stack([even, recent], dim=1).index_select(0, inputs.owner)
        of_candidate = torch.cat([target, (tastes * target.unsqueeze(1)).flatten(1)], dim=1)
        return self.unit(self.perceptron.of_pairs(of_user, of_candidate, inputs.owner)).squeeze(1)  # type: ignore[no-any-return]  # modules return Any
