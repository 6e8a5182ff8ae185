"""Ranking towers for tests of training, named by Architecture(ranking="tests.training_towers:…")."""

import torch
from torch import Tensor, nn

from models.towers.ranking.base import RankingInputs, TowerShape

MEMORY_ROWS = 150
"""Candidates that fit into the memory of `Greedy`'s device."""


class Dot(nn.Module):
    """Pooled behaviour times the item: neither normalised by batch nor dropped at random."""

    def __init__(self, shape: TowerShape) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(()))

    def forward(self, inputs: RankingInputs) -> Tensor:
        item = inputs.target[:, 0]
        read = inputs.taste.pooled[inputs.owner] + inputs.attributes.sum(dim=1)[inputs.owner]
        return (read * item).sum(dim=1) + self.bias


class Greedy(Dot):
    """Has no memory for more than `MEMORY_ROWS`."""

    def forward(self, inputs: RankingInputs) -> Tensor:
        if len(inputs.candidates) > MEMORY_ROWS:
            raise torch.OutOfMemoryError(f"tried to allocate {len(inputs.candidates)} rows")
        return super().forward(inputs)


class Insatiable(Dot):
    """Has memory for what building a tower asks of it, and for no step."""

    def forward(self, inputs: RankingInputs) -> Tensor:
        if self.training:
            raise torch.OutOfMemoryError("tried to allocate anything")
        return super().forward(inputs)
