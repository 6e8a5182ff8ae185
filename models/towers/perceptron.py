"""The perceptron on top of every ranking tower, and the activations of their papers."""

from collections.abc import Callable, Sequence
from typing import Any

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

    def of_pairs(self, users: Tensor, candidates: Tensor, owner: Tensor) -> Tensor:
        """What `forward` makes of each of `candidates` (R, F) behind its user's row, of `users` (U, G) by `owner` (R,).

        A graph for export multiplies what a user brings to the first layer once a user, not once a candidate, and
        lets the same product that a candidate goes through add it: by a one for its user behind the candidate's
        columns. Adding it afterwards would take a pass over (R, width), which costs as much as it saves.
        """
        if not torch.compiler.is_exporting():
            return self(torch.cat([users.index_select(0, owner), candidates], dim=1))  # type: ignore[no-any-return]
        first: Any = self.blocks[0]
        _, linear, norm, activation = first
        scale = norm.weight / (norm.running_var + norm.eps).sqrt()
        weight, bias = linear.weight * scale.unsqueeze(1), (linear.bias - norm.running_mean) * scale + norm.bias
        of_users = functional.linear(users, weight[:, : users.shape[1]], bias)
        own = owner.unsqueeze(1) == torch.arange(users.shape[0], device=owner.device)
        rows = torch.cat([candidates, own.to(candidates.dtype)], dim=1)
        weights = torch.cat([weight[:, users.shape[1] :].t(), of_users])
        products = torch.addmm(torch.zeros_like(bias), rows, weights)
        return self.blocks[1:](activation(products))  # type: ignore[no-any-return]


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
