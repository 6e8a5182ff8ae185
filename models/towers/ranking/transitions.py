"""What it says of a candidate that it often follows what the user did last."""

from typing import Any

import torch
from torch import Tensor, nn

from foretaste.kernel.values import MAX_BEHAVIOUR
from models.effects.transitions import DIRECTIONS, READ_DECAY, Transitions
from models.towers.ranking.base import RankingInputs, TowerShape

SCALE = 4.0
"""Of the weights: they are learned in as few steps as everything else."""
START = 0.5
"""Of the weight for each number of behaviours seen."""
_BUFFERS = ("sources", "targets")


class TransitionTerm(nn.Module):
    """Log-odds from item-to-item transitions: weight(seen) × Σ_d decay^d source(j_d) · target(candidate).

    j₀ is the user's newest behaviour, j₁ the one before it; see `models.effects.transitions`. Nothing for a user
    without behaviour, and for a candidate without counts.
    """

    sources: Tensor
    """(items, H)."""
    targets: Tensor
    """(items, H)."""

    def __init__(self, shape: TowerShape) -> None:
        super().__init__()
        for name in _BUFFERS:
            self.register_buffer(name, torch.zeros(shape.items, DIRECTIONS))
        self.weights = nn.Parameter(torch.full((1 + MAX_BEHAVIOUR,), START / SCALE))
        self.register_load_state_dict_pre_hook(_without)  # type: ignore[no-untyped-call]  # torch leaves it untyped

    def adopt(self, transitions: Transitions | None) -> None:
        """Take the vectors that all users' behaviour has given; None: those of items that nothing was counted of."""
        for name in _BUFFERS:
            buffer = self.get_buffer(name)
            buffer.zero_() if transitions is None else buffer.copy_(torch.from_numpy(getattr(transitions, name)[0]))

    def forward(self, inputs: RankingInputs) -> Tensor:
        """(R,)."""
        weights = SCALE * self.weights.index_select(0, inputs.taste.seen).index_select(0, inputs.owner)
        return weights * (self._lifts(inputs) if inputs.transition is None else inputs.transition)

    def _lifts(self, inputs: RankingInputs) -> Tensor:
        """(R,), as served."""
        items, seen = inputs.taste.items, inputs.taste.seen
        back = (seen.unsqueeze(1) - 1 - torch.arange(items.shape[1], device=items.device)).clamp(min=0)
        decayed = READ_DECAY ** back.to(self.sources.dtype)
        taste = (decayed.unsqueeze(1) @ self.sources[items]).squeeze(1)
        found: Tensor = (taste.index_select(0, inputs.owner) * self.targets.index_select(0, inputs.candidates)).sum(
            dim=1
        )
        return found


def _without(term: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """Towers of an earlier version had no such term, which is one of items that nothing was counted of."""
    for name in _BUFFERS:
        state.setdefault(f"{prefix}{name}", torch.zeros_like(term.get_buffer(name)))
    state.setdefault(f"{prefix}weights", torch.full_like(term.get_parameter("weights"), START / SCALE))
