"""What every ranking tower is built from, reads and answers: embeddings in, logit out."""

from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor

from models.towers.behaviour import Taste


@dataclass(frozen=True, slots=True)
class TowerShape:
    """How large the inputs of a ranking tower are, and its widths. A tower is built from this alone."""

    dimension: int
    """D."""
    attributes: int
    """N, fields of a user."""
    context: int
    """C, fields of a moment; may be 0."""
    target: int
    """1 + F: a candidate and its attributes."""
    behaviour: int
    """L, the most real behaviours."""
    virtual_vectors: int
    """M."""
    items: int
    """Rows of the item table, unknown and padding included."""
    hidden: tuple[int, ...] | None = None
    """Widths of the perceptron; None: those that the tower's paper has."""
    dropout: float = 0.5
    ages: int = 0
    """A, bins of known account ages; 0 where no age is read."""
    kinds: int = 0
    """The last of the items' rows: kinds of items, which stand for new ones; 0 while training."""

    @property
    def fields(self) -> int:
        """Field vectors of `field_vectors`."""
        return self.attributes + self.context + 1 + self.target

    @property
    def positions(self) -> int:
        """How many `Taste.positions` there are."""
        return self.virtual_vectors + self.behaviour


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
    candidates: Tensor
    """(R,): the candidate's index."""
    owner: Tensor
    """(R,): the row of the user that each candidate is for."""
    popularity_bias: Tensor | None = None
    """(R,): in training, what popularity at that time adds to the cold expert's biases, which hold it when served."""
    transition: Tensor | None = None
    """(R,): in training, the transitions to each candidate as known at its moment; served, they are in the tower."""
    age: Tensor | None = None
    """(U,): the bin of each account's age, 0 for unknown; None where no age is read."""
    passed_over: Tensor | None = None
    """(U, P): items that were shown and not chosen; served towers alone read them."""


class RankingTower(Protocol):
    """Any module, built as `Tower(shape)`, that turns embedded inputs into one logit a candidate, (R,)."""

    def __call__(self, inputs: RankingInputs) -> Tensor: ...


@runtime_checkable
class WithAuxiliaryLoss(Protocol):
    """A ranking tower that also learns from a loss of its own, which training adds to L_rt."""

    def auxiliary_loss(self, inputs: RankingInputs) -> Tensor | None:
        """A scalar, weighted already; None: nothing to add. May draw from torch's generator."""
        ...


def field_vectors(inputs: RankingInputs, taste: Tensor | None = None) -> Tensor:
    """One vector a field for each candidate, (R, N + C + 1 + 1 + F, D): attributes, context, behaviour, target.

    Behaviour is `taste` (R, D) where given, and pooled by a sum (eq. 11) where not.
    """
    user = torch.cat([inputs.attributes, inputs.context], dim=1)
    if taste is None:
        user = torch.cat([user, inputs.taste.pooled.unsqueeze(1)], dim=1)
        return torch.cat([user.index_select(0, inputs.owner), inputs.target], dim=1)
    return torch.cat([user.index_select(0, inputs.owner), taste.unsqueeze(1), inputs.target], dim=1)
