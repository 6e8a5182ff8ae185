"""Two experts over one table: what attributes tell of a user, and what behaviour tells, mixed by how much was seen."""

import torch
from torch import Tensor, nn

from models.data.stages import reads_virtual
from models.effects.age_bias import age_stages
from models.effects.fit import Effects
from models.effects.seen_bias import FIRST_OF_SEEN_BIN, SEEN_BINS
from models.towers.ranking.acts import ActTerm
from models.towers.ranking.base import RankingInputs, TowerShape, WithAuxiliaryLoss
from models.towers.ranking.repeats import RepeatTerm
from models.towers.ranking.transitions import TransitionTerm

AGE_MIX_SHARE = 0.1
"""Of a difference by age that counts: it is learned so much slower than a and b. How much was seen tells most already,
and learned as fast it made the first steps worse (record 67)."""


class Experts(nn.Module):
    """The logit is a(seen) × cold + b(seen) × warm + what item-to-item transitions tell + what first acts tell.

    The cold expert reads the stored vector alone: v̂ · key(i) + the bias of the item at so many behaviours seen and at
    the account's age, where v̂ counts until `warm_after` behaviours are seen. The warm expert is any ranking tower, and
    reads real behaviour. a and b are learned for each number of behaviours seen, with a difference for each bin of the
    account's age; of a user without any behaviour, only the cold one answers.
    """

    keys: Tensor
    """(items, H)."""
    biases: Tensor
    """(S, items)."""
    seen_bins: Tensor
    """(1 + L,): the bin of each number seen."""
    mix: Tensor
    """(1 + L, 2): a and b of each number seen; of who has seen none they do not count."""
    acts: ActTerm | None
    """In served towers alone."""
    age_biases: Tensor
    """(1 + 2 A, items): added to `biases`. This and the next two are there where the account's age is read."""
    age_stages: Tensor
    """(1 + L, 1 + A): the row of `age_biases` for each number seen and each bin of age."""
    age_mix: Tensor
    """(1 + A, 2): added to a and b by the bin of age, times `AGE_MIX_SHARE`."""

    def __init__(self, shape: TowerShape, warm: nn.Module) -> None:
        super().__init__()
        self.warm = warm
        self.register_buffer("keys", torch.zeros(shape.items, shape.virtual_vectors * shape.dimension))
        self.register_buffer("biases", torch.zeros(len(FIRST_OF_SEEN_BIN), shape.items))
        self.register_buffer("seen_bins", torch.from_numpy(SEEN_BINS), persistent=False)
        self.mix = nn.Parameter(torch.ones(len(SEEN_BINS), 2))
        self.repeats = RepeatTerm(shape.items - shape.kinds)
        self.transitions = TransitionTerm(shape)
        self.acts = None
        self.reads_age = shape.ages > 0
        if self.reads_age:
            self.register_buffer("age_biases", torch.zeros(1 + 2 * shape.ages, shape.items))
            self.register_buffer("age_stages", torch.from_numpy(age_stages(shape.ages)), persistent=False)
            self.age_mix = nn.Parameter(torch.zeros(1 + shape.ages, 2))

    def adopt(self, effects: Effects) -> None:
        """Take the keys and biases that were fitted."""
        self.keys.copy_(torch.from_numpy(effects.keys))
        self.biases.copy_(torch.from_numpy(effects.biases))
        if self.reads_age and effects.age_biases is not None:
            self.age_biases.copy_(torch.from_numpy(effects.age_biases))
        self.transitions.adopt(effects.transitions)

    def forward(self, inputs: RankingInputs) -> Tensor:
        """Logits (R,)."""
        mix = self.mix.index_select(0, inputs.taste.seen)
        if self.reads_age:
            mix = mix + AGE_MIX_SHARE * self.age_mix.index_select(0, _age_of(inputs))
        a, b = mix.index_select(0, inputs.owner).unbind(dim=1)
        seen = inputs.taste.seen.index_select(0, inputs.owner)
        cold: Tensor = self.cold(inputs)
        warm: Tensor = self.warm(_of_warm(inputs)) + self.repeats(inputs)
        told = self.transitions(inputs)
        if self.acts is not None:
            told = told + self.acts(inputs, self.keys)
        return torch.where(seen > 0, a * cold + b * warm + told, cold)

    def auxiliary_loss(self, inputs: RankingInputs) -> Tensor | None:
        """The auxiliary loss of the warm expert; None where it has none."""
        return self.warm.auxiliary_loss(_of_warm(inputs)) if isinstance(self.warm, WithAuxiliaryLoss) else None

    def cold(self, inputs: RankingInputs) -> Tensor:
        """The cold expert's logits (R,), v̂ · key(i) + bias(bin, i) + age bias(stage, i)."""
        taste, owner = inputs.taste, inputs.owner
        counts: Tensor = reads_virtual(taste.seen, taste.warm_after).to(taste.virtual.dtype)
        code = taste.virtual.flatten(1) * counts.unsqueeze(1)
        effect = (code.index_select(0, owner) * self.keys.index_select(0, inputs.candidates)).sum(dim=1)
        items = self.biases.shape[1]
        rows = self.seen_bins.index_select(0, taste.seen) * items
        place = rows.index_select(0, owner) + inputs.candidates
        logits: Tensor = effect + self.biases.flatten().index_select(0, place)
        if self.reads_age:
            stage = taste.seen * self.age_stages.shape[1] + _age_of(inputs)
            rows = self.age_stages.flatten().index_select(0, stage) * items
            place = rows.index_select(0, owner) + inputs.candidates
            logits = logits + self.age_biases.flatten().index_select(0, place)
        return logits if inputs.popularity_bias is None else logits + inputs.popularity_bias


def _age_of(inputs: RankingInputs) -> Tensor:
    """(U,) the bins of the accounts' ages; unknown where the caller has none."""
    return torch.zeros_like(inputs.taste.seen) if inputs.age is None else inputs.age


def _of_warm(inputs: RankingInputs) -> RankingInputs:
    """What the warm expert reads: real behaviour alone."""
    return inputs._replace(taste=inputs.taste.without_virtual())
