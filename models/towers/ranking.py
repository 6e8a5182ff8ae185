"""The ranking tower: embeddings in, logit out."""

from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn

from models.towers.behaviour import Taste

HIDDEN = (512, 256)


class RankingInputs(NamedTuple):
    """Eq. 10's x for U users and the R candidates that they own.

    What belongs to a user is held once, however many candidates it has; a tower gathers it by `owner`.
    """

    attributes: Tensor
    """(U, N, D)."""
    context: Tensor
    """(U, C, D); C may be 0."""
    taste: Taste
    """Behaviour, real or virtual or both, as one weighted sequence."""
    target: Tensor
    """(R, 1 + F, D): the candidate and its attributes."""
    owner: Tensor
    """(R,): the row of the user that each candidate is for."""


class RankingTower(Protocol):
    """Any module that turns embedded inputs into one logit a candidate, (R,)."""

    def __call__(self, inputs: RankingInputs) -> Tensor: ...


class BaseDNN(nn.Module):
    """Sum pooling of each group (eq. 11), then two blocks LeakyReLU(BN(Dense(Dropout))) and a unit (eq. 12)."""

    def __init__(self, dimension: int, *, hidden: tuple[int, ...] = HIDDEN, dropout: float = 0.5) -> None:
        super().__init__()
        widths = (4 * dimension, *hidden)
        self.blocks = nn.Sequential(
            *(
                nn.Sequential(nn.Dropout(dropout), nn.Linear(before, after), nn.BatchNorm1d(after), nn.LeakyReLU())
                for before, after in zip(widths, hidden, strict=False)
            )
        )
        self.unit = nn.Linear(widths[-1], 1)

    def forward(self, inputs: RankingInputs) -> Tensor:
        """Logits (R,); the sigmoid of eq. 12 belongs to the loss and to the serving form."""
        taste = (inputs.taste.weights.unsqueeze(1) @ inputs.taste.vectors).squeeze(1)
        user = torch.cat([inputs.attributes.sum(dim=1), inputs.context.sum(dim=1), taste], dim=1)
        z = torch.cat([user.index_select(0, inputs.owner), inputs.target.sum(dim=1)], dim=1)
        return self.unit(self.blocks(z)).squeeze(1)  # type: ignore[no-any-return]  # modules return Any
