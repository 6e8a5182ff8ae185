"""The default zero-shot tower: the sum of codes that were fitted, one for each attribute value."""

import torch
from torch import Tensor, nn

from models.effects.by_gradient.factors import EMBEDDING, HIDDEN
from models.effects.fit import Effects
from models.towers.zero_shot.base import ZeroShotShape


class AttributeEffects(nn.Module):
    """A zero-shot tower without weights of its own to train: v̂ is the sum of its attribute values' fitted codes.

    It reads the values themselves, not their embeddings: a code is a parameter of the fit (`models.effects.fit`),
    which no gradient reaches.
    """

    codes: Tensor
    """(ΣA, H) with H = M D, field after field."""
    offsets: Tensor
    """(N,): where each field begins."""

    def __init__(self, shape: ZeroShotShape) -> None:
        super().__init__()
        self._vectors = (shape.vectors, shape.dimension)
        ends = torch.tensor([0, *shape.sizes]).cumsum(0)
        self.register_buffer("offsets", ends[:-1], persistent=False)
        self.register_buffer("codes", torch.zeros(int(ends[-1]), shape.vectors * shape.dimension))

    def forward(self, attributes: Tensor, values: Tensor) -> Tensor:
        """Values (B, N) to virtual behaviour (B, M, D); their embeddings are not read."""
        code: Tensor = self.codes[values + self.offsets].sum(dim=1)
        return code.view(-1, *self._vectors)

    def adopt(self, effects: Effects) -> None:
        """Take the codes that all users' behaviour has given."""
        self.codes.copy_(torch.from_numpy(effects.codes[0]))


class TrainedEffects(AttributeEffects):
    """The default's codes, trained by gradient, and beside their sum what values say together.

    v̂ = Σ code + relu(e A + b) B, with e the embeddings of all of a user's values. It is trained before the first step
    of Algorithm 1, on the device of the training: its loss (`models.effects.by_gradient.descent`) reads nothing that
    L_rt trains, so that steps taken in turn with those of L_rt would give the same codes.
    """

    values: Tensor
    """(ΣA, E)."""
    first: Tensor
    """(N E, X)."""
    bias: Tensor
    """(X,)."""
    second: Tensor
    """(X, H)."""

    def __init__(self, shape: ZeroShotShape) -> None:
        super().__init__(shape)
        self.register_buffer("values", torch.zeros(sum(shape.sizes), EMBEDDING))
        self.register_buffer("first", torch.zeros(shape.attributes * EMBEDDING, HIDDEN))
        self.register_buffer("bias", torch.zeros(HIDDEN))
        self.register_buffer("second", torch.zeros(HIDDEN, shape.vectors * shape.dimension))

    def forward(self, attributes: Tensor, values: Tensor) -> Tensor:
        """As that of the sum."""
        embedded = self.values[values + self.offsets].flatten(1)
        together = torch.addmm(self.bias, embedded, self.first).relu() @ self.second
        return super().forward(attributes, values) + together.view(-1, *self._vectors)

    def adopt(self, effects: Effects) -> None:
        super().adopt(effects)
        for name in ("values", "first", "bias", "second"):
            if effects.combinations is None:  # sums alone, whatever an earlier generation had
                self.get_buffer(name).zero_()
            else:
                self.get_buffer(name).copy_(torch.from_numpy(getattr(effects.combinations, name)[0]))
