"""The perceptron on top of every ranking tower, and the activations of their papers."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.towers.dropout import Dropout


class Perceptron(nn.Module):
    """Blocks activation(BN(Dense(Dropout))), one a width, as in eq. 12: (R, `inputs`) to (R, `outputs`)."""

    def __init__(
        self,
        inputs: int,
        hidden: Sequence[int],
        *,
        dropout: float,
        activation: Callable[[int], nn.Module] = lambda _: nn.LeakyReLU(),
        scaled: bool = False,
    ) -> None:
        """`activation` makes the activation of a layer from its width; `scaled` normalises the input by batch first."""
        super().__init__()
        self.outputs = hidden[-1]
        self.scale = nn.BatchNorm1d(inputs) if scaled else nn.Identity()
        self.blocks = nn.Sequential(
            *(
                nn.Sequential(Dropout(dropout), nn.Linear(before, after), nn.BatchNorm1d(after), activation(after))
                for before, after in zip((inputs, *hidden), hidden, strict=False)
            )
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.blocks(self.scale(x))  # type: ignore[no-any-return]  # modules return Any


class Dice(nn.Module):
    """DIN's activation: p s + (1 - p) α s with p = σ((s - E[s]) / √(Var[s] + ε)), E and Var over the rows of a batch.

    Works on (P, `width`). Fewer than two rows have no variance: they are read by the running statistics.
    """

    mean: Tensor
    variance: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("variance", torch.ones(width))
        self.alpha = nn.Parameter(torch.zeros(width))

    def forward(self, s: Tensor) -> Tensor:
        by_batch = self.training and s.shape[0] > 1
        p = functional.batch_norm(s, self.mean, self.variance, training=by_batch, eps=1e-8).sigmoid()
        alpha = self.alpha.to(s.dtype)
        return s * torch.addcmul(alpha, 1 - alpha, p)  # fewer passes than the formula as it is written
