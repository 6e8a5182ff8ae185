"""The default zero-shot tower: the sum of codes that were fitted, one for each attribute value."""

import torch
from torch import Tensor, nn

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
