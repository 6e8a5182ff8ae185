"""The losses of co-training, eqs. 3 to 7 and 13, and DMR's auxiliary one."""

from collections.abc import Mapping
from functools import singledispatch

import torch
from torch import Tensor
from torch.nn import functional

from models.towers.behaviour import condense
from models.towers.zero_shot.zero_shot import (
    DualAutoencoder,
    MailAutoencoder,
    Reconstruction,
    SingleAutoencoder,
    ZeroShotTower,
)


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


def zero_shot_loss(tower: ZeroShotTower, attributes: Tensor, behaviour: Tensor, valid: Tensor) -> Mapping[str, Tensor]:
    """The parts of L_zst, each a scalar, of B warm users; eq. 7 is their sum, and a tower without such a loss has none.

    `attributes` (B, N, D), `behaviour` (B, L, D), `valid` (B, L). Embeddings are targets here, never trained: whatever
    graph they come with is cut.
    """
    return parts_of(tower, attributes.detach(), behaviour.detach(), valid)


@singledispatch
def parts_of(tower: ZeroShotTower, attributes: Tensor, behaviour: Tensor, valid: Tensor) -> dict[str, Tensor]:
    """What `zero_shot_loss` is made of for a class of towers; a new class with a loss of its own registers it here."""
    return {}


@parts_of.register
def _(tower: SingleAutoencoder, attributes: Tensor, behaviour: Tensor, valid: Tensor) -> dict[str, Tensor]:
    """L_a, eq. 3."""
    return {"attributes": _rebuilding(tower.from_attributes(attributes), attributes, behaviour, valid)}


@parts_of.register
def _(tower: DualAutoencoder, attributes: Tensor, behaviour: Tensor, valid: Tensor) -> dict[str, Tensor]:
    """L_a and L_v, eqs. 3 and 4."""
    from_p, from_q = tower.from_attributes(attributes), tower.from_behaviour(behaviour, valid)
    return {
        "attributes": _rebuilding(from_p, attributes, behaviour, valid),
        "behaviour": _rebuilding(from_q, attributes, behaviour, valid),
    }


@parts_of.register
def _(tower: MailAutoencoder, attributes: Tensor, behaviour: Tensor, valid: Tensor) -> dict[str, Tensor]:
    """L_a, L_v and L_d, eqs. 3 to 5."""
    from_p, from_q = tower.from_attributes(attributes), tower.from_behaviour(behaviour, valid)
    return {
        "attributes": _rebuilding(from_p, attributes, behaviour, valid),
        "behaviour": _rebuilding(from_q, attributes, behaviour, valid),
        "discrepancy": discrepancy(from_p.code, from_q.code),
    }


def _rebuilding(made: Reconstruction, attributes: Tensor, behaviour: Tensor, valid: Tensor) -> Tensor:
    condensed = condense(behaviour, valid, made.behaviour.shape[1])
    return squared_error(made.attributes, attributes) + squared_error(made.behaviour, condensed)


def ranking_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """L_rt, eq. 13: mean binary cross-entropy of logits (R,) against labels (R,) in {0, 1}."""
    return functional.binary_cross_entropy_with_logits(logits, labels)
