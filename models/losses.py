"""The losses of co-training, eqs. 3 to 7 and 13."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from models.towers.behaviour import condense
from models.towers.zero_shot import DualAutoencoder


class ZeroShotLoss(NamedTuple):
    """The three parts of L_zst, each a scalar."""

    attributes: Tensor
    """L_a, eq. 3: attributes and behaviour rebuilt from the code of the attributes."""
    behaviour: Tensor
    """L_v, eq. 4: the same from the code of the behaviour."""
    discrepancy: Tensor
    """L_d, eq. 5."""

    @property
    def total(self) -> Tensor:
        """Eq. 7."""
        return self.attributes + self.behaviour + self.discrepancy


def squared_error(guess: Tensor, target: Tensor) -> Tensor:
    """‖guess - target‖², summed over everything of an example and averaged over the B examples."""
    return (guess - target).square().flatten(1).sum(dim=1).mean()


def gaussian_kernel(x: Tensor, y: Tensor, sigma: float = 1.0) -> Tensor:
    """Eq. 6 between each of `x` (A, H) and each of `y` (B, H): (A, B)."""
    distance = x.square().sum(1, keepdim=True) + y.square().sum(1) - 2 * (x @ y.T)
    return torch.exp(-distance.clamp(min=0) / (2 * sigma**2))


def discrepancy(p: Tensor, q: Tensor, sigma: float = 1.0) -> Tensor:
    """Eq. 5: the squared maximum mean discrepancy between the codes `p` (B, H) and `q` (B, H)."""
    return (
        gaussian_kernel(p, p, sigma).mean()
        + gaussian_kernel(q, q, sigma).mean()
        - 2 * gaussian_kernel(p, q, sigma).mean()
    )


def zero_shot_loss(tower: DualAutoencoder, attributes: Tensor, behaviour: Tensor, valid: Tensor) -> ZeroShotLoss:
    """L_zst of B warm users: attributes (B, N, D), behaviour (B, L, D), `valid` (B, L).

    Embeddings are targets here, never trained: whatever graph they come with is cut.
    """
    attributes, behaviour = attributes.detach(), behaviour.detach()
    made = tower.reconstruct(attributes, behaviour, valid)
    condensed = condense(behaviour, valid, made.behaviour_from_p.shape[1])
    return ZeroShotLoss(
        squared_error(made.attributes_from_p, attributes) + squared_error(made.behaviour_from_p, condensed),
        squared_error(made.attributes_from_q, attributes) + squared_error(made.behaviour_from_q, condensed),
        discrepancy(made.p, made.q),
    )


def ranking_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """L_rt, eq. 13: mean binary cross-entropy of logits (R,) against labels (R,) in {0, 1}."""
    return functional.binary_cross_entropy_with_logits(logits, labels)
