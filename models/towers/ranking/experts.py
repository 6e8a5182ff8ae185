"""Two experts over one table: what attributes tell of a user, and what behaviour tells, mixed by how much was seen."""

import torch
from torch import Tensor, nn

from models.data.stages import reads_virtual
from models.effects.fit import Effects
from models.effects.seen_bias import FIRST_OF_SEEN_BIN, SEEN_BINS
from models.towers.ranking.base import RankingInputs, TowerShape, WithAuxiliaryLoss
from models.towers.ranking.repeats import RepeatTerm


class Experts(nn.Module):
    """The logit is a(seen) × cold + b(seen) × warm.

    The cold expert reads the stored vector alone: v̂ · key(i) + the bias of the item at so many behaviours seen, where
    v̂ counts until `warm_after` behaviours are seen. The warm expert is any ranking tower, and reads real behaviour. a
    and b are learned for each number of behaviours seen; of a user without any, only the cold one answers.
    """

    keys: Tensor
    """(items, H)."""
    biases: Tensor
    """(S, items)."""
    seen_bins: Tensor
    """(1 + L,): the bin of each number seen."""
    mix: Tensor
    """(1 + L, 2): a and b of each number seen; of who has seen none they do not count."""

    def __init__(self, shape: TowerShape, warm: nn.Module) -> None:
        super().__init__()
        self.warm = warm
        self.register_buffer("keys", torch.zeros(shape.items, shape.virtual_vectors * shape.dimension))
        self.register_buffer("biases", torch.zeros(len(FIRST_OF_SEEN_BIN), shape.items))
        self.register_buffer("seen_bins", torch.from_numpy(SEEN_BINS), persistent=False)
        self.mix = nn.Parameter(torch.ones(len(SEEN_BINS), 2))
        self.repeats = RepeatTerm()

    def adopt(self, effects: Effects) -> None:
        """Take the keys and biases that were fitted."""
        self.keys.copy_(torch.from_numpy(effects.keys))
        self.biases.copy_(torch.from_numpy(effects.biases))

    def forward(self, inputs: RankingInputs) -> Tensor:
        """Logits (R,)."""
        seen = inputs.taste.seen.index_select(0, inputs.owner)
        a, b = self.mix.index_select(0, seen).unbind(dim=1)
        cold: Tensor = self.cold(inputs)
        warm: Tensor = self.warm(_of_warm(inputs)) + self.repeats(inputs)
        return torch.where(seen > 0, a * cold + b * warm, cold)

    def auxiliary_loss(self, inputs: RankingInputs) -> Tensor | None:
        """The auxiliary loss of the warm expert; None where it has none."""
        return self.warm.auxiliary_loss(_of_warm(inputs)) if isinstance(self.warm, WithAuxiliaryLoss) else None

    def cold(self, inputs: RankingInputs) -> Tensor:
        """The cold expert's logits (R,), v̂ · key(i) + bias(bin, i)."""
        taste, owner = inputs.taste, inputs.owner
        counts: Tensor = reads_virtual(taste.seen, taste.warm_after).to(taste.virtual.dtype)
        code = taste.virtual.flatten(1) * counts.unsqueeze(1)
        effect = (code.index_select(0, owner) * self.keys.index_select(0, inputs.candidates)).sum(dim=1)
        seen_bins = self.seen_bins.index_select(0, taste.seen).index_select(0, owner)
        place = seen_bins * self.biases.shape[1] + inputs.candidates
        logits: Tensor = effect + self.biases.flatten().index_select(0, place)
        return logits if inputs.lately is None else logits + inputs.lately


def _of_warm(inputs: RankingInputs) -> RankingInputs:
    """What the warm expert reads: real behaviour alone."""
    return inputs._replace(taste=inputs.taste.without_virtual())
