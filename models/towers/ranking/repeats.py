"""What it says of a candidate that the user met it before."""

from typing import Any

import torch
from torch import Tensor, nn

from models.runtime.encoding import FIRST_KNOWN
from models.towers.ranking.base import RankingInputs

DECAY = 0.9
"""Weight of a behaviour against the one after it, in how lately a candidate was met."""
SCALE = 4.0
"""Of the inputs: their few weights are learned in as few steps as everything else."""


class RepeatTerm(nn.Module):
    """Log-odds from how often the candidate is among the behaviour, and how lately: w · (met, log(1 + n), recency).

    n counts the behaviours with the candidate, and recency is the sum of `DECAY` to the power of how many came after
    each. Nothing for a candidate that was not met, nor for one that training did not know: the indices of those are not
    their own, and not below `items`. Nothing is learned of it where negatives are drawn from what the user never met
    (`NegativeSampler.by_moment`).
    """

    def __init__(self, items: int) -> None:
        super().__init__()
        self.items = items
        self.weights = nn.Parameter(torch.zeros(3, 1))
        self.register_load_state_dict_pre_hook(_without)  # type: ignore[no-untyped-call]  # torch leaves it untyped

    def forward(self, inputs: RankingInputs) -> Tensor:
        """(R,)."""
        items, seen = inputs.taste.items, inputs.taste.seen
        place = torch.arange(items.shape[1], device=items.device, dtype=self.weights.dtype)
        of_place = torch.stack([torch.ones_like(place), DECAY**-place], dim=1)
        alike = items.index_select(0, inputs.owner) == inputs.candidates.unsqueeze(1)
        count, late = (alike.to(of_place.dtype) @ of_place).unbind(dim=1)
        newest = DECAY ** (seen - 1).clamp(min=0).to(of_place.dtype)
        known = ((inputs.candidates >= FIRST_KNOWN) & (inputs.candidates < self.items)).to(of_place.dtype)
        features = torch.stack([count.clamp(max=1), count.log1p(), late * newest.index_select(0, inputs.owner)], dim=1)
        logits: Tensor = (features @ (SCALE * self.weights)).squeeze(1) * known
        return logits


def _without(term: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """Towers of an earlier version had no such term, which is one that says nothing."""
    state.setdefault(f"{prefix}weights", torch.zeros_like(term.get_parameter("weights")))
