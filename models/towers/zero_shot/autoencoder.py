"""The residual encoder and decoder of the zero-shot tower, eqs. 15 and 16."""

import torch
from torch import Tensor, nn

from models.towers.dropout import Dropout

FIRST, SECOND, CODE = 1024, 512, 512
"""Widths of an encoder's layers in the paper; a decoder runs them backwards: 512, 1024, then its target."""


class ResidualEncoder(nn.Module):
    """Eq. 15: each layer after the first reads the input again beside the layer before it."""

    def __init__(
        self, inputs: int, *, first: int = FIRST, second: int = SECOND, code: int = CODE, dropout: float = 0.5
    ) -> None:
        super().__init__()
        self.first = nn.Linear(inputs, first)
        self.second = nn.Linear(first + inputs, second)
        self.third = nn.Linear(second + inputs, code)
        self.drop = Dropout(dropout)
        self.activate = nn.LeakyReLU()

    def forward(self, h: Tensor) -> Tensor:
        """`h` (B, D) to a code (B, `code`)."""
        z1 = self.activate(self.first(self.drop(h)))
        z2 = self.activate(self.second(self.drop(torch.cat([z1, h], dim=1))))
        return self.activate(self.third(torch.cat([z2, h], dim=1)))  # type: ignore[no-any-return]  # modules return Any


class ResidualDecoder(nn.Module):
    """Eq. 16: the mirror of the encoder, with a linear output."""

    def __init__(
        self, outputs: int, *, first: int = FIRST, second: int = SECOND, code: int = CODE, dropout: float = 0.5
    ) -> None:
        super().__init__()
        self.first = nn.Linear(code, second)
        self.second = nn.Linear(second + code, first)
        self.third = nn.Linear(first + code, outputs)
        self.drop = Dropout(dropout)
        self.activate = nn.LeakyReLU()

    def forward(self, p: Tensor) -> Tensor:
        """A code `p` (B, `code`) to its target, flat: (B, `outputs`)."""
        z3 = self.activate(self.first(self.drop(p)))
        z4 = self.activate(self.second(self.drop(torch.cat([z3, p], dim=1))))
        return self.third(torch.cat([z4, p], dim=1))  # type: ignore[no-any-return]  # modules return Any
